"""Extraction: the embeddings of every usable image, from the store where it has them, into the features file."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from stages.core.backbones import build_backbone
from stages.core.errors import DataError
from stages.core.features import LAST_TAP, create_features, fingerprint
from stages.core.progress import Progress
from stages.core.runtime import choose_device, make_repeatable
from stages.core.tables import USABLE, IndexRow
from stages.extract.canary import NAME, check_canary, compare
from stages.extract.embed import Embedder
from stages.extract.params import Params
from stages.extract.reader import read_batches
from stages.extract.store import Store

_CANARY_MAX_PIXELS = 10**6
_NUM_AUDITED = 8
Reader = Callable[[Sequence[IndexRow]], Iterator[torch.Tensor]]


@dataclass(frozen=True)
class Extraction:
    """What was extracted.

    Attributes:
        num_images: Rows of the features file.
        num_embedded: Of these, embedded in this run; the others were in the store.
        dim: Width of an embedding.
        px: Side of the network's input, resolved.
        device: Where the network ran, such as `cpu`.
    """

    num_images: int
    num_embedded: int
    dim: int
    px: int
    device: str


def extract(index: Sequence[IndexRow], params: Params, path: Path, root: Path) -> Extraction:
    """Embed every usable image that the store lacks, and write the features file of all.

    Args:
        index: The whole index; labels and splits play no part.
        params: Backbone, transform, and the machine's settings.
        path: Of the features file.
        root: Of the stores (`store_root`).

    Raises:
        BackboneError, DownloadError: The backbone cannot be built as asked, or the GPU is too small for the batch.
        DataError: No usable image, or a file that is not what the index says.
        FeatureFileError: The network gave a number that is not finite.
        StoreError: Stored embeddings are not the ones that this machine gives now.
    """
    rows = sorted((row for row in index if row.status in USABLE), key=lambda row: row.digest)
    if not rows:
        raise DataError("data/index.csv: has no usable image. Run: dvc repro index")
    device = choose_device(params.runtime)
    make_repeatable()
    backbone = build_backbone(params.backbone)
    transform = backbone.transform_for(
        params.transform.px, statistics.median(min(row.width, row.height) for row in rows)
    )
    spec = backbone.spec(transform)
    embedder = Embedder(backbone, transform, params.runtime.batch, device)
    read = partial(
        read_batches,
        root=Path(params.data.path),
        transform=transform,
        batch=params.runtime.batch,
        num_workers=params.runtime.num_workers,
        memory_bytes=params.runtime.memory,
    )
    folder = root / fingerprint(spec)
    canary = check_canary(folder, lambda files: embedder.embed_files(files, _CANARY_MAX_PIXELS))
    digests = [row.digest for row in rows]
    store = Store(folder, canary, digests)
    missing = [row for row in rows if row.digest not in store]
    reused = [row for row in rows if row.digest in store]
    if reused:
        _audit(store, folder / NAME, reused, embedder, read)
    with Progress("extract", len(missing), "image") as progress:
        try:
            done = 0
            for pixels in read(missing):
                batch = [row.digest for row in missing[done : done + len(pixels)]]
                store.add(batch, {LAST_TAP: embedder.embed(pixels)})
                done += len(pixels)
                progress.advance(len(pixels))
        finally:
            store.flush()  # also when stopped: what is embedded stays embedded
    with create_features(path, digests, spec, {LAST_TAP: embedder.dim}, num_views=1) as writer:
        for positions, embeddings in store.read(digests):
            writer.write(positions, embeddings)
    return Extraction(len(rows), len(missing), embedder.dim, transform.crop_px, str(device))


def _audit(store: Store, path: Path, reused: Sequence[IndexRow], embedder: Embedder, read: Reader) -> None:
    """Embed a few of the rows to be reused again, others in every run, and compare."""
    # Without a seed on purpose: the choice has no influence on the result, and each run should look elsewhere.
    chosen = np.random.default_rng().permutation(len(reused))[:_NUM_AUDITED]
    sample = [reused[position] for position in chosen]
    now = np.concatenate([embedder.embed(pixels) for pixels in read(sample)])
    kept = np.empty_like(now)
    for positions, embeddings in store.read([row.digest for row in sample]):
        kept[positions] = embeddings[LAST_TAP]
    compare(path, f"{len(sample)} of the images", kept, now)
