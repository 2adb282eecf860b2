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
    from headstart.tables.head import NextToLabel, PoolPrediction
    from headstart.tables.metrics import write_timings
    from headstart.tables.predictions import write_predictions
    from headstart.tables.rows import read_rows, write_rows
    from headstart.tables.split import PoolRow, SplitRow
    from stages.head.params import Params
    from stages.params import load_params

    params = load_params(Params)
    split = read_rows(Path("data/split.csv"), SplitRow)
    pool = read_rows(Path("data/pool.csv"), PoolRow)
    classes = read_classes(Path("data/classes.json"))

    from stages.head import results
    from stages.head.pool import predict_pool, rank_pool
    from stages.head.train import train_head

    with open_features(Path("features/features.h5")) as features:
        split_sha256, trials = sha256_file(Path("data/split.csv")), cache_folder() / "head" / "trials.safetensors"
        trained = train_head(features, split, classes, split_sha256, params, trials_path=trials)
        predicted = predict_pool(features, trained.bundle, pool)
        ranked = rank_pool(features, trained.bundle, predicted, params.head.seed)
    write_bundle(Path("models/head"), trained.bundle)
    write_predictions(Path("predictions/head.csv"), trained.predictions)
    write_predictions(Path("predictions/head_out_of_fold.csv"), trained.out_of_fold)
    write_rows(Path("predictions/pool.csv"), predicted, PoolPrediction)
    write_rows(Path("diagnostics/head/next_to_label.csv"), ranked, NextToLabel)
    to_check = results.write_tables(trained, split)
    write_timings("head", {"training_seconds": trained.training_seconds})
    print(f"head: {results.summary(trained)}\nhead: {to_check}")
    if pool:
        print(f"head: {len(pool)} images without a label; diagnostics/head/next_to_label.csv says which to label first")
    if not trained.fitted.converged:
        print(f"head: WARNING: the fit did not converge in {params.head.max_iter} iterations; raise head.max_iter")


if __name__ == "__main__":
    run_stage("head", main)
