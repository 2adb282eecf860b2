"""Shifts: what may happen to a picture after training, as in ImageNet-C (Hendrycks & Dietterich 2019).

Each shift has one strength, the third of ImageNet-C's five. To add a shift, add an entry to `SHIFTS`.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from headstart.imaging.transform import Transform

Function = Callable[[Image.Image, float, np.random.Generator], Image.Image]
# A blur of a small fraction of a pixel changes nothing. So a shorter side counts as this one, in pixels: there the
# blur of `SHIFTS` is half a pixel.
_SHORTEST_BLURRED_PX = 37


@dataclass(frozen=True)
class Shift:
    """A way in which pictures differ from those of the data set.

    Attributes:
        name: Name in files.
        title: Name and strength, for people.
        function: Function that shifts an RGB picture. It keeps size and mode.
        strength: Second argument of the function.
    """

    name: str
    title: str
    function: Function
    strength: float

    def __call__(self, image: Image.Image, random: np.random.Generator) -> Image.Image:
        """Return the shifted picture.

        Args:
            image: Picture in mode RGB.
            random: Source of the random numbers, if the shift needs some.
        """
        return self.function(image, self.strength, random)


def reduce_to(image: Image.Image, transform: Transform) -> Image.Image:
    """Return the picture at the size to which a transform resizes it. A smaller picture is returned unchanged.

    Noise and JPEG artefacts of a photo of many megapixels would vanish when the network's input is made of it. The
    filter and the order, columns first, are those of the transform. So its centre crop has the same pixels as before.

    Args:
        image: Picture in mode RGB.
        transform: Transform of the network.
    """
    width, height = transform.resized(*image.size)
    width, height = min(width, image.width), min(height, image.height)
    resampling = Image.Resampling[transform.interpolation.upper()]
    return image.resize((width, image.height), resampling).resize((width, height), resampling)


def random_of(digest: str, seed: int) -> np.random.Generator:
    """Return the source of the random numbers of one image. Neither order nor number of the images matters.

    Args:
        digest: sha256 of the image's file, in hex digits.
        seed: Seed of the stage.
    """
    return np.random.default_rng([seed, int(digest, 16)])


def blur(image: Image.Image, strength: float, random: np.random.Generator) -> Image.Image:  # noqa: ARG001
    """Blur by a Gaussian whose standard deviation is a fraction of the shorter side.

    A blur in pixels would wipe out a small picture and leave a large one sharp.
    """
    return image.filter(ImageFilter.GaussianBlur(strength * max(_SHORTEST_BLURRED_PX, min(image.size))))


def add_noise(image: Image.Image, strength: float, random: np.random.Generator) -> Image.Image:
    """Add Gaussian noise to each channel of each pixel. The strength is its standard deviation; 1 is white."""
    pixels = np.asarray(image)
    noisy = pixels + random.normal(0.0, 255 * strength, pixels.shape)
    return Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8))


def compress(image: Image.Image, strength: float, random: np.random.Generator) -> Image.Image:  # noqa: ARG001
    """Save as JPEG and open again. The strength is the quality, 1 to 95: a smaller one damages more."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(strength))
    return Image.open(file).convert("RGB")


def expose(image: Image.Image, strength: float, random: np.random.Generator) -> Image.Image:  # noqa: ARG001
    """Multiply every pixel by 1 + strength, as another exposure would."""
    return ImageEnhance.Brightness(image).enhance(1 + strength)


# ImageNet-C blurs by 3 pixels of 224, and brightens by adding 0.3. Pillow multiplies, like an exposure: half of a mean
# of 0.5 is about as much. ImageNet-C has no darker pictures.
SHIFTS = (
    Shift("blur", "blur (1.3 % of the shorter side)", blur, 3 / 224),
    Shift("noise", "noise (standard deviation 0.18)", add_noise, 0.18),
    Shift("jpeg", "JPEG (quality 15)", compress, 15),
    Shift("darker", "darker (half as bright)", expose, -0.5),
    Shift("brighter", "brighter (1.5 times as bright)", expose, 0.5),
)
