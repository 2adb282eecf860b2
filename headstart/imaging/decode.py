"""Decoding: image files become upright RGB pixels, in the same way for every stage."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from headstart.imaging.opening import EXIF_UNREADABLE, OpeningError, coefficient_bytes, num_scans, open_image
from headstart.imaging.orientation import FLIPS_X, FLIPS_Y, SWAPS_SIDES, TURNS, read_orientation
from headstart.imaging.scale import OVERSAMPLING, Extent, extent_of, reduction

# One of them is part of every spec. Change them whenever `decode` gives other pixels for some file.
_EXACT = "rgb8/2: first frame, EXIF orientation applied, alpha over white, 16-bit gray scaled"
DECODE_POLICIES = {
    "exact": _EXACT,
    "scaled": f"{_EXACT}; large ones reduced by 8, 4 or 2 to at least {OVERSAMPLING} x the resized side of the whole",
}

# If the short side of a thinner strip were resized to what a network takes, the long side could take gigabytes.
MAX_ASPECT_RATIO = 100
# Scans of a JPEG times its pixels, which take a second for each 10^9. A progressive photo has about 10 scans; a file of
# 1 MB may have thousands.
_MOST_SCANNED_PIXELS = 4 * 10**9
# Tags of a TIFF, and values of the tags before them.
_BITS_PER_SAMPLE = 0x0102
_PHOTOMETRIC, _BLACK_IS_ZERO = 0x0106, 1
_PLANAR, _IN_PLANES = 0x011C, 2
_EXIF_ORIENTATION = 0x0112
# Pillow multiplies the grays of a PNG with 2 or 4 bits by these factors, but not the gray that is transparent.
_GRAY_STEPS = {"L;2": 85, "L;4": 17}
_BACKGROUND = (255, 255, 255)
# Largest memory per pixel until a picture is RGB: 13.1 bytes measured (palette; 4.2 for RGB), with transparency 19.7
# (AVIF), of WebP, whose decoder takes more, 27.9.
_BYTES_PER_PIXEL, _WITH_TRANSPARENCY, _OF_WEBP = 14, 20, 29


class ImageError(Exception):
    """An image cannot be decoded. The message is the reason, in a few words."""


@dataclass(frozen=True)
class Picture:
    """A decoded image.

    Attributes:
        image: The upright picture, perhaps reduced, in mode RGB with 8 bits per channel.
        extent: How the picture shows the whole one, with the sides of the whole one.
        format: Name of the file's format, as in `formats.FORMATS`.
        repairs: What was changed or left out, in words; empty for an ordinary file.
    """

    image: Image.Image
    extent: Extent
    format: str
    repairs: tuple[str, ...]

    @property
    def width(self) -> int:
        """Width of the whole upright picture, in pixels."""
        return self.extent.width

    @property
    def height(self) -> int:
        """Height of the whole upright picture, in pixels."""
        return self.extent.height


@dataclass(frozen=True)
class Header:
    """What the header of an image file says about the memory that decoding takes.

    Attributes:
        width: Width in pixels, before EXIF orientation.
        height: Height in pixels, before EXIF orientation.
        is_jpeg: Whether the decoder itself can reduce the picture.
        coefficient_bytes: Memory in bytes that the decoder takes for the whole picture, however far it reduces it. It
            is above 0 for a JPEG whose data are in several scans, such as a progressive one.
        bytes_per_pixel: Memory in bytes that each decoded pixel takes at most, until the picture is RGB.
    """

    width: int
    height: int
    is_jpeg: bool
    coefficient_bytes: int
    bytes_per_pixel: int


def decode(data: bytes, max_pixels: int, min_side_px: int | None = None) -> Picture:
    """Decode a whole image file to upright 8-bit RGB, of all its pixels or of fewer.

    A JPEG is reduced while it is decoded: each block of 8 x 8 pixels becomes 4 x 4, 2 x 2 or 1 pixels by a smaller
    cosine transform. Other formats are decoded whole, and the means of boxes of pixels are taken. Either way the whole
    file is read, so the same files are damaged.

    A file that ends before its last row is an error: missing rows are never filled up. Two kinds of damage are not
    noticed. A JPEG whose data is cut, but which has an end marker, is accepted, because Pillow does not pass on the
    decoder's warning. Changed bytes are accepted if they still decode and the format has no checksum (only PNG and
    deflated TIFF have one).

    Args:
        data: Bytes of the file.
        max_pixels: Largest width x height, in pixels. A larger picture is an error before any pixel is decoded.
        min_side_px: Pixels that the shorter side keeps if the picture is reduced (see `scale.reduction`); None to keep
            all.

    Raises:
        ImageError: The file is not an image of a known format, is damaged, too large or too thin, or has pixels that
            cannot be converted to RGB without a guess.
    """
    image, left_out = _open(data, max_pixels)
    whole, factor = image.size, reduction(*image.size, min_side_px)
    try:
        left_out += _what_is_left_out(image, data)
        if factor > 1:
            image.draft(None, (whole[0] // factor, whole[1] // factor))  # changes nothing unless it is a JPEG
        return _upright_rgb(image, left_out, whole, min_side_px)
    except ImageError:
        raise
    except Exception as error:  # decoders raise almost any error on damaged data
        raise ImageError(f"damaged: {error}" if str(error) else f"damaged ({type(error).__name__})") from error


def read_header(data: bytes, max_pixels: int) -> Header:
    """Return what the header of an image file says. No pixel is decoded.

    Args:
        data: Bytes of the file.
        max_pixels: As for `decode`.

    Raises:
        ImageError: The header shows that `decode` would fail.
    """
    image, _ = _open(data, max_pixels)
    if isinstance(image, JpegImageFile):
        return Header(*image.size, True, coefficient_bytes(image, data), _BYTES_PER_PIXEL)
    bytes_per_pixel = _WITH_TRANSPARENCY if image.has_transparency_data else _BYTES_PER_PIXEL
    return Header(*image.size, False, 0, _OF_WEBP if image.format == "WEBP" else bytes_per_pixel)


def upright_rgb(image: Image.Image, min_side_px: int | None = None) -> Picture:
    """Return what `decode` would return for a file with this picture in a format other than JPEG.

    Args:
        image: A picture of any mode, opened from a file or made in memory.
        min_side_px: As for `decode`.

    Raises:
        ImageError: The picture is damaged, empty or too thin, or has pixels that cannot be converted to RGB without a
            guess.
    """
    _refuse_size(image)
    try:
        return _upright_rgb(image, [], image.size, min_side_px)
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
    if isinstance(image, JpegImageFile) and coefficient_bytes(image, data):  # of one scan, libjpeg keeps none
        num = num_scans(data)
        if num * image.width * image.height > _MOST_SCANNED_PIXELS:
            raise ImageError(f"{image.width} x {image.height} pixels in {num} scans, which would take minutes")
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


def _load_upright(image: Image.Image, repairs: list[str]) -> tuple[Image.Image, int]:
    """Load the pixels. Return them as their orientation says, and the orientation of the open image, 1 if upright.

    What was done is added to the repairs. The size of a TIFF is that of the upright picture from the start.
    """
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
    return upright, orientation if orientation in TURNS and image.format != "TIFF" else 1


def _upright_rgb(image: Image.Image, repairs: list[str], whole: tuple[int, int], min_side_px: int | None) -> Picture:
    """Load the pixels and return them as upright 8-bit RGB, reduced if enough of them are left.

    Args:
        image: The picture, which its decoder may have reduced.
        repairs: What is known to be left out; repairs are added to it.
        whole: Width and height before any reduction.
        min_side_px: As for `decode`.
    """
    is_reduced = image.size != whole
    kind = "JPEG" if image.format == "MPO" else str(image.format)  # an MPO is a JPEG with another picture after it
    _refuse_misread(image)
    gray_step = _GRAY_STEPS.get(_raw_modes(image), 1)
    image, orientation = _load_upright(image, repairs)
    width, height = whole[::-1] if orientation in SWAPS_SIDES else whole
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
    image = image if image.mode == "RGB" else image.convert("RGB")
    factor = reduction(width, height, min_side_px)
    if is_reduced:  # by the decoder, before the picture was turned
        flips = orientation in FLIPS_X, orientation in FLIPS_Y
        extent = extent_of(width, height, factor, at_right=not flips[0], at_bottom=not flips[1])
    else:
        image, extent = image if factor == 1 else image.reduce(factor), extent_of(width, height, factor)
    return Picture(image, extent, kind, tuple(repairs))
