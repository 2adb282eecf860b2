"""Stage `finetune`: images + split + features -> models/finetune/, predictions/finetune.csv, its curve and metrics.

Under torchrun it only trains and writes its checkpoint: `torchrun --nproc-per-node=2 -m stages.finetune`.
"""

from collections.abc import Callable
from pathlib import Path

from stages.running import run_stage


def main() -> Callable[[], None] | None:
    """Fine-tune the network, print which epoch is kept and why, and write the bundle, the predictions and the curve."""
    from headstart.artifacts.bundle import write_bundle
    from headstart.artifacts.features import open_features
    from headstart.base.files import sha256_file
    from headstart.base.machine import wait_asleep
    from headstart.tables.classes import read_classes
    from headstart.tables.index import IndexRow
    from headstart.tables.predictions import write_predictions
    from headstart.tables.rows import read_rows
    from headstart.tables.split import SplitRow
    from stages.finetune.params import Params
    from stages.params import load_params

    params, split_path, features_path = load_params(Params), Path("data/split.csv"), Path("features/features.h5")
    index, split = read_rows(Path("data/index.csv"), IndexRow), read_rows(split_path, SplitRow)
    classes = read_classes(Path("data/classes.json"))
    wait_asleep()
    from stages.finetune import results
    from stages.finetune.run import fine_tune

    with open_features(features_path) as features:
        tuned = fine_tune(
            features,
            index,
            split,
            classes=classes,
            split_sha256=sha256_file(split_path),
            params=params,
            watch=results.watch(params.finetune),
            show=results.show_sample,
        )
    if tuned is None:  # torchrun started this process
        return None
    write_bundle(Path("models/finetune"), tuned.bundle)
    write_predictions(Path("predictions/finetune.csv"), tuned.predictions)
    results.write_curve(results.CURVE_PATH, tuned.history, tuned.kept.epoch)
    results.write_numbers(tuned, params.finetune)
    print(f"finetune: {results.summary(tuned, params.finetune.init, params.finetune.refit)}")
    return tuned.checkpoint.remove  # unless params or code were edited meanwhile


if __name__ == "__main__":
    run_stage("finetune", main)
