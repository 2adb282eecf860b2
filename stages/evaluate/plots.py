"""The tables behind `dvc plots`."""

from pathlib import Path

from stages.core.tables import Predictions, write_table


def write_confusion(path: Path, predictions: Predictions) -> None:
    """Write one `actual,predicted` row per reported image; DVC's confusion template counts them."""
    write_table(path, ["actual", "predicted"], zip(predictions.labels, predictions.predicted, strict=True))
