"""The tables behind `dvc plots`."""

import csv
import io
from pathlib import Path

from stages.core.files import write_bytes
from stages.core.tables import Predictions


def write_confusion(path: Path, predictions: Predictions) -> None:
    """Write one `actual,predicted` row per reported image; DVC's confusion template counts them."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["actual", "predicted"])
    writer.writerows(zip(predictions.labels, predictions.predicted, strict=True))
    write_bytes(path, text.getvalue().encode())
