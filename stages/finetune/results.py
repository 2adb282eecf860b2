"""The curve and the numbers that the stage writes, besides the bundle and the predictions."""

from collections.abc import Callable, Sequence
from pathlib import Path

from headstart.base.files import write_bytes
from headstart.tables.finetune import EpochPoint, SampleRow
from headstart.tables.metrics import write_metrics, write_timings
from headstart.tables.rows import write_rows
from stages.finetune.history import Epoch
from stages.finetune.params import FinetuneParams
from stages.finetune.run import FineTuned
from stages.finetune.sample_batch import SampleImage

CURVE_PATH = Path("plots/finetune_training/curve.csv")
SAMPLE_FOLDER = Path("diagnostics/finetune_batch")


def watch(params: FinetuneParams) -> Callable[[Sequence[Epoch]], None]:
    """Return a function that prints each epoch when it ends, and writes the curve so far."""

    def show(history: Sequence[Epoch]) -> None:
        print(f"finetune: {describe(history[-1], params.epochs, params.init)}", flush=True)
        write_curve(CURVE_PATH, history, None)

    return show


def show_sample(samples: Sequence[SampleImage]) -> None:
    """Write the pictures of a sample batch and their table in place of those of an earlier run, and print where."""
    for path in SAMPLE_FOLDER.glob("*.webp"):
        path.unlink()
    rows = []
    for number, sample in enumerate(samples, start=1):
        row = sample.image.row
        rows.append(SampleRow(f"{number}.webp", row.path, sample.image.label, row.width, row.height))
        write_bytes(SAMPLE_FOLDER / rows[-1].file, sample.strip)
    write_rows(SAMPLE_FOLDER / "images.csv", rows, SampleRow)
    print(f"finetune: {SAMPLE_FOLDER} shows {len(rows)} training images as the network will see them", flush=True)


def write_curve(path: Path, history: Sequence[Epoch], kept: int | None) -> None:
    """Write one row for each epoch. The start is the first row, and `kept` is the number of the epoch that is kept."""
    start = history[0]
    rows = [
        EpochPoint(
            epoch=one.epoch,
            accuracy=one.accuracy,
            start_accuracy=start.accuracy,
            log_loss=one.log_loss,
            start_log_loss=start.log_loss,
            training_loss=one.training_loss,
            rate_factor=one.rate_factor,
            kept=int(one.epoch == kept),
        )
        for one in history
    ]
    write_rows(path, rows, EpochPoint)


def write_numbers(tuned: FineTuned, params: FinetuneParams) -> None:
    """Write the numbers of the training, and to another file the timings, which differ from run to run."""
    write_metrics(Path("diagnostics/finetune_training.json"), numbers(tuned, params))
    write_timings("finetune", timings(tuned))


def numbers(tuned: FineTuned, params: FinetuneParams) -> dict[str, float | int | str]:
    """Return the numbers of the training. They are the same in every run with these params."""
    start, kept = tuned.history[0], tuned.kept
    return {
        "backbone_rate": params.optimizer.backbone_rate,
        "layer_decay": params.optimizer.layer_decay,
        "start_accuracy": start.accuracy,
        "start_log_loss": start.log_loss,
        "kept_accuracy": kept.accuracy,
        "kept_log_loss": kept.log_loss,
        "kept_epoch": kept.epoch,
        "kept_share": kept.share,
        "num_epochs": tuned.history[-1].epoch,
        "temperature": kept.temperature,
        "augmentation": tuned.augmentation,
        "num_training_images": len(tuned.subsets.training),
        "num_validation_images": len(tuned.subsets.validation),
    }


def timings(tuned: FineTuned) -> dict[str, float | int | str]:
    """Return device, seconds and images per second. They differ from run to run."""
    timed = tuned.timings
    rate = {"images_per_second": timed.num_images / timed.training_seconds} if timed.num_images else {}
    return {
        "device": tuned.device,
        "training_seconds": timed.training_seconds,
        "validation_seconds": timed.validation_seconds,
        "prediction_images_per_second": len(tuned.predictions.labels) / timed.prediction_seconds,
        **rate,
    }


def describe(one: Epoch, num_epochs: int, start: str) -> str:
    """Return one line about an epoch."""
    scores = f"inner validation accuracy {one.accuracy:.4f}, log loss {one.log_loss:.4f}"
    if one.training_loss is None:
        return f"start ({start}): {scores}"
    return f"epoch {one.epoch} of {num_epochs}: training loss {one.training_loss:.4f}, {scores}"


def summary(tuned: FineTuned, start: str, refit: str) -> str:
    """Return a few lines about the result of the training."""
    subsets, first, kept = tuned.subsets, tuned.history[0], tuned.kept
    prefix = ", frozen layers ran once" if tuned.has_frozen_prefix else ""
    what = (
        f"training is not better than its start ({start}), which is kept"
        if kept.epoch == 0
        else f"epoch {kept.epoch} is kept"
        + ("" if kept.share == 1 else f", averaged with the start ({kept.share:g} to {1 - kept.share:g})")
    )
    if refit == "all":
        what += ", and trained once more on all images"
    return (
        f"{len(subsets.training)} training images, {len(subsets.validation)} for inner validation, augmentation "
        f"{tuned.augmentation}{prefix}: {what}\n"
        f"  inner validation: accuracy {first.accuracy:.4f} at the start, {kept.accuracy:.4f} kept; log loss "
        f"{first.log_loss:.4f} at the start, {kept.log_loss:.4f} kept"
    )
