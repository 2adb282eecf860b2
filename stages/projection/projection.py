"""The projection of the embeddings to two dimensions, by principal components and by t-SNE."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from headstart.artifacts.features import Features, check_finite
from headstart.tables.projection import ProjectedImage
from stages.projection.params import ProjectionParams

# t-SNE looks for neighbours in this many principal components, as its authors do.
_NUM_COMPONENTS = 50
_MIN_TSNE_IMAGES = 5  # with fewer, t-SNE makes no sense
_BLOCK_BYTES = 2**24


def project(features: Features, digests: Sequence[str], params: ProjectionParams) -> list[ProjectedImage]:
    """Project the embeddings of the last layer, averaged over the views. Large data sets are sampled.

    Args:
        features: Open features file.
        digests: sha256 of every image of the file, ascending.
        params: The section `projection`: the largest number of images, the perplexity of t-SNE and the seed.

    Returns:
        One row for each image, by digest. For fewer than five images, the places of t-SNE are the principal
        components.

    Raises:
        FeatureFileError: An embedding has a value that is not finite.
    """
    order = np.random.default_rng(params.seed).permutation(len(digests))
    chosen = [digests[row] for row in np.sort(order[: params.num_images])]
    layer = features.spec["layers"][-1]
    pieces = []
    for positions, views in features.pieces([layer], features.rows(chosen), _BLOCK_BYTES):
        check_finite([chosen[position] for position in positions], layer, views)
        pieces.append(views.mean(axis=1, dtype=np.float64))
    # With several threads, sums are added in another order and the last bits differ.
    with threadpool_limits(limits=1):
        components = _principal(np.concatenate(pieces))
        tsne = _tsne(components, params) if len(chosen) >= _MIN_TSNE_IMAGES else components[:, :2]
    return [
        ProjectedImage(digest, *(float(value) for value in (*pca, *place)))
        for digest, pca, place in zip(chosen, components[:, :2], tsne, strict=True)
    ]


def _principal(embeddings: NDArray[np.float64]) -> NDArray[np.float64]:
    num = min(_NUM_COMPONENTS, *embeddings.shape)
    components = np.zeros((len(embeddings), max(num, 2)))
    if np.ptp(embeddings, axis=0).any():
        components[:, :num] = PCA(num, svd_solver="full").fit_transform(embeddings)
    return components


def _tsne(components: NDArray[np.float64], params: ProjectionParams) -> NDArray[np.float64]:
    perplexity = min(params.perplexity, (len(components) - 1) / 3)
    spread = components[:, 0].std() or 1.0
    start = components[:, :2] / spread * 1e-4  # as init="pca", but also for constant embeddings
    return TSNE(perplexity=perplexity, init=start, random_state=params.seed).fit_transform(components)
