"""The model: a bundle that is ready to predict, for the command, the server and anybody's own code.

from headstart.predict.model import load
model = load("models/head")
for one in model.predict(["photo.jpg", another]):
print(one.name, one.predicted, one.confidence)
"""

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.bundle import Bundle, read_bundle, read_config
from headstart.artifacts.features import Rows
from headstart.backbone.spec import find_problem, transform_of
from headstart.base.errors import BundleError, DataError, ParamsError
from headstart.base.threads import in_order, num_cores, one_blas_thread
from headstart.engines.engine import Engine
from headstart.imaging.clock import Clock
from headstart.imaging.decode import DECODE_POLICY, ImageError
from headstart.imaging.reader import MemoryBudget, Reader
from headstart.imaging.transform import view_of
from headstart.predict.engine import make_engine
from headstart.predict.images import ImageLike, batched, name_of, views_of
from headstart.predict.inputs import SourceError
from headstart.predict.prediction import UNKNOWN, Neighbour, Prediction, judge

# Where Pillow suspects a bomb, and what index.max_pixels is as shipped.
MAX_PIXELS = 178_956_970
_MEMORY_BYTES = 2**30
Seen = tuple[str, str, str]  # name, status, reason


class Model:
    """A bundle with its network; get one from `load`. Safe in threads.

    Attributes:
        bundle: As it was read.
        digest: sha256 of `model.safetensors`, which names the whole model: that file holds the digest of the rest.

    Args:
        bundle: Checked.
        digest: Likewise.
        engine: Runs the network up to the bundle's layer.
        num_threads: That read, decode and embed.
        clock: Counts the seconds of the work.
        max_pixels: Of an image file; a larger one is quarantined.
        again: Loads it once more, in another process.
    """

    def __init__(
        self,
        bundle: Bundle,
        digest: str,
        engine: Engine,
        num_threads: int,
        clock: Clock,
        *,
        max_pixels: int,
        again: Callable[[], "Model"],
    ) -> None:
        self.bundle, self.digest, self._again = bundle, digest, again
        self._engine, self._num_threads, self._max_pixels = engine, num_threads, max_pixels
        self._num_views = len(bundle.spec["views"])
        views = [view_of(view) for view in bundle.spec["views"]]
        self._reader = Reader(Path(), transform_of(bundle.spec), views, MemoryBudget(_MEMORY_BYTES), clock)

    def __reduce__(self) -> tuple[Callable[[], "Model"], tuple[()]]:
        """Let it be sent to another process, which loads it from the same folder."""
        return self._again, ()

    @property
    def classes(self) -> Sequence[str]:
        """(C,) in the order of the logits."""
        return self.bundle.classes

    def predict(
        self, images: Iterable[ImageLike], *, coverage: float | None = None, num_nearest: int = 0
    ) -> list[Prediction]:
        """Return a prediction for every image, in their order.

        Args:
            images: Paths, files' bytes, pictures of Pillow, or arrays: uint8, RGB (H, W, 3) or gray (H, W).
            coverage: Fraction of images like the training images that shall be answered, above 0, up to 1; others are
                `unknown`: the model is not confident enough, or they are too unlike all training images. The thresholds
                were found on training images as models see them that were not trained on them. None answers all.
            num_nearest: Training images to name with each.

        Raises:
            DataError: Something that is no image, or no such coverage. An image that cannot be read raises nothing: see
                `status`.
        """
        return list(self.predict_each(images, coverage=coverage, num_nearest=num_nearest))

    def predict_each(
        self, images: Iterable[ImageLike], *, coverage: float | None = None, num_nearest: int = 0
    ) -> Generator[Prediction]:
        """Give what `predict` returns, one by one, few images in memory at once."""
        step = max(1, self._engine.batch // self._num_views)
        predict_few = partial(self._predict_few, thresholds=self.thresholds(coverage), num_nearest=num_nearest)
        # With more, finding the nearest takes as long as all the rest.
        with one_blas_thread():
            for part in in_order(predict_few, batched(images, step), self._num_threads):
                yield from part

    def logits(self, images: Iterable[ImageLike]) -> NDArray[np.float64]:
        """Return calibrated logits (N, C).

        Raises:
            DataError: An image gives no picture.
        """
        return self.bundle.logits(self.embed(images))

    def embed(self, images: Iterable[ImageLike]) -> Rows:
        """Return what the head reads of images, (N, views, dim).

        Raises:
            DataError: An image gives no picture.
        """
        step = max(1, self._engine.batch // self._num_views)
        parts = list(in_order(self._embed_few, batched(images, step), self._num_threads))
        for _, seen in parts:
            _refuse(seen)
        empty: Rows = np.empty((0, self._num_views, self.bundle.weight.shape[1]), dtype=np.float32)
        return np.concatenate([rows for rows, _ in parts] or [empty])

    def pixels(self, images: Iterable[ImageLike]) -> NDArray[np.uint8]:
        """Return what the network sees of images, uint8 (N * views, px, px, 3).

        Raises:
            DataError: An image gives no picture.
        """
        pixels, seen = self._look([(image, name_of(image, number)) for number, image in enumerate(images)])
        _refuse(seen)
        return np.concatenate(pixels)

    def thresholds(self, coverage: float | None) -> tuple[float, float] | None:
        """Return the least confidence and the least similarity with which an image is answered; None if all are.

        Args:
            coverage: As for `predict`.

        Raises:
            DataError: No such coverage.
        """
        if coverage is None:
            return None
        if not 0 < coverage <= 1:
            raise DataError(f"coverage: found {coverage:g}; expected a fraction above 0, up to 1")
        if UNKNOWN in self.classes:
            raise DataError(f"coverage: a class is called {UNKNOWN!r} too, so answers could not be told apart")
        return self.bundle.references.thresholds(coverage)

    def _predict_few(
        self, images: Sequence[tuple[ImageLike, str]], thresholds: tuple[float, float] | None, num_nearest: int
    ) -> list[Prediction]:
        pixels, seen = self._look(images)
        embeddings = self._forward(pixels)
        logits = iter(self.bundle.logits(embeddings))
        num = max(num_nearest, 1 if thresholds else 0)
        nearest = iter(self._nearest(embeddings, num) if num else [[] for _ in embeddings])
        predictions = []
        for name, status, reason in seen:
            if status == "quarantined":
                predictions.append(Prediction(name, status, reason, self.classes, None))
                continue
            one = Prediction(name, status, reason, self.classes, next(logits), next(nearest))
            predictions.append(judge(one, thresholds) if thresholds else one)
        return predictions

    def _nearest(self, embeddings: Rows, num: int) -> list[list[Neighbour]]:
        known = self.bundle.references
        positions, similarities = known.nearest(embeddings, num)
        return [
            [
                Neighbour(known.paths[place], known.digests[place], known.labels[place], float(similarity))
                for place, similarity in zip(*found, strict=True)
            ]
            for found in zip(positions, similarities, strict=True)
        ]

    def _embed_few(self, images: Sequence[tuple[ImageLike, str]]) -> tuple[Rows, list[Seen]]:
        pixels, seen = self._look(images)
        return self._forward(pixels), seen

    def _look(self, images: Sequence[tuple[ImageLike, str]]) -> tuple[list[NDArray[np.uint8]], list[Seen]]:
        """Return the views of those that are pictures, and name, status and reason of all."""
        pixels, seen = [], []
        for image, name in images:
            try:
                views, repairs = views_of(self._reader, image, name, self._max_pixels)
            except (ImageError, SourceError) as error:
                seen.append((name, "quarantined", str(error)))
                continue
            pixels.append(views)
            seen.append((name, "repaired" if repairs else "ok", ", ".join(repairs)))
        return pixels, seen

    def _forward(self, pixels: Sequence[NDArray[np.uint8]]) -> Rows:
        dim = self.bundle.weight.shape[1]
        if not pixels:
            return np.empty((0, self._num_views, dim), dtype=np.float32)
        rows = self._engine.embed(np.concatenate(pixels))[self.bundle.layer]
        if not np.isfinite(rows).all():
            raise BundleError(f"the network gives numbers that are not finite at {self.bundle.layer!r}")
        return rows.reshape(-1, self._num_views, dim)


def load(
    folder: str | os.PathLike[str],
    *,
    device: str = "auto",
    batch: int | None = None,
    num_images: int = 1,
    weights: str | os.PathLike[str] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Model:
    """Read a bundle of either track and make its network ready.

    Args:
        folder: Such as `models/head`.
        device: `auto` (the GPU if there is one), `cpu`, `cuda`, `cuda:1` or `mps`.
        batch: Pictures in a forward pass, at least 2; None for the engine's own.
        num_images: About how many will come. From `engines.MANY_IMAGES` on the network is, on a CPU, exported for ONNX
            Runtime first, once, in about ten seconds; it is then several times faster.
        weights: File of the backbone's weights, for a bundle that holds a head alone and whose weights are not found.
        max_pixels: Largest width x height of an image file that is decoded; a larger one is quarantined.

    Raises:
        BundleError: The bundle is damaged or was edited, was made by another version of the decoder, or lacks weights.
        ParamsError: A device that this machine does not have, or a batch of less than 2.
    """
    folder, weights = Path(folder), None if weights is None else Path(weights).absolute()
    again = partial(
        load,
        folder.absolute(),
        device=device,
        batch=batch,
        num_images=num_images,
        weights=weights,
        max_pixels=max_pixels,
    )
    if batch is not None and batch < 2:
        raise ParamsError(f"batch: found {batch}; expected at least 2")
    bundle = read_bundle(folder)
    problem = find_problem(bundle.spec)
    if problem:
        raise BundleError(f"{folder}: {problem}. Run: dvc checkout, or dvc repro")
    if bundle.spec["decode"] != DECODE_POLICY:
        raise BundleError(
            f"{folder}: was trained on images decoded by {bundle.spec['decode']!r}; this version decodes by "
            f"{DECODE_POLICY!r}. Train it anew (dvc repro), or use the version that trained it."
        )
    digest: str = read_config(folder)["model_sha256"]
    clock, num_threads = Clock(), num_cores()
    try:
        engine = make_engine(
            bundle,
            digest,
            device=device,
            batch=batch,
            num_images=num_images,
            num_threads=num_threads,
            weights=weights,
            clock=clock,
        )
    except BundleError as error:
        raise BundleError(f"{folder}: {error}") from error
    return Model(bundle, digest, engine, num_threads, clock, max_pixels=max_pixels, again=again)


def _refuse(seen: Sequence[Seen]) -> None:
    for name, status, reason in seen:
        if status == "quarantined":
            raise DataError(f"{name}: {reason}")
