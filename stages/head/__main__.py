"""Stage `head`: features + split -> models/head/, predictions/head.csv, metrics/head_training.json. Reads no image."""

from pathlib import Path

from stages.core.entry import run_room


def main() -> None:
    """Train the head and say which strength won."""
    from stages.core.bundle import write_bundle
    from stages.core.features import open_features
    from stages.core.files import sha256_file, write_metrics
    from stages.core.params import load_params
    from stages.core.tables import SplitRow, read_classes, read_rows, write_predictions
    from stages.head.params import Params

    params = load_params(Params)
    split = read_rows(Path("data/split.csv"), SplitRow)
    classes = read_classes(Path("data/classes.json"))

    from stages.head.train import train_head

    with open_features(Path("features/features.h5")) as features:
        trained = train_head(features, split, classes, sha256_file(Path("data/split.csv")), params.head)
    probe = trained.probe
    write_bundle(Path("models/head"), trained.bundle)
    write_predictions(Path("predictions/head.csv"), trained.predictions)
    numbers: dict[str, float | int | str] = {"c": probe.c}
    if probe.cv_accuracy is not None and probe.cv_log_loss is not None:
        numbers |= {"cv_accuracy": probe.cv_accuracy, "cv_log_loss": probe.cv_log_loss}
    write_metrics(Path("metrics/head_training.json"), "head_training", numbers)
    num_images = trained.bundle.trained_on["num_images"]
    scored = "" if probe.cv_accuracy is None else f", cross-validated accuracy {probe.cv_accuracy:.4f}"
    print(f"head: {num_images} training images, {len(classes)} classes, c {probe.c:g}{scored}")
    if not probe.converged:
        print(f"head: WARNING: the fit did not converge in {params.head.max_iter} iterations; raise head.max_iter")


if __name__ == "__main__":
    run_room("head", main)
