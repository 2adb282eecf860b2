"""Decoding: image files become upright RGB pixels, in the same way for every stage."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from headstart.imaging.opening import EXIF_UNREADABLE, OpeningError, open_image
from headstart.imaging.orientation import TURNS, read_orientation

# It is part of every spec. Change it whenever `decode` gives other pixels for some file.
DECODE_POLICY = "rgb8/2: first frame, EXIF orientation applied, alpha over white, 16-bit gray scaled"

# If the short side of a thinner strip were resized to what a network takes, the long side could take gigabytes.
MAX_ASPECT_RATIO = 100
# Tags of a TIFF, and values of the tags before them.
_BITS_PER_SAMPLE = 0x0102
_PHOTOMETRIC, _BLACK_IS_ZERO = 0x0106, 1
_PLANAR, _IN_PLANES = 0x011C, 2
_EXIF_ORIENTATION = 0x0112
# Pillow multiplies the grays of a PNG with 2 or 4 bits by these factors, but not the gray that is transparent.
_GRAY_STEPS = {"L;2": 85, "L;4": 17}
_BACKGROUND = (255, 255, 255)


class ImageError(Exception):
    """An image cannot be decoded. The message is the reason, in a few words."""


@dataclass(frozen=True)
class Picture:
    """A decoded image.

    Attributes:
        image: The upright picture, in mode RGB with 8 bits per channel.
        format: Name of the file's format, as in `formats.FORMATS`.
        repairs: What was changed or left out, in words; empty for an ordinary file.
    """

    image: Image.Image
    format: str
    repairs: tuple[str, ...]


def decode(data: bytes, max_pixels: int) -> Picture:
    """Decode a whole image file to upright 8-bit RGB.

    A file that ends before its last row is an error: missing rows are never filled up. Two kinds of damage are not
    noticed. A JPEG whose data is cut, but which has an end marker, is accepted, because Pillow does not pass on the
    decoder's warning. Changed bytes are accepted if they still decode and the format has no checksum (only PNG and
    deflated TIFF have one).

    Args:
        data: Bytes of the file.
        max_pixels: Largest width x height, in pixels. A larger picture is an error before any pixel is decoded.

    Raises:
        ImageError: The file is not an image of a known format, is damaged, too large or too thin, or has pixels that
            cannot be converted to RGB without a guess.
    """
    image, left_out = _open(data, max_pixels)
    try:
        return _upright_rgb(image, left_out + _what_is_left_out(image, data))
    except ImageError:
        raise
    except Exception as error:  # decoders raise almost any error on damaged data
        raise ImageError(f"damaged: {error}" if str(error) else f"damaged ({type(error).__name__})") from error


def measure(data: bytes, max_pixels: int) -> tuple[int, int]:
    """Return width and height of an image file in pixels, before EXIF orientation. Only its header is read.

    Args:
        data: Bytes of the file.
        max_pixels: As for `decode`.

    Raises:
        ImageError: The header shows that `decode` would fail.
    """
    return _open(data, max_pixels)[0].size


def upright_rgb(image: Image.Image) -> Picture:
    """Return what `decode` would return for a file with this picture.

    Args:
        image: A picture of any mode, opened from a file or made in memory.

    Raises:
        ImageError: The picture is damaged, empty or too thin, or has pixels that cannot be converted to RGB without a
            guess.
    """
    _refuse_size(image)
    try:
        return _upright_rgb(image, [])
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"damaged: {error}") from error


def _open(data: bytes, max_pixels: int) -> tuple[Image.Image, list[str]]:
    """Return an open image within the limits, and what had to be left out of its file."""
    if not data:
        raise ImageError("zero bytes")
    try:
        image, left_out = open_image(data)
    except OpeningError as error:
        raise ImageError(str(error)) from error
    if image.width * image.height > max_pixels:
        raise ImageError(f"{image.width} x {image.height} pixels; at most {max_pixels} are allowed")
    _refuse_size(image)
    return image, left_out


def _refuse_size(image: Image.Image) -> None:
    if max(image.size) > MAX_ASPECT_RATIO * min(image.size):
        raise ImageError(f"{image.width} x {image.height} pixels: a side is over {MAX_ASPECT_RATIO} times the other")
    if not image.width:
        raise ImageError("0 x 0 pixels")


def _what_is_left_out(image: Image.Image, data: bytes) -> list[str]:
    """Return what the file has but the picture will lack. Call it before decoding."""
    if image.format in ("GIF", "TIFF"):  # looking for more frames changes the state of an open image, so open another
        probe = Image.open(io.BytesIO(data), formats=[image.format])
        try:
            probe.seek(1)
            has_more = True
        except EOFError:
            has_more = False
        except Exception:  # noqa: BLE001 - there is a second frame, however damaged
            has_more = True
    else:
        has_more = image.format != "MPO" and getattr(image, "is_animated", False)
    bits = 16 if ";16" in _raw_modes(image) else 8
    if image.format == "HEIF":
        bits = image.info["bit_depth"]
    is_deep_colour = bits > 8 and not image.mode.startswith("I;16")
    which = "main" if image.format == "HEIF" else "first"
    return [f"{which} frame of several"] * has_more + [f"{bits}-bit colour"] * is_deep_colour


def _raw_modes(image: Image.Image) -> str:
    """Return Pillow's name for the layout of the pixels in the file, such as `L;4`; empty once they are loaded."""
    return " ".join(str(tile[3]) for tile in getattr(image, "tile", ()))


def _refuse_misread(image: Image.Image) -> None:
    """Raise for images that Pillow would silently decode to wrong pixels."""
    tags = getattr(image, "tag_v2", None)
    if tags is not None and image.mode.startswith("I;16"):
        bits = tags[_BITS_PER_SAMPLE][0]
        if bits != 16:  # Pillow returns them as 16-bit gray but does not scale them
            raise ImageError(f"{bits}-bit gray is not supported")
        if tags.get(_PHOTOMETRIC) != _BLACK_IS_ZERO:  # Pillow inverts other depths but not this one
            raise ImageError("16-bit gray whose tags do not say that zero is black")
    if tags is not None and tags.get(_PLANAR) == _IN_PLANES and max(tags.get(_BITS_PER_SAMPLE, (8,))) > 8:
        raise ImageError("deep colour in planes is not supported")  # Pillow misreads planes of more than 8 bits
    # Pillow compares the 16 bits of the transparent colour with the 8 bits that it keeps of each pixel.
    if "transparency" in image.info and "RGB;16" in _raw_modes(image):
        raise ImageError("16-bit colour with one transparent colour is not supported")


def _load_upright(image: Image.Image, repairs: list[str]) -> Image.Image:
    """Load the pixels and return them as their orientation says. Add to the repairs what was done."""
    if image.format == "TIFF":  # loading a TIFF turns it upright, and drops its orientation
        orientation = image.getexif().get(_EXIF_ORIENTATION)
        image.load()
        upright = image
    else:
        image.load()
        try:
            orientation = read_orientation(image.info)
        except ValueError:
            orientation = None
            repairs.append(EXIF_UNREADABLE)
        upright = image.transpose(TURNS[orientation]) if orientation in TURNS else image
    if orientation in TURNS:
        repairs.append(f"EXIF orientation {orientation}")
    return upright


def _upright_rgb(image: Image.Image, repairs: list[str]) -> Picture:
    """Load the pixels and return them as upright 8-bit RGB."""
    kind = "JPEG" if image.format == "MPO" else str(image.format)  # an MPO is a JPEG with another picture after it
    _refuse_misread(image)
    gray_step = _GRAY_STEPS.get(_raw_modes(image), 1)
    image = _load_upright(image, repairs)
    if image.mode in ("I", "F"):
        raise ImageError(f"32-bit pixels (mode {image.mode}) have no agreed range")
    if image.mode.startswith("I;16"):
        repairs.append("16-bit gray")
        values, hole = np.asarray(image), image.info.get("transparency")
        image = Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
        if hole is not None:  # only one of the 257 values that become the same gray is transparent
            image.putalpha(Image.fromarray(np.where(values == hole, 0, 255).astype(np.uint8)))
    elif gray_step > 1 and "transparency" in image.info:
        image = image.copy()  # a copy, so that the caller's picture keeps its own information
        image.info["transparency"] *= gray_step
    elif image.mode == "CMYK":
        repairs.append("CMYK")
    elif image.mode == "P":
        repairs.append("palette")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A").getextrema()
        if alpha == (0, 0) and kind == "BMP":  # programs that know no alpha leave the fourth byte at 0
            repairs.append("empty alpha ignored")
            image.putalpha(255)
        elif alpha == (0, 0):
            raise ImageError("wholly transparent")
        elif alpha != (255, 255):
            repairs.append("alpha over white")
        background = Image.new("RGBA", image.size, (*_BACKGROUND, 255))
        image = Image.alpha_composite(background, image)
    return Picture(image if image.mode == "RGB" else image.convert("RGB"), kind, tuple(repairs))
