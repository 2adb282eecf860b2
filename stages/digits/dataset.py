"""Scikit-learn's 1,797 scanned digits as 8 x 8 PNG files, one folder per class.

Source: UCI "Optical Recognition of Handwritten Digits" (CC BY 4.0), as scikit-learn ships it. Needs no network.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from stages.core.files import atomic_folder


def write_digits(folder: Path) -> int:
    """Write every digit as `<class>/<position in the source>.png` and return how many there are.

    Gray levels 0-16 are spread over 0-255. The folder must not exist; it appears whole or not at all.
    """
    digits = load_digits()
    pixels_NHW = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    with atomic_folder(folder) as temporary:
        for position, (pixels_HW, label) in enumerate(zip(pixels_NHW, digits.target, strict=True)):
            path = temporary / str(label) / f"{position:04d}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels_HW).save(path)
    return len(pixels_NHW)
