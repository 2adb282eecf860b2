"""Stage `head`: features + split -> models/head/, predictions/, diagnostics/, its plots. It reads no image."""

from pathlib import Path

from stages.running import run_stage


def main() -> None:
    """Train the head, print what was chosen, and write the bundle, the predictions and the tables."""
    from headstart.artifacts.bundle import write_bundle
    from headstart.artifacts.features import open_features
    from headstart.base.files import sha256_file
    from headstart.base.machine import cache_folder
    from headstart.tables.classes import read_classes
    from headstart.tables.head import LabelSuspect, LayerScore, LearningPoint, NearDuplicate
    from headstart.tables.metrics import write_metrics, write_timings
    from headstart.tables.predictions import write_predictions
    from headstart.tables.rows import read_rows, write_rows
    from headstart.tables.split import SplitRow
    from stages.head.params import Params
    from stages.params import load_params

    params = load_params(Params)
    split = read_rows(Path("data/split.csv"), SplitRow)
    classes = read_classes(Path("data/classes.json"))

    from stages.head import results
    from stages.head.train import train_head

    with open_features(Path("features/features.h5")) as features:
        split_sha256, trials = sha256_file(Path("data/split.csv")), cache_folder() / "head" / "trials.safetensors"
        trained = train_head(features, split, classes, split_sha256, params, trials_path=trials)
    write_bundle(Path("models/head"), trained.bundle)
    write_predictions(Path("predictions/head.csv"), trained.predictions)
    write_predictions(Path("predictions/head_out_of_fold.csv"), trained.out_of_fold)
    layers = results.layer_scores(trained)
    suspects = results.label_suspects(trained.out_of_fold)
    pairs = results.named_pairs(trained.near_duplicates, split)
    write_rows(Path("plots/head_training/layers.csv"), layers, LayerScore)
    write_rows(Path("plots/head_training/learning.csv"), trained.learning_curve.points, LearningPoint)
    write_rows(Path("diagnostics/head/label_suspects.csv"), suspects, LabelSuspect)
    write_rows(Path("diagnostics/head/near_duplicates.csv"), pairs, NearDuplicate)
    write_metrics(Path("diagnostics/head_training.json"), results.numbers(trained))
    write_timings("head", {"training_seconds": trained.training_seconds})
    print(f"head: {results.summary(trained)}")
    alike = len({pair.digest for pair in pairs})
    print(f"head: {len(suspects)} labels to check, {alike} test images look like training images (diagnostics/head)")
    if not trained.fitted.converged:
        print(f"head: WARNING: the fit did not converge in {params.head.max_iter} iterations; raise head.max_iter")


if __name__ == "__main__":
    run_stage("head", main)
