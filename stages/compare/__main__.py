"""Stage `compare`: predictions of both tracks -> metrics/comparison.json, diagnostics/advice.json. No image."""

from pathlib import Path

from stages.core.entry import run_room


def main() -> None:
    """Compare the tracks on the same images, and say which one to use and what to try next."""
    from stages.compare.advice import advise, summary
    from stages.compare.costs import describe_costs
    from stages.compare.evidence import read_evidence
    from stages.compare.paired import compare
    from stages.compare.params import Params
    from stages.core.files import write_metrics
    from stages.core.params import load_params
    from stages.core.tables import TRACKS, read_predictions
    from stages.core.verdicts import write_advice

    load_params(Params)
    head, finetune = (read_predictions(Path(f"predictions/{track}.csv")) for track in TRACKS)
    comparison = compare(head, finetune)
    advice = advise(read_evidence(comparison, head, finetune))
    verdicts = {"size": advice.size.verdict, "similarity": advice.similarity.verdict}
    write_metrics(Path("metrics/comparison.json"), "comparison", comparison.numbers() | verdicts)
    write_advice(Path("diagnostics/advice.json"), advice)
    print(f"compare: {summary(advice)}\n  {describe_costs(Path('metrics'))}")


if __name__ == "__main__":
    run_room("compare", main)
