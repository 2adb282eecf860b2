"""Images: the one way in which bytes become pixels, for every room."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

# Part of every spec: change it whenever the pixels that `decode` gives for some file change.
DECODE_POLICY = "rgb8/1: first frame, EXIF orientation applied, alpha over white, 16-bit gray scaled"

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
# Resizing the short side of a strip to a network's input would make a picture of gigabytes from a file of bytes.
MAX_ASPECT_RATIO = 100
_EXIF_ORIENTATION = 0x0112
_BACKGROUND = (255, 255, 255)


class ImageError(Exception):
    """These bytes give no picture; the message is the reason, in a few words."""


@dataclass(frozen=True)
class Picture:
    """A decoded image.

    Attributes:
        image: Mode RGB, 8 bits a channel, upright.
        format: One of `FORMATS`.
        repairs: What had to be done beyond reading it, in words; empty for an ordinary file.
    """

    image: Image.Image
    format: str
    repairs: tuple[str, ...]


def decode(data: bytes, max_pixels: int) -> Picture:
    """Decode a whole image file to upright 8-bit RGB.

    A file that ends before its last row is an error, never filled up. One limit: a JPEG whose data is cut but closed by
    a proper end marker, or altered in the middle, decodes with a warning that Pillow does not pass on; it is accepted.

    Args:
        data: The file's bytes.
        max_pixels: Largest width x height that is decoded; larger pictures are refused before any pixel is.

    Raises:
        ImageError: Not an image of a known format, damaged, too large, too thin, or of a kind with no agreed meaning as
            RGB.
    """
    image = _open(data, max_pixels)
    try:
        repairs = _what_is_left_out(image, data)
        image.load()
        return _upright_rgb(image, repairs)
    except ImageError:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged data
        raise ImageError(f"damaged: {error}" if str(error) else f"damaged ({type(error).__name__})") from error


def measure(data: bytes, max_pixels: int) -> tuple[int, int]:
    """Return width and height of an image file as it lies, by its header alone.

    Args:
        data: The file's bytes.
        max_pixels: As for `decode`.

    Raises:
        ImageError: `decode` would refuse it by its header.
    """
    return _open(data, max_pixels).size


def upright_rgb(image: Image.Image) -> Picture:
    """Return what `decode` would give for a file with this picture in it.

    Raises:
        ImageError: It is damaged, or of a kind with no agreed meaning as RGB.
    """
    try:
        image.load()
        return _upright_rgb(image, [])
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"damaged: {error}") from error


def _open(data: bytes, max_pixels: int) -> Image.Image:
    if not data:
        raise ImageError("zero bytes")
    # Pillow's own limit is a global that warns from some thread; ours is checked below, on the header alone.
    Image.MAX_IMAGE_PIXELS = None
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:  # a hostile header may raise anything
        raise ImageError(f"not an image of a known format ({', '.join(FORMATS)})") from error
    if image.width * image.height > max_pixels:
        raise ImageError(f"{image.width} x {image.height} pixels; at most {max_pixels} are allowed")
    if max(image.size) > MAX_ASPECT_RATIO * min(image.size):
        raise ImageError(f"{image.width} x {image.height} pixels: a side is over {MAX_ASPECT_RATIO} times the other")
    return image


def _what_is_left_out(image: Image.Image, data: bytes) -> list[str]:
    """Say what of the file is not in the picture, before it is decoded."""
    if image.format in ("GIF", "TIFF"):  # looking for more frames would disturb the first
        probe = Image.open(io.BytesIO(data), formats=FORMATS)
        try:
            probe.seek(1)
            has_more = True
        except EOFError:
            has_more = False
        except Exception:  # noqa: BLE001 - there is one, however damaged
            has_more = True
    else:
        has_more = image.format != "MPO" and getattr(image, "is_animated", False)
    is_deep = image.mode != "I;16" and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    return ["first frame of several"] * has_more + ["16-bit colour"] * is_deep


def _upright_rgb(image: Image.Image, repairs: list[str]) -> Picture:
    kind = "JPEG" if image.format == "MPO" else str(image.format)  # MPO: a JPEG with a preview behind it
    orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    if orientation in range(2, 9):
        image = ImageOps.exif_transpose(image)
        repairs.append(f"EXIF orientation {orientation}")
    if image.mode in ("I", "F"):
        raise ImageError(f"32-bit pixels (mode {image.mode}) have no agreed range")
    if image.mode.startswith("I;16"):
        repairs.append("16-bit gray")
        image = Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))
    elif image.mode == "CMYK":
        repairs.append("CMYK")
    elif image.mode == "P":
        repairs.append("palette")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if np.asarray(image.getchannel("A")).min() < 255:
            repairs.append("alpha over white")
        background = Image.new("RGBA", image.size, (*_BACKGROUND, 255))
        image = Image.alpha_composite(background, image)
    return Picture(image if image.mode == "RGB" else image.convert("RGB"), kind, tuple(repairs))
