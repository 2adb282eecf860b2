"""Stage `head`: features + split -> models/head/, predictions/, diagnostics/head/, its plots and metrics. No image."""

from pathlib import Path

from stages.core.entry import run_room


def main() -> None:
    """Train the head, say what was chosen, and write what the folds tell besides."""
    from stages.core.bundle import write_bundle
    from stages.core.features import open_features
    from stages.core.files import sha256_file, write_metrics
    from stages.core.params import load_params
    from stages.core.tables import SplitRow, read_classes, read_rows, write_predictions
    from stages.head.params import Params

    params = load_params(Params)
    split = read_rows(Path("data/split.csv"), SplitRow)
    classes = read_classes(Path("data/classes.json"))

    from stages.head import results
    from stages.head.train import train_head

    with open_features(Path("features/features.h5")) as features:
        trained = train_head(features, split, classes, sha256_file(Path("data/split.csv")), params)
    write_bundle(Path("models/head"), trained.bundle)
    write_predictions(Path("predictions/head.csv"), trained.predictions)
    write_predictions(Path("predictions/head_out_of_fold.csv"), trained.out_of_fold)
    results.write_tap_curve(
        Path("plots/head_training/taps.csv"), trained.fitted.taps, trained.bundle.tap, len(trained.out_of_fold.labels)
    )
    results.write_learning_curve(Path("plots/head_training/learning.csv"), trained.learning_curve)
    suspects = results.write_label_suspects(Path("diagnostics/head/label_suspects.csv"), trained.out_of_fold)
    alike = results.write_near_duplicates(Path("diagnostics/head/near_duplicates.csv"), trained.near_duplicates, split)
    numbers = results.numbers(trained)
    write_metrics(Path("metrics/head_training.json"), "head_training", numbers)
    print(f"head: {results.summary(trained, params.head.kind)}")
    print(
        f"head: {suspects} labels to check, {alike} reported images that look like training images (diagnostics/head)"
    )
    if not trained.fitted.converged:
        print(f"head: WARNING: the fit did not converge in {params.head.max_iter} iterations; raise head.max_iter")


if __name__ == "__main__":
    run_room("head", main)
