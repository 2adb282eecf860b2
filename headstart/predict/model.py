"""The model: a bundle that is ready to predict. The commands, the server and other Python code use it.

Example:
    from headstart.predict.model import load

    model = load("models/head")
    for prediction in model.predict(["photo.jpg", "other.png"]):
        print(prediction.name, prediction.predicted, prediction.confidence)
"""

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.bundle import Bundle, read_bundle, read_config, remedy
from headstart.artifacts.features import Rows
from headstart.backbone.spec import find_problem
from headstart.base.errors import BundleError, DataError, ParamsError
from headstart.base.helpers import Helpers
from headstart.base.threads import in_order, num_cores, one_blas_thread
from headstart.engines.engine import Engine
from headstart.imaging.clock import Clock
from headstart.imaging.decode import DECODE_POLICIES
from headstart.imaging.effort import Limits
from headstart.predict.engine import build_engine
from headstart.predict.image_like import (
    DecodedImage,
    ImageLike,
    ImageStatus,
    ReadImages,
    check_all_read,
    in_batches,
    merged,
    name_of,
)
from headstart.predict.image_reader import ImageReader
from headstart.predict.inputs import LoadedImage
from headstart.predict.prediction import UNKNOWN, Prediction, apply_thresholds, find_nearest

# The limit from which Pillow suspects a decompression bomb, and the default of index.max_pixels.
MAX_PIXELS = 178_956_970
# The default of index.max_seconds.
MAX_SECONDS = 60.0
# Where threads decode image by image: one thread may run the engine while another searches for the nearest.
_NUM_AFTER_DECODING = 2
Result = TypeVar("Result")


class Model:
    """A bundle with its network; `load` makes one. Safe to use from several threads.

    Attributes:
        bundle: The bundle as read from its folder.
        digest: sha256 of `model.safetensors`. It identifies the whole model, because that file holds the digest of the
            rest.

    Args:
        bundle: A bundle that has been checked.
        digest: sha256 of its `model.safetensors`.
        engine: Engine that gives the bundle's layers.
        num_threads: Threads that read, decode and embed.
        reader: Reader of images, with the bundle's transform and views.
        reload: Function that loads the same model in another process.
    """

    def __init__(
        self,
        bundle: Bundle,
        digest: str,
        engine: Engine,
        num_threads: int,
        reader: ImageReader,
        *,
        reload: Callable[[], "Model"],
    ) -> None:
        self.bundle, self.digest, self._reload = bundle, digest, reload
        self._engine, self._num_threads, self._reader = engine, num_threads, reader

    def __reduce__(self) -> tuple[Callable[[], "Model"], tuple[()]]:
        """Support pickling: another process loads the model from the same folder."""
        return self._reload, ()

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes (C,) in the order of the logits."""
        return self.bundle.classes

    def predict(
        self, images: Iterable[ImageLike], *, coverage: float | None = None, num_nearest: int = 0
    ) -> list[Prediction]:
        """Return a prediction for every image, in the order of the images.

        Args:
            images: Paths, bytes of image files, Pillow images, or arrays: uint8, RGB (H, W, 3) or gray (H, W).
            coverage: Fraction, in (0, 1], of images like the training images that are answered. The others are
                `unknown`: the model is not confident enough, or the image is unlike all training images. The thresholds
                were found on training images that the model had not been trained on. None answers every image.
            num_nearest: Number of nearest training images to return with each prediction.

        Raises:
            DataError: An object is not an image of these kinds, or the coverage is out of range. An image that cannot
                be read or decoded raises nothing; its prediction has the status `quarantined`.
        """
        return list(self.predict_each(images, coverage=coverage, num_nearest=num_nearest))

    def predict_each(
        self, images: Iterable[ImageLike], *, coverage: float | None = None, num_nearest: int = 0
    ) -> Generator[Prediction]:
        """Give the predictions of `predict` one by one. Only a few images are in memory at any time."""
        thresholds = self.thresholds(coverage)
        # With more BLAS threads the search for the nearest takes as long as all the rest.
        with one_blas_thread():
            for predictions in self._map(
                lambda read: self._predict_batch(*read, thresholds=thresholds, num_nearest=num_nearest), images
            ):
                yield from predictions

    def logits(self, images: Iterable[ImageLike]) -> NDArray[np.float64]:
        """Return calibrated logits, float64 (N, C).

        Raises:
            DataError: An image cannot be read or decoded.
        """
        return self.bundle.logits(self.embed(images))

    def embed(self, images: Iterable[ImageLike]) -> Rows:
        """Return the embeddings that the head reads, (N, views, dim).

        Raises:
            DataError: An image cannot be read or decoded.
        """
        batches = list(self._map(lambda read: (self._forward(read[0]), read[1]), images))
        for _, statuses in batches:
            check_all_read(statuses)
        empty: Rows = np.empty((0, self._reader.num_views, self.bundle.weight.shape[1]), dtype=np.float32)
        return np.concatenate([rows for rows, _ in batches] or [empty])

    def pixels(self, images: Iterable[ImageLike]) -> NDArray[np.uint8]:
        """Return the pixels that the network sees, uint8 (N * views, px, px, 3).

        Raises:
            DataError: An image cannot be read or decoded.
        """
        pixels, statuses = self._reader.read(
            [(image, name_of(image, position)) for position, image in enumerate(images)]
        )
        check_all_read(statuses)
        return np.concatenate(pixels)

    def decode(self, image: LoadedImage, limits: Limits | None = None, helpers: Helpers | None = None) -> DecodedImage:
        """Read and decode an image, within other limits if given. Other methods accept the result as an image."""
        return self._reader.decode(image, image.name, limits, helpers)

    def thresholds(self, coverage: float | None) -> tuple[float, float] | None:
        """Return the minimum confidence and the minimum similarity of an answer; None if every image is answered.

        Args:
            coverage: As for `predict`.

        Raises:
            DataError: The coverage is out of range, or a class has the name `unknown`.
        """
        if coverage is None:
            return None
        if not 0 < coverage <= 1:
            raise DataError(f"coverage: found {coverage:g}; expected a fraction above 0, up to 1")
        if UNKNOWN in self.classes:
            raise DataError(
                f"coverage: a class has the name {UNKNOWN!r}, which is also the answer for unknown images. Rename it"
            )
        return self.bundle.references.thresholds(coverage)

    @property
    def _batch_images(self) -> int:
        """Number of images whose views fill one forward pass."""
        return max(1, self._engine.batch // self._reader.num_views)

    def _map(self, function: Callable[[ReadImages], Result], images: Iterable[ImageLike]) -> Generator[Result]:
        """Give what a function returns for the images of each batch, in order. It is called in threads.

        Where several calls of the engine may run at once, each thread takes a batch all the way from the files to the
        result. Elsewhere, on a GPU, threads decode image by image, so that all of them work on a batch.
        """
        if self._engine.num_parallel > 1:
            batches = in_batches(images, self._batch_images)
            return in_order(lambda batch: function(self._reader.read(batch)), batches, self._num_threads)
        read = in_order(self._reader.read, in_batches(images, 1), self._num_threads, num_ahead=2 * self._batch_images)
        return in_order(function, merged(read, self._batch_images), _NUM_AFTER_DECODING)

    def _predict_batch(
        self,
        pixels: Sequence[NDArray[np.uint8]],
        statuses: Sequence[ImageStatus],
        thresholds: tuple[float, float] | None,
        num_nearest: int,
    ) -> list[Prediction]:
        embeddings = self._forward(pixels)
        logits = iter(self.bundle.logits(embeddings))
        num = max(num_nearest, 1 if thresholds else 0)
        nearest = iter(find_nearest(self.bundle.references, embeddings, num) if num else [[] for _ in embeddings])
        predictions = []
        for status in statuses:
            if status.status == "quarantined":
                predictions.append(Prediction(*status, self.classes, None))
                continue
            prediction = Prediction(*status, self.classes, next(logits), next(nearest))
            predictions.append(apply_thresholds(prediction, thresholds) if thresholds else prediction)
        return predictions

    def _forward(self, pixels: Sequence[NDArray[np.uint8]]) -> Rows:
        dim = self.bundle.weight.shape[1]
        if not pixels:
            return np.empty((0, self._reader.num_views, dim), dtype=np.float32)
        embeddings = self._engine.embed(np.concatenate(pixels))
        rows = np.concatenate([embeddings[layer] for layer in self.bundle.layers], axis=1)
        if not np.isfinite(rows).all():
            raise BundleError(f"the network gives numbers that are not finite at the layers {self.bundle.layers}")
        return rows.reshape(-1, self._reader.num_views, dim)


def load(
    folder: str | os.PathLike[str],
    *,
    device: str = "auto",
    batch: int | None = None,
    num_images: int = 1,
    num_at_once: int | None = None,
    weights: str | os.PathLike[str] | None = None,
    max_pixels: int = MAX_PIXELS,
    max_seconds: float = MAX_SECONDS,
) -> Model:
    """Read a bundle of either track and prepare its network.

    Args:
        folder: Folder of the bundle, such as `models/head`.
        device: `auto` (the GPU if there is one), `cpu`, `cuda`, `cuda:1` or `mps`.
        batch: Images in a forward pass, at least 2; None for the engine's default.
        num_images: Approximate number of images that will be predicted. From `engine.MANY_IMAGES` on, a network on a
            CPU is first exported for ONNX Runtime. That takes about ten seconds once, and predictions are then several
            times faster.
        num_at_once: Approximate number of images in each call of `predict`; None if all come in one. Forward passes on
            a GPU take about as many.
        weights: Weights file of the backbone, for a bundle that holds only a head and whose weights are not found by
            their digest.
        max_pixels: Largest width x height of an image file that is decoded; a larger one is quarantined.
        max_seconds: Largest number of seconds for decoding one image file. One that takes longer is stopped and
            quarantined.

    Raises:
        BundleError: The bundle is damaged, was edited, needs another version of the decoder, or lacks weights.
        ParamsError: This machine does not have the device, or the batch is less than 2.
    """
    folder, weights = Path(folder), None if weights is None else Path(weights).absolute()
    reload = partial(
        load,
        folder.absolute(),
        device=device,
        batch=batch,
        num_images=num_images,
        num_at_once=num_at_once,
        weights=weights,
        max_pixels=max_pixels,
        max_seconds=max_seconds,
    )
    if batch is not None and batch < 2:
        raise ParamsError(f"batch: found {batch}; expected at least 2")
    bundle = read_bundle(folder)
    problem = find_problem(bundle.spec)
    if problem:
        raise BundleError(f"{folder}: {problem}. {remedy(folder)}")
    if bundle.spec["decode"] not in DECODE_POLICIES.values():
        known = " or ".join(map(repr, DECODE_POLICIES.values()))
        raise BundleError(
            f"{folder}: was trained on images decoded by {bundle.spec['decode']!r}, but this version of Headstart "
            f"decodes by {known}. Train it again (dvc repro), or use the version that trained it."
        )
    digest: str = read_config(folder)["model_sha256"]
    clock, num_threads = Clock(), num_cores()
    try:
        engine = build_engine(
            bundle,
            digest,
            device=device,
            batch=batch,
            num_images=num_images,
            num_at_once=num_at_once,
            num_threads=num_threads,
            weights=weights,
            clock=clock,
        )
    except BundleError as error:
        raise BundleError(f"{folder}: {error}") from error
    reader = ImageReader(bundle.spec, Limits(max_pixels, max_seconds), Helpers(num_threads), clock)
    return Model(bundle, digest, engine, num_threads, reader, reload=reload)
