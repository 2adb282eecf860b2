"""Classes: their names, in the order of the logits."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.base.errors import TableError
from headstart.base.files import write_json

# No name of a class may have this: the page of `dvc plots show` would run what follows it as script.
SCRIPT = "(?i)<(/script|script|!--)"


def write_classes(path: Path, classes: Sequence[str]) -> None:
    """Write the names of the classes as JSON. Their order is the order of the logits in every table and bundle."""
    write_json(path, {"classes": list(classes)})


def read_classes(path: Path) -> list[str]:
    """Read the names of the classes, in the order of the logits, that `write_classes` wrote.

    Raises:
        TableError: The file is missing, or does not hold a list of at least 2 different names.
    """
    remedy = "Run: dvc repro split"
    try:
        classes = json.loads(path.read_text(encoding="utf-8"))["classes"]
    except FileNotFoundError as error:
        raise TableError(f"{path}: is missing. {remedy}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise TableError(f'{path}: is damaged ({error!r}); expected {{"classes": [names]}}. {remedy}') from error
    if not isinstance(classes, list) or len({str(name) for name in classes}) != len(classes) or len(classes) < 2:
        raise TableError(f"{path}: found {classes}; expected at least 2 different names. {remedy}")
    return [str(name) for name in classes]


def class_numbers(labels: Sequence[str], classes: Sequence[str]) -> NDArray[np.int64]:
    """Return the position of each label in the order of the classes, int64 (N,).

    Args:
        labels: (N,) names of the classes of some images.
        classes: (C,) names in the order of the logits.

    Raises:
        KeyError: A label is not a class.
    """
    number = {name: position for position, name in enumerate(classes)}
    return np.array([number[label] for label in labels], dtype=np.int64)
