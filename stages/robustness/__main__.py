"""Stage `robustness`: both bundles, test images -> diagnostics/robustness.json. Nothing is chosen by it."""

from pathlib import Path

from stages.running import run_stage


def main() -> None:
    """Predict shifted test images with both tracks, and print the accuracies."""
    from headstart.tables.index import IndexRow
    from headstart.tables.robustness import write_robustness
    from headstart.tables.rows import read_rows
    from headstart.tables.split import SplitRow
    from stages.params import load_params
    from stages.robustness.params import Params

    params = load_params(Params)
    index, split = read_rows(Path("data/index.csv"), IndexRow), read_rows(Path("data/split.csv"), SplitRow)

    from stages.robustness.check import check
    from stages.robustness.results import describe

    robustness = check(index, split, Path("models"), params)
    write_robustness(Path("diagnostics/robustness.json"), robustness)
    print(f"robustness: {describe(robustness)}")


if __name__ == "__main__":
    run_stage("robustness", main)
