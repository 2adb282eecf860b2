"""Stage `compare`: predictions of both tracks -> metrics/comparison.json, diagnostics/advice.json. No image."""

from pathlib import Path

from stages.core.entry import run_room


def main() -> None:
    """Compare the tracks on the same images, and say which one to use and what to try next."""
    from dataclasses import asdict

    from stages.compare.advice import Evidence, advise, summary
    from stages.compare.costs import describe_costs
    from stages.compare.paired import compare
    from stages.compare.params import Params
    from stages.core.files import read_metrics, write_json, write_metrics
    from stages.core.findings import LabelSuspect, TapScore
    from stages.core.params import load_params
    from stages.core.tables import read_predictions, read_rows

    load_params(Params)
    head, finetune = (read_predictions(Path(f"predictions/{track}.csv")) for track in ("head", "finetune"))
    data, trained, tuned = (
        read_metrics(Path(f"metrics/{name}.json"), name) for name in ("data", "head_training", "finetune_training")
    )
    comparison = compare(head, finetune)
    advice = advise(
        Evidence(
            num_training=data["num_train"] + data["num_val"],
            num_classes=data["num_classes"],
            doubling_gain=trained["doubling_gain"],
            doubling_gain_low=trained["doubling_gain_low"],
            doubling_gain_high=trained["doubling_gain_high"],
            taps=read_rows(Path("plots/head_training/taps.csv"), TapScore),
            comparison=comparison,
            head_accuracy=head.accuracy,
            finetune_accuracy=finetune.accuracy,
            best_epoch=tuned["best_epoch"],
            num_epochs=tuned["num_epochs"],
            num_suspects=len(read_rows(Path("diagnostics/head/label_suspects.csv"), LabelSuspect)),
        )
    )
    verdicts = {"size": advice.size.verdict, "similarity": advice.similarity.verdict}
    write_metrics(Path("metrics/comparison.json"), "comparison", comparison.numbers() | verdicts)
    write_json(Path("diagnostics/advice.json"), asdict(advice))
    print(f"compare: {summary(advice)}\n  {describe_costs(Path('metrics'))}")


if __name__ == "__main__":
    run_room("compare", main)
