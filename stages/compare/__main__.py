"""Stage `compare`: predictions and scores of both tracks -> metrics/finetune_minus_head.json, diagnostics/."""

from pathlib import Path

from stages.running import run_stage


def main() -> None:
    """Compare the tracks on the same images, and print which one to use."""
    from headstart.base.machine import cache_folder
    from headstart.tables.compare import write_advice
    from headstart.tables.metrics import write_metrics
    from headstart.tables.names import TRACKS
    from headstart.tables.predictions import read_predictions
    from stages.compare.advice import advise, summary
    from stages.compare.costs import describe_costs
    from stages.compare.differences import describe_differences, read_differences
    from stages.compare.evidence import read_evidence
    from stages.compare.paired import compare
    from stages.compare.params import Params
    from stages.params import load_params

    load_params(Params)
    head, finetune = (read_predictions(Path(f"predictions/{track}.csv")) for track in TRACKS)
    comparison = compare(head, finetune)
    advice = advise(read_evidence(comparison, head, finetune))
    differences = read_differences(Path())
    verdicts = {"size": advice.size.verdict, "similarity": advice.similarity.verdict}
    # The exact difference in accuracy replaces the one of rounded scores.
    metrics = {one.name: one.value for one in differences} | comparison.metrics()
    write_metrics(Path("metrics/finetune_minus_head.json"), metrics)
    write_metrics(Path("diagnostics/comparison.json"), comparison.counts() | verdicts)
    write_advice(Path("diagnostics/advice.json"), advice)
    print(f"compare: {summary(advice)}\n  {describe_differences(differences)}")
    print(f"  {describe_costs(cache_folder() / 'timings')}")


if __name__ == "__main__":
    run_stage("compare", main)
