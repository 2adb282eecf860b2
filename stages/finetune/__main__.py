"""Stage `finetune`: images + split + features -> models/finetune/, predictions/finetune.csv, its curve and metrics.

Under torchrun it only trains, into its checkpoint: `torchrun --nproc-per-node=2 -m stages.finetune`.
"""

from pathlib import Path

from stages.core.entry import run_room


def main() -> None:
    """Fine-tune the network, say which epoch is kept and why, and write what came out."""
    from stages.core.bundle import write_bundle
    from stages.core.features import open_features
    from stages.core.files import sha256_file
    from stages.core.params import load_params
    from stages.core.runtime import wait_asleep
    from stages.core.tables import IndexRow, SplitRow, read_classes, read_rows, write_predictions
    from stages.finetune.params import Params

    params = load_params(Params)
    split_path, features_path = Path("data/split.csv"), Path("features/features.h5")
    index, split = read_rows(Path("data/index.csv"), IndexRow), read_rows(split_path, SplitRow)
    classes = read_classes(Path("data/classes.json"))
    wait_asleep()
    from stages.finetune import results
    from stages.finetune.tuning import fine_tune

    with open_features(features_path) as features:
        tuned = fine_tune(
            features,
            index,
            split,
            classes=classes,
            split_sha256=sha256_file(split_path),
            params=params,
            watch=results.watch(params.finetune),
        )
    if tuned is None:  # a rank of torchrun's
        return
    write_bundle(Path("models/finetune"), tuned.bundle)
    write_predictions(Path("predictions/finetune.csv"), tuned.predictions)
    results.write_curve(results.CURVE_PATH, tuned.history)
    results.write_numbers(tuned, params.finetune)
    tuned.checkpoint.remove()
    print(f"finetune: {results.summary(tuned, params.finetune.init)}")


if __name__ == "__main__":
    run_room("finetune", main)
