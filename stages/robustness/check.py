"""The check: both tracks predict the same test images, unshifted and shifted."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.artifacts.bundle import Bundle, read_bundle, read_config
from headstart.backbone.params import BackboneParams
from headstart.backbone.spec import min_side_px_of, transform_of
from headstart.base.machine import choose_device
from headstart.base.progress import Progress
from headstart.base.threads import in_order
from headstart.imaging.clock import Clock
from headstart.imaging.reader import Reader, memory_for_decoding
from headstart.imaging.transform import Transform, View
from headstart.predict.model import Model, load
from headstart.sources.folder import Folder, open_source
from headstart.tables.classes import class_numbers
from headstart.tables.index import IndexRow
from headstart.tables.names import TRACKS
from headstart.tables.robustness import Robustness
from headstart.tables.split import SplitRow
from stages.robustness.embeddings import KeptEmbeddings, pictures_key
from stages.robustness.params import Params
from stages.robustness.results import summarise
from stages.robustness.sample import DrawnImage, draw_images
from stages.robustness.shifts import SHIFTS, random_of, reduce_to

# Images whose shifted pictures are in memory at the same time.
_CHUNK_IMAGES = 32


class Pictures:
    """The pictures of images: unshifted, then under every shift. Thread-safe.

    Args:
        reader: Reader of the data set.
        transform: Transform of the network, which decides how large the pictures are.
        min_side_px: Pixels that the shorter side of a photo keeps when it is decoded; None to decode it whole.
        seed: Seed of the noise.
    """

    def __init__(self, reader: Reader, transform: Transform, min_side_px: int | None, seed: int) -> None:
        self._reader, self._transform, self._min_side_px, self._seed = reader, transform, min_side_px, seed

    def of(self, image: DrawnImage) -> list[Image.Image]:
        """Return the 1 + `len(SHIFTS)` pictures of an image, in mode RGB. Its file is decoded once.

        Raises:
            DataError: The file cannot be read or decoded, or has changed since it was indexed.
        """
        with self._reader.picture(image.row, self._min_side_px) as decoded:
            picture = reduce_to(decoded.image, self._transform)
        random = random_of(image.row.digest, self._seed)
        return [picture, *(shift(picture, random) for shift in SHIFTS)]


def check(index: Sequence[IndexRow], split: Sequence[SplitRow], models: Path, params: Params) -> Robustness:
    """Return the accuracy of both tracks under each shift.

    The embeddings of a track's pictures are kept. If both tracks have them, neither photos nor networks are needed,
    and whether the photos are still there and unchanged is not looked at. Else, without any of the photos, there is no
    accuracy.

    Args:
        index: Rows of all files.
        split: Rows of all images that are used.
        models: Folder with the bundles `head` and `finetune`.
        params: Params of the stage.

    Raises:
        BundleError: A bundle is missing or damaged, or the weights of its backbone are not found.
        DataError: Tables do not fit each other, some photos are missing, or the content of a file has changed.
        ParamsError: The device does not exist.
    """
    images, source = draw_images(index, split, params.robustness), open_source(params.data.path)
    bundles = {track: read_bundle(models / track) for track in TRACKS}
    kept = _kept_embeddings(images, bundles, models, params)
    found = {track: embeddings for track in TRACKS if (embeddings := kept[track].load()) is not None}
    missing = [track for track in TRACKS if track not in found]
    if missing and not any(source.has(image.row.path) for image in images):
        return Robustness(0, [], None, None)
    if missing:
        loaded = {track: _load(models / track, params, len(images)) for track in missing}
        pictures = _pictures_of(images, source, bundles, params)
        for track, embeddings in _embed(images, pictures, loaded, params.runtime.num_workers).items():
            kept[track].save(embeddings)
            found[track] = embeddings
    return summarise({track: _find_right(images, bundles[track], found[track]) for track in TRACKS})


def _kept_embeddings(
    images: Sequence[DrawnImage], bundles: Mapping[str, Bundle], models: Path, params: Params
) -> dict[str, KeptEmbeddings]:
    pictures = pictures_key(images, params.robustness.seed, bundles["head"])
    device = choose_device(params.runtime.device).split(":")[0]
    return {
        track: KeptEmbeddings(bundle, read_config(models / track)["model_sha256"], pictures, device)
        for track, bundle in bundles.items()
    }


def _pictures_of(
    images: Sequence[DrawnImage], source: Folder, bundles: Mapping[str, Bundle], params: Params
) -> Pictures:
    # Both tracks see images as the features say.
    spec = bundles["head"].spec
    transform = transform_of(spec)
    budget = memory_for_decoding(params.runtime.memory, "cpu")
    reader = Reader(source, transform, [View(None, mirror=False)], budget, Clock(), min_side_px=None)
    reader.check_present([image.row for image in images])
    return Pictures(reader, transform, min_side_px_of(spec), params.robustness.seed)


def _load(bundle: Path, params: Params, num_images: int) -> Model:
    # A new bundle has no exported network yet, and an export takes as long as all pictures of a few hundred images. So
    # the images count here, not their pictures.
    return load(
        bundle,
        device=params.runtime.device,
        batch=params.runtime.batch_or_none,
        num_images=num_images,
        weights=params.backbone.weights if _is_local_file(params.backbone) else None,
    )


def _is_local_file(backbone: BackboneParams) -> bool:
    # Weights from an address are in torch's cache, where `load` finds them by their digest.
    return backbone.weights_is_file and "://" not in backbone.weights


def _embed(
    images: Sequence[DrawnImage], pictures: Pictures, models: Mapping[str, Model], num_threads: int
) -> dict[str, NDArray[np.float32]]:
    """Return the embeddings of all pictures, float32 (N * (1 + `len(SHIFTS)`), views, dim) by track."""
    found: dict[str, list[NDArray[np.float32]]] = {track: [] for track in models}
    with Progress("robustness", len(images), "image") as progress:
        for start in range(0, len(images), _CHUNK_IMAGES):
            chunk = images[start : start + _CHUNK_IMAGES]
            shown = [picture for group in in_order(pictures.of, chunk, num_threads) for picture in group]
            for track, model in models.items():
                found[track].append(model.embed(shown).astype(np.float32, copy=False))
            progress.advance(len(chunk))
    return {track: np.concatenate(parts) for track, parts in found.items()}


def _find_right(images: Sequence[DrawnImage], bundle: Bundle, embeddings: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which pictures are predicted rightly, (N, 1 + `len(SHIFTS)`)."""
    predicted = bundle.logits(embeddings).argmax(axis=1).reshape(len(images), -1)
    labels = class_numbers([image.label for image in images], bundle.classes)
    right: NDArray[np.bool_] = predicted == labels[:, None]
    return right
