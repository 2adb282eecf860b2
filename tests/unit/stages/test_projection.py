"""The projection keeps similar embeddings together, and is the same in every run."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from headstart.artifacts.features import open_features
from headstart.base.errors import FeatureFileError
from headstart.tables.projection import ProjectedImage
from stages.projection.params import ProjectionParams
from stages.projection.projection import project
from tests.support.head_data import digests_of, write_features


def projected(
    folder: Path, x: NDArray[np.float64], num_images: int = 2000
) -> tuple[list[ProjectedImage], NDArray[np.float64]]:
    """Return the projection of embeddings, as rows and as numbers (N, 4)."""
    path = folder / "features.h5"
    write_features(path, digests_of(len(x)), {"last": x.astype(np.float32)[:, None]})
    with open_features(path) as features:
        rows = project(features, digests_of(len(x)), ProjectionParams(num_images=num_images, perplexity=30.0, seed=0))
    return rows, np.array([(row.pca_x, row.pca_y, row.tsne_x, row.tsne_y) for row in rows])


def test_neighbours_stay_neighbours(tmp_path: Path) -> None:
    """Both projections keep clusters together; the first is scikit-learn's principal components."""
    random = np.random.default_rng(0)
    x = np.repeat(random.normal(size=(4, 30)) * 5, 25, axis=0) + random.normal(size=(100, 30))
    rows, places = projected(tmp_path, x)
    expected = PCA(2).fit_transform(x)

    assert [row.digest for row in rows] == digests_of(100)
    assert np.allclose(np.abs(places[:, :2]), np.abs(expected), atol=1e-4)
    assert trustworthiness(x, places[:, 2:], n_neighbors=10) > 0.9


def test_the_same_embeddings_give_the_same_map(tmp_path: Path) -> None:
    """Two runs on the same embeddings agree to the last bit."""
    x = np.random.default_rng(1).normal(size=(60, 200))
    first, second = (projected(tmp_path, x)[0] for _ in range(2))

    assert first == second


@pytest.mark.parametrize("num", [1, 2, 4, 5, 7])
def test_few_images_are_laid_out_too(tmp_path: Path, num: int) -> None:
    """Data sets too small for t-SNE, and data sets of identical images, get finite places too."""
    _, places = projected(tmp_path, np.random.default_rng(0).normal(size=(num, 6)))
    _, same = projected(tmp_path, np.ones((num, 6)))

    assert places.shape == same.shape == (num, 4)
    assert np.isfinite(places).all()
    assert np.isfinite(same).all()


def test_of_many_images_some_are_drawn(tmp_path: Path) -> None:
    """A sample has the requested number of images, each once, and is not just the first ones."""
    rows, _ = projected(tmp_path, np.random.default_rng(0).normal(size=(80, 5)), num_images=20)
    drawn = [row.digest for row in rows]

    assert len(set(drawn)) == 20
    assert drawn == sorted(drawn)
    assert drawn != digests_of(80)[:20]


def test_an_embedding_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    """The error names the image by its digest."""
    x = np.ones((12, 5))
    x[7, 2] = np.inf
    with pytest.raises(FeatureFileError, match=digests_of(12)[7]):
        projected(tmp_path, x)
