"""Stage `evaluate@<track>`: predictions/<track>.csv -> metrics/, diagnostics/, plots/<track>/. No image, no torch."""

import sys
from pathlib import Path

from stages.running import run_stage


def main() -> None:
    """Score the track that the command line names."""
    import numpy as np

    from headstart.base.errors import HeadstartError
    from headstart.tables.head import NearDuplicate
    from headstart.tables.metrics import write_metrics
    from headstart.tables.names import TRACKS
    from headstart.tables.outcomes import Outcomes
    from headstart.tables.predictions import read_predictions
    from headstart.tables.rows import read_rows
    from stages.evaluate import results
    from stages.evaluate.params import Params
    from stages.evaluate.scores import score
    from stages.params import load_params

    intervals = load_params(Params).intervals
    track = " ".join(sys.argv[1:])
    if track not in TRACKS:
        raise HeadstartError(
            f"found the track {track!r}; expected one of {TRACKS}. Run: python -m stages.evaluate head"
        )
    predictions = read_predictions(Path("predictions") / f"{track}.csv")
    alike = {pair.digest for pair in read_rows(Path("diagnostics/head/near_duplicates.csv"), NearDuplicate)}
    is_distinct = np.array([digest not in alike for digest in predictions.digests])

    outcomes = Outcomes.of(predictions)
    scores, distinct = score(outcomes, intervals.resamples, intervals.seed), {}
    if is_distinct.any():
        distinct = score(outcomes.of_rows(is_distinct), intervals.resamples, intervals.seed)
    folder = Path("plots") / track
    results.write_tables(folder, predictions, outcomes)
    results.write_scores(folder / "scores.csv", scores, distinct)
    numbers = results.numbers(outcomes.num_images, scores, distinct, int(is_distinct.sum()))
    write_metrics(Path(f"diagnostics/{track}_scores.json"), numbers)
    write_metrics(Path(f"metrics/{track}.json"), results.shown(numbers))
    print(f"evaluate: {results.summary(track, numbers)}")


if __name__ == "__main__":
    run_stage("evaluate", main)
