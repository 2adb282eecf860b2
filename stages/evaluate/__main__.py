"""Stage `evaluate@<track>`: predictions/<track>.csv -> metrics/, diagnostics/, plots/<track>/. No image, no torch."""

import sys
from pathlib import Path

from headstart.base.entry import run_main


def main() -> None:
    """Score the track named on the command line."""
    import numpy as np

    from headstart.base.errors import HeadstartError
    from headstart.tables.evaluate import METRICS
    from headstart.tables.head import NearDuplicate
    from headstart.tables.metrics import write_metrics
    from headstart.tables.names import TRACKS
    from headstart.tables.predictions import read_predictions
    from headstart.tables.rows import read_rows
    from stages.evaluate import results
    from stages.evaluate.params import Params
    from stages.evaluate.scores import Outcomes, score
    from stages.params import load_params

    intervals = load_params(Params).intervals
    track = " ".join(sys.argv[1:])
    if track not in TRACKS:
        raise HeadstartError(f"found the track {track!r}; expected one of {TRACKS}: python -m stages.evaluate head")
    predictions = read_predictions(Path("predictions") / f"{track}.csv")
    alike = {pair.digest for pair in read_rows(Path("diagnostics/head/near_duplicates.csv"), NearDuplicate)}
    is_distinct = np.array([digest not in alike for digest in predictions.digests])

    outcomes, num_classes = Outcomes.of(predictions), len(predictions.classes)
    scores = score(outcomes, num_classes, intervals.resamples, intervals.seed)
    distinct = {}
    if is_distinct.any():
        distinct = score(outcomes.of_rows(is_distinct), num_classes, intervals.resamples, intervals.seed)
    folder = Path("plots") / track
    areas = results.write_tables(folder, predictions, outcomes)
    results.write_scores(folder / "scores.csv", scores, distinct, areas)
    numbers = results.numbers(len(outcomes.target), scores, distinct, int(is_distinct.sum()))
    write_metrics(Path(f"diagnostics/{track}_scores.json"), numbers)
    write_metrics(Path(f"metrics/{track}.json"), {name: numbers[name] for name in METRICS})
    print(f"evaluate: {results.summary(track, numbers)}")


if __name__ == "__main__":
    run_main("evaluate", main)
