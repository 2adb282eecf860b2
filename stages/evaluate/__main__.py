"""Stage `evaluate@<track>`: predictions/<track>.csv -> metrics/<track>.json, plots/<track>/. No image, no torch."""

import sys
from pathlib import Path

from stages.core.entry import run_room


def main() -> None:
    """Score the track named on the command line."""
    import numpy as np

    from stages.core.errors import HeadstartError
    from stages.core.files import write_metrics
    from stages.core.findings import NearDuplicate
    from stages.core.params import load_params
    from stages.core.tables import TRACKS, read_predictions, read_rows
    from stages.evaluate import results
    from stages.evaluate.params import Params
    from stages.evaluate.scores import Outcomes, score

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
    write_metrics(Path("metrics") / f"{track}.json", track, numbers)
    print(f"evaluate: {results.summary(track, numbers)}")


if __name__ == "__main__":
    run_room("evaluate", main)
