"""Scikit-learn's 1,797 scanned digits as 8 x 8 PNG files, one folder per class.

Source: UCI "Optical Recognition of Handwritten Digits" (CC BY 4.0), as scikit-learn ships it. Needs no network.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from headstart.base.entry import run_main
from headstart.base.files import atomic_folder


def write_digits(folder: Path) -> int:
    """Write every digit as `<class>/<position in the source>.png`, and return the number of digits.

    Gray levels 0 to 16 become 0 to 255. The folder appears whole or not at all.

    Raises:
        FileExistsError: The folder exists already.
    """
    digits = load_digits()
    pixels_NHW = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    with atomic_folder(folder) as temporary:
        for position, (pixels_HW, label) in enumerate(zip(pixels_NHW, digits.target, strict=True)):
            path = temporary / str(label) / f"{position:04d}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels_HW).save(path)
    return len(pixels_NHW)


def main() -> None:
    """Write the data set, and print the number of images."""
    folder = Path("data/digits")
    print(f"digits: {write_digits(folder)} images in {folder}")


if __name__ == "__main__":
    run_main("digits", main)
