"""Stage `evaluate@<track>`: predictions/<track>.csv -> metrics/<track>.json, plots/<track>/. No image, no torch."""

import sys
from pathlib import Path

from stages.core.entry import run_room


def main() -> None:
    """Score the track named on the command line."""
    from stages.core.errors import HeadstartError
    from stages.core.files import write_metrics
    from stages.core.params import load_params
    from stages.core.tables import read_predictions
    from stages.evaluate.params import Params
    from stages.evaluate.plots import write_confusion
    from stages.evaluate.scores import score

    load_params(Params)
    if len(sys.argv) != 2:
        raise HeadstartError(f"expected one track, such as `python -m stages.evaluate head`; found {sys.argv[1:]}")
    track = sys.argv[1]
    predictions = read_predictions(Path("predictions") / f"{track}.csv")
    numbers = score(predictions)
    write_metrics(Path("metrics") / f"{track}.json", track, numbers)
    write_confusion(Path("plots") / track / "confusion.csv", predictions)
    print(f"evaluate: {track}: accuracy {numbers['accuracy']:.4f} on {numbers['num_images']} reported images")


if __name__ == "__main__":
    run_room("evaluate", main)
