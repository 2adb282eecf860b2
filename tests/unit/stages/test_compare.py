"""The comparison of the two tracks equals scipy's, and the advice follows from the evidence."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from headstart.base.errors import TableError
from headstart.tables.compare import Advice
from headstart.tables.evaluate import ScoreRow
from headstart.tables.head import LayerScore
from headstart.tables.metrics import write_metrics
from headstart.tables.predictions import Predictions
from headstart.tables.rows import write_rows
from stages.compare.advice import advise
from stages.compare.costs import describe_costs
from stages.compare.differences import describe_differences, read_differences
from stages.compare.evidence import Evidence
from stages.compare.paired import Comparison, compare
from stages.compare.params import Params
from stages.params import load_params
from tests.support.source import ROOT


def predictions(right: list[bool], names: str | None = None) -> Predictions:
    """Return predictions of images of class a that are right or wrong."""
    digests = [f"{place:03}" for place in range(len(right))] if names is None else list(names)
    logits = np.array([[1.0, 0.0] if hit else [0.0, 1.0] for hit in right])
    return Predictions(digests, digests, ["a"] * len(right), ["a", "b"], logits)


def test_images_are_compared_by_digest() -> None:
    """The rows of the two tracks may be in different orders."""
    head = predictions([True, True, False, False], "wxyz")
    finetune = predictions([True, True, True, False], "zyxw")
    comparison = compare(head, finetune)

    assert (comparison.num_only_head, comparison.num_only_finetune) == (1, 2)
    assert comparison.difference == 0.25
    assert comparison.low < 0.25 < comparison.high


def test_other_images_or_labels_are_refused() -> None:
    """Predictions of other images or labels stop the comparison, and the message names the first difference."""
    with pytest.raises(TableError, match=r"found 2 differences, the first is \('w', 'a'\)"):
        compare(predictions([True, True], "wx"), predictions([True, True], "xy"))
    ours = predictions([True], "w")
    with pytest.raises(TableError, match="same images with the same labels"):
        compare(ours, replace(ours, labels=["b"]))


@pytest.mark.parametrize(
    ("only_head", "only_finetune", "significant", "ship"),
    [(0, 0, False, "head"), (2, 7, False, "head"), (1, 8, True, "finetune"), (20, 2, True, "head")],
)
def test_the_head_is_shipped_unless_fine_tuning_is_significantly_better(
    only_head: int, only_finetune: int, significant: bool, ship: str
) -> None:
    """The head is recommended unless fine-tuning is significantly better."""
    neither = 30
    head = predictions([True] * only_head + [False] * only_finetune + [True] * neither)
    finetune = predictions([False] * only_head + [True] * only_finetune + [True] * neither)
    comparison = compare(head, finetune)

    assert comparison.ship == ship
    assert comparison.metrics()["ship"] == ship
    assert comparison.counts()["is_significant"] == significant


def layer(place: int, names: str, accuracy: float, margin: float = 0.01) -> LayerScore:
    """Return the scores of a layer, or of several, whose names are joined by " + "."""
    low, high = accuracy - margin, accuracy + margin
    chosen, num_layers = int(names == "last"), names.count(" + ") + 1
    return LayerScore(place, names, num_layers, 10, accuracy, low, high, log_loss=0.1, c=1.0, chosen=chosen)


SAME = compare(predictions([True] * 50), predictions([True] * 50))
BETTER = compare(predictions([False] * 20 + [True] * 30), predictions([True] * 50))
EVIDENCE = Evidence(
    num_training=200,
    num_classes=2,
    doubling_gain=0.02,
    doubling_gain_low=0.0,
    doubling_gain_high=0.04,
    layers=[layer(1, "middle", 0.90), layer(2, "last", 0.95)],
    comparison=SAME,
    head_accuracy=1.0,
    finetune_accuracy=1.0,
    kept_epoch=0,
    kept_share=1.0,
    num_epochs=8,
    backbone_rate=0.0003,
    layer_decay=0.8,
    num_views=1,
    num_suspects=0,
)


def advice(**changes: object) -> Advice:
    """Return the advice for the evidence with some changes."""
    return advise(replace(EVIDENCE, **changes))  # type: ignore[arg-type]  # names of its fields


@pytest.mark.parametrize(
    ("num_training", "gain", "verdict"),
    [
        (200, (0.0, 0.04), "small"),  # few of a class
        (2000, (0.008, 0.02), "small"),  # many of a class, but more would clearly help
        (2000, (0.0, 0.004), "large"),  # more would not help
        (1000, (0.0, 0.04), "cannot tell"),
        (4000, (0.0, 0.04), "large"),  # many of a class
    ],
)
def test_the_size_is_what_doubling_would_add(num_training: int, gain: tuple[float, float], verdict: str) -> None:
    """The learning curve decides the size; if it cannot, the number of images of each class does."""
    found = advice(num_training=num_training, doubling_gain_low=gain[0], doubling_gain_high=gain[1]).size

    assert found.verdict == verdict
    assert f"{num_training} training images of 2 classes" in found.why
    assert f"({100 * gain[0]:+.1f} points to {100 * gain[1]:+.1f} points)" in found.why


def test_likeness_is_where_the_best_layer_lies() -> None:
    """Similar if the last layer is best, different if an earlier one is clearly better, else `cannot tell`."""
    assert advice().similarity.verdict == "similar"
    assert advice(layers=[layer(1, "middle", 0.98), layer(2, "last", 0.95)]).similarity.verdict == "different"
    assert advice(layers=[layer(1, "middle", 0.96), layer(2, "last", 0.95)]).similarity.verdict == "cannot tell"
    assert advice(layers=[layer(1, "last", 0.95)]).similarity.verdict == "cannot tell"
    assert "0.980 (0.970 to 0.990)" in advice(layers=[layer(1, "m", 0.98), layer(2, "last", 0.95)]).similarity.why


def test_the_rule_of_thumb_stands_beside_the_measurement() -> None:
    """The advice says whether rule and comparison agree, and whether the case is unclear."""
    assert advice().rule.endswith("a linear head on the last layer. The comparison agrees.")
    assert "disagrees: fine-tuning is significantly better" in advice(comparison=BETTER).rule
    large = advice(num_training=4000)
    assert "fine-tuning the network. The comparison disagrees: fine-tuning is not significantly better" in large.rule
    assert "unclear" in advice(layers=[layer(1, "last", 0.95)]).rule
    assert advice(comparison=BETTER).ship.verdict == "finetune"
    assert "Only fine-tuning is right on 20 images, only the head on 0" in advice(comparison=BETTER).ship.why


def test_what_to_try_next_follows_from_the_evidence() -> None:
    """Each suggestion has its reason, and a command where there is one to run."""
    assert [one.command for one in advice().suggestions] == [
        "dvc exp run -S finetune.optimizer.backbone_rate=0.0001",
        "dvc exp run -S extract.views=2",
    ]
    different = [layer(1, "middle", 0.98), layer(2, "last", 0.95)]
    found = advice(num_suspects=3, doubling_gain_low=0.01, kept_epoch=8, layers=different).suggestions
    assert [one.command for one in found] == [
        "",
        "",
        "dvc exp run -S finetune.epochs=16",
        "dvc exp run -S finetune.optimizer.layer_decay=1.0",
    ]
    assert "3 suspected label errors" in found[0].why
    assert "Twice as many" in found[1].why


def test_nothing_is_suggested_that_was_done() -> None:
    """A suggestion is missing if its setting already has the suggested value or would not help."""
    gentler = advice(backbone_rate=0.003, num_views=2).suggestions
    assert [one.command for one in gentler] == ["dvc exp run -S finetune.optimizer.backbone_rate=0.001"]
    assert advice(backbone_rate=1e-5, num_views=2).suggestions == []
    different = [layer(1, "middle", 0.98), layer(2, "last", 0.95)]
    assert advice(layers=different, layer_decay=1.0, kept_epoch=8, kept_share=0.75).suggestions == []


def test_layers_without_a_chosen_one_are_refused() -> None:
    """A table of layers without a chosen one is an error."""
    with pytest.raises(TableError, match="found no row with chosen 1"):
        advice(layers=[layer(1, "middle", 0.9)])


def test_a_significantly_worse_fine_tuning_is_told() -> None:
    """The advice says if the head is significantly better, and not only that fine-tuning is not."""
    worse = Comparison(50, 20, 0, -0.4, -0.5, -0.3, 1e-5)

    assert "The head is significantly better" in advice(comparison=worse).ship.why


def test_suggested_commands_are_valid(tmp_path: Path) -> None:
    """Every value that a suggestion sets is one that params.yaml takes."""
    different = [layer(1, "middle", 0.98), layer(2, "last", 0.95)]
    several = [advice(), advice(kept_epoch=8, layers=different), advice(layers=[layer(1, "last", 0.95)])]
    commands = {one.command for each in several for one in each.suggestions if one.command}
    yaml, text = YAML(), (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert len(commands) == 5
    for command in commands:
        content = yaml.load(text)
        for key, value in re.findall(r"-S (\S+)=(\S+)", command):
            *names, last = key.split(".")
            section = content
            for name in names:
                section = section[name]
            assert last in section
            section[last] = yaml.load(value)
        yaml.dump(content, tmp_path / "params.yaml")
        load_params(Params, tmp_path / "params.yaml")


def test_costs_that_were_not_measured_are_called_so(tmp_path: Path) -> None:
    """Timings that exist are printed as those of the last run, and missing ones as not measured."""
    write_metrics(tmp_path / "head.json", {"training_seconds": 1.84})
    write_metrics(tmp_path / "finetune.json", {"prediction_images_per_second": 512.3})
    told = describe_costs(tmp_path)

    assert told.startswith("last run")
    assert "training the head took 1.84 s, fine-tuning (not measured);" in told
    assert "embedded, (not measured), the fine-tuned network 512 images/s" in told


def test_damaged_timings_count_as_not_measured(tmp_path: Path) -> None:
    """A flipped bit in a file that is no result, and that `dvc repro` would not write again, stops nothing."""
    (tmp_path / "head.json").write_bytes(b'{"training_seconds": 1.8\xb2}')
    (tmp_path / "finetune.json").write_text('{"training_seconds": "fast", "prediction_images_per_second": 512}')
    told = describe_costs(tmp_path)

    assert "training the head took (not measured), fine-tuning (not measured);" in told
    assert "the fine-tuned network 512 images/s" in told


def test_without_any_timing_it_says_only_that(tmp_path: Path) -> None:
    """Where no stage has run, as in a fresh clone, one short sentence stands in place of the timings."""
    assert describe_costs(tmp_path) == "no timings: no stage has run on this machine yet"


def write_track(root: Path, track: str, **numbers: float) -> None:
    """Write the metrics of a track, and its table of scores, which also has a metric that is not shown."""
    rows = [ScoreRow(name, f"title of {name}", "lower", 9.0, None, None, None, None, None) for name in numbers]
    hidden = ScoreRow("brier", "Brier score", "lower", 9.0, None, None, None, None, None)
    write_metrics(root / f"metrics/{track}.json", {**numbers, "num_images": 450})
    write_rows(root / f"plots/{track}/scores.csv", [*rows, hidden], ScoreRow)


def test_every_shown_metric_is_subtracted(tmp_path: Path) -> None:
    """All metrics of `metrics/<track>.json` are subtracted, under their names, titles and directions."""
    write_track(tmp_path, "head", log_loss=0.5, kappa=0.75)
    write_track(tmp_path, "finetune", log_loss=0.25, kappa=0.5)
    differences = read_differences(tmp_path)

    assert [(one.name, one.value) for one in differences] == [("log_loss", -0.25), ("kappa", -0.25)]
    assert describe_differences(differences[:1]) == (
        "fine-tuning minus head: title of log_loss -0.2500 (lower is better)"
    )


def test_tracks_with_different_metrics_are_refused(tmp_path: Path) -> None:
    """If a track was evaluated before a metric was added, the message names the metric and the command to run."""
    write_track(tmp_path, "head", log_loss=0.5)
    write_track(tmp_path, "finetune", log_loss=0.25, kappa=0.5)

    with pytest.raises(TableError, match=r"found \['kappa'\] in only one of them. Run: dvc repro evaluate"):
        read_differences(tmp_path)
