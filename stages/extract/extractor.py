"""The extractor: opens and checks the stores of all layers, and embeds the images that they lack."""

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ByteSize

from headstart.artifacts.features import DIGEST_DTYPE, Features, Rows, create_features, fingerprint, open_features
from headstart.backbone.spec import min_side_px_of, transform_of
from headstart.base.errors import DataError, FeatureFileError, StoreError
from headstart.base.machine import Rank, RuntimeParams
from headstart.base.progress import Progress
from headstart.engines.engine import Engine
from headstart.imaging.clock import Clock
from headstart.imaging.reader import Reader, memory_for_decoding
from headstart.imaging.staging import staging_bytes
from headstart.imaging.transform import Transform, view_of
from headstart.sources.folder import open_source
from headstart.store.canary import NAME, check_canary, compare
from headstart.store.shards import Store, layer_spec
from headstart.tables.index import USABLE, IndexRow
from stages.extract.embedder import make_embedder
from stages.extract.params import Params
from stages.extract.pipeline import Embeddings, buffer_bytes, embed_files, embed_rows
from stages.extract.warm_start import cached_features, copy_rows, is_empty, shared_layers

_CANARY_MAX_PIXELS = 2 * 10**6
_NUM_AUDITED = 8
_FOR_BUFFERS = 0.5  # largest part of the memory for pictures that wait for an engine that resizes
ReadRows = Callable[[NDArray[np.intp]], Rows]


class Extractor:
    """The images of an index, the embedder, and a store for each layer with the embeddings that exist already.

    Attributes:
        rows: Usable rows of the index, or of this rank's part, sorted by digest.
        embedder: Turns images into embeddings.
        clock: Counts the seconds of each step.

    Args:
        index: The whole index.
        params: Params of the stage.
        root: Folder of the stores.
        rank: Rank whose part of the images this process embeds; None for all images.

    Raises:
        BackboneError, DownloadError: The backbone cannot be built as asked.
        DataError: The index has no usable image.
        ParamsError: This machine does not have the device or engine.
        StoreError: This machine gives other embeddings than the stored ones.
    """

    def __init__(self, index: Sequence[IndexRow], params: Params, root: Path, rank: Rank | None = None) -> None:
        usable = sorted((row for row in index if row.status in USABLE), key=lambda row: row.digest)
        if not usable:
            raise DataError("data/index.csv: has no usable image. Run: dvc repro index")
        self.rows = [row for row in usable if rank is None or rank.takes(row.digest)]
        self.clock = Clock()
        median_short_side_px = statistics.median(min(row.width, row.height) for row in usable)
        self.embedder = make_embedder(params, median_short_side_px, root, self.clock)
        spec = self.embedder.spec
        self._num_views, self._num_workers = len(spec["views"]), params.runtime.num_workers
        transform = transform_of(spec)
        if params.runtime.gpu_resize:
            _resize_on_gpu(self.embedder.engine, transform, self._num_views, params.runtime)
        space = staging_bytes(transform.crop_px) if self.embedder.engine.resizes else 3 * transform.crop_px**2
        for_buffers = buffer_bytes(self.embedder.engine, space, self._num_views, self._num_workers)
        self._reader = Reader(
            open_source(params.data.path),
            transform,
            [view_of(view) for view in spec["views"]],
            memory_for_decoding(params.runtime.memory - for_buffers, self.embedder.device),
            self.clock,
            min_side_px=min_side_px_of(spec),
        )
        self._digests: NDArray[np.bytes_] = np.array([row.digest for row in self.rows], dtype=DIGEST_DTYPE)
        self._folders = {layer: root / fingerprint(layer_spec(spec, layer)) for layer in self.embedder.engine.dims}
        self._canaries = check_canary(self._folders, self._embed_files, spec["precision"])
        if rank is None and all(is_empty(folder) for folder in self._folders.values()):
            self._warm_start()
        self._stores = {
            layer: Store(folder, layer_spec(spec, layer), self._canaries[layer], self._digests)
            for layer, folder in self._folders.items()
        }
        self._audit({layer: (~store.missing, store.read) for layer, store in self._stores.items()})

    def missing_rows(self) -> list[IndexRow]:
        """Return the rows that some store lacks."""
        missing = np.logical_or.reduce([store.missing for store in self._stores.values()])
        return [self.rows[position] for position in np.flatnonzero(missing)]

    def fill(self, rows: Sequence[IndexRow]) -> None:
        """Embed rows into the stores. If this is interrupted, finished embeddings stay there.

        Raises:
            BackboneError: The memory of the GPU does not hold two pictures.
            DataError: A file is missing or differs from the index.
            FeatureFileError: The network gave a value that is not finite.
            StoreError: The store cannot be written.
        """
        if not rows:
            return
        self._reader.check_present(rows)
        for folder in self._folders.values():
            if not os.access(folder, os.W_OK):
                raise StoreError(
                    f"{folder}: is read-only, and {len(rows)} images are not in it. Set another folder in "
                    "runtime.store or HEADSTART_STORE."
                )
        missing = {layer: set(self._digests[store.missing].tolist()) for layer, store in self._stores.items()}
        embedded = embed_rows(rows, self._reader, self.embedder.engine, self._num_views, self._num_workers)
        with Progress("extract", len(rows), "image") as progress:
            try:
                for part, embeddings in embedded:
                    with self.clock("write"):
                        for layer, store in self._stores.items():
                            new = [row.digest.encode() in missing[layer] for row in part]
                            digests = [row.digest for row, is_new in zip(part, new, strict=True) if is_new]
                            if digests:
                                store.add(digests, embeddings[layer][np.array(new)])
                    progress.advance(len(part))
            finally:
                embedded.close()
                with self.clock("write"):
                    for store in self._stores.values():
                        store.flush()

    def assemble(self, path: Path) -> None:
        """Write the features file of all rows. Every row must be in the stores."""
        digests = [row.digest for row in self.rows]
        with (
            self.clock("write"),
            create_features(path, digests, self.embedder.spec, self.embedder.engine.dims) as writer,
        ):
            for layer, store in self._stores.items():
                for rows in store.blocks():
                    writer.append(layer, rows)

    def _embed_files(self, files: Sequence[bytes]) -> Embeddings:
        return embed_files(files, _CANARY_MAX_PIXELS, self._reader, self.embedder.engine, self._num_views)

    def _warm_start(self) -> None:
        """Fill empty stores from the last features file, if DVC's cache has it and a sample of its rows agrees."""
        path = cached_features(Path("dvc.lock"))
        if path is None:
            return
        try:
            with open_features(path) as features:
                layers = shared_layers(self.embedder.spec, features.spec)
                if not layers:
                    return
                known = np.isin(self._digests, features.digests)
                if self._audit({layer: (known, partial(self._read, features, layer)) for layer in layers}):
                    for layer in layers:
                        copy_rows(features, layer, self._folders[layer], self._canaries[layer])
                    print(f"extract: the store is empty and takes rows from the last result in DVC's cache ({path})")
                    return
            reason = "none of its images is here to compare with"
        except (FeatureFileError, StoreError) as error:
            reason = str(error)
        print(f"extract: the last result in DVC's cache is not used: {reason}")

    def _read(self, features: Features, layer: str, positions: NDArray[np.intp]) -> Rows:
        return features.read(layer, [self.rows[position].digest for position in positions])

    def _audit(self, stored: Mapping[str, tuple[NDArray[np.bool_], ReadRows]]) -> bool:
        """Embed a few of the stored images again and compare. Each run takes other images.

        Args:
            stored: For each layer, whether each row is stored, bool (N,), and a function that reads rows by position.

        Returns:
            Whether any row could be compared.

        Raises:
            StoreError: The embeddings differ.
        """
        reused = np.flatnonzero(np.logical_or.reduce([known for known, _ in stored.values()]))
        # Without a seed, so that each run checks other rows. The choice does not change the result.
        sample = np.random.default_rng().permutation(reused)[:_NUM_AUDITED]
        absent = self._reader.missing([self.rows[position] for position in sample])
        sample = np.sort([position for position in sample if self.rows[position] not in absent]).astype(np.intp)
        rows = [self.rows[position] for position in sample]
        parts = list(embed_rows(rows, self._reader, self.embedder.engine, self._num_views, self._num_workers))
        for layer, (known, read) in stored.items():
            inside = known[sample]
            if inside.any():
                now = np.concatenate([embeddings[layer] for _, embeddings in parts])[inside]
                what = f"{len(now)} of the images"
                compare(self._folders[layer] / NAME, what, read(sample[inside]), now, self.embedder.spec["precision"])
        return bool(rows)


def _resize_on_gpu(engine: Engine, transform: Transform, num_views: int, runtime: RuntimeParams) -> None:
    """Let the engine resize. If it cannot do it, Pillow does, and a line says why."""
    for_buffers = buffer_bytes(engine, staging_bytes(transform.crop_px), num_views, runtime.num_workers)
    if num_views > 1:
        reason = f"extract.views is {num_views}; it does so only for 1"
    elif for_buffers > runtime.memory * _FOR_BUFFERS:
        needed = ByteSize(for_buffers / _FOR_BUFFERS).human_readable()
        reason = f"the pictures that wait would need more than half of runtime.memory; {needed} would do"
    else:
        reason = engine.start_resizing(transform)
    if reason:
        print(f"extract: runtime.gpu_resize: the CPU resizes, to the same pixels: {reason}", flush=True)
