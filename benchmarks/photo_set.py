"""Photo sets of any length for the benchmarks, from a few real photos or from generated ones."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from headstart.base.threads import num_cores
from headstart.sources.folder import Folder
from headstart.tables.index import IndexRow
from stages.index.build import build_index
from stages.index.params import IndexParams

INDEX = IndexParams(
    extensions=["jpg"],
    max_pixels=10**8,
    max_seconds=60.0,
    on_bad="fail",
    max_bad_fraction=0.0,
    max_removed_fraction=1.0,
    table=None,
)


# An enlarged photo takes seconds to make and megabytes to keep, so that few differ.
_NUM_LARGE = 8
_SENSOR_NOISE = 9  # levels, at most


def make_photo_set(
    folder: Path, source: Path | None, num_photos: int, megapixels: float | None = None
) -> list[IndexRow]:
    """Write distinct JPEG files into `folder/all/` and return their index.

    Each is a copy of a photo with a number after the end of its image data. So all files have different digests, and
    decoding costs the same.

    Args:
        folder: Folder that the photos are written into.
        source: Folder of real JPEG photos to copy. None: 64 generated ones (noise with the spectrum of a photo, 500 x
            375 px, about 90 kB).
        num_photos: Number of photos to write.
        megapixels: Size to which the photos are enlarged; None to keep theirs.
    """
    photos = photo_bytes(source, megapixels)
    (folder / "all").mkdir(parents=True)
    for number in range(num_photos):
        data = photos[number % len(photos)] + f"copy {number}".encode()
        (folder / "all" / f"{number:06}.jpg").write_bytes(data)
    return build_index(Folder(folder), Folder(folder).list_files(), INDEX, num_cores())


def photo_bytes(source: Path | None, megapixels: float | None = None) -> list[bytes]:
    """Return the bytes of real photos, or of 64 generated ones; of a few, enlarged, if megapixels are given."""
    photos = [path.read_bytes() for path in sorted(source.rglob("*.jpg"))] if source else [_photo(n) for n in range(64)]
    return photos if megapixels is None else [_enlarged(data, megapixels) for data in photos[:_NUM_LARGE]]


def _enlarged(data: bytes, megapixels: float) -> bytes:
    """Return a photo as a camera of so many megapixels might have taken it: enlarged, with noise, at quality 92."""
    with Image.open(io.BytesIO(data)) as image:
        scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
        size = (round(image.width * scale), round(image.height * scale))
        pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.LANCZOS)).astype(np.int16)
    noise = np.random.default_rng(0).integers(-_SENSOR_NOISE, _SENSOR_NOISE + 1, size=pixels.shape, dtype=np.int8)
    file = io.BytesIO()
    Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=92)
    return file.getvalue()


def _photo(seed: int) -> bytes:
    random = np.random.default_rng(seed)
    height, width = 375, 500
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(width), np.fft.fftfreq(height))) + 1 / width
    noise = np.fft.fft2(random.normal(size=(3, height, width))) / frequency
    picture = np.real(np.fft.ifft2(noise)).transpose(1, 2, 0)
    pixels = 128 + 50 * (picture - picture.mean()) / picture.std() + random.normal(0, 4, size=picture.shape)
    file = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()
