"""The comparison of the two tracks equals an oracle's, and the advice says what the numbers say."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from scipy.stats import binomtest, bootstrap

from headstart.base.errors import TableError
from headstart.tables.compare import Advice
from headstart.tables.head import LayerScore
from headstart.tables.metrics import write_metrics
from headstart.tables.predictions import Predictions
from stages.compare.advice import advise
from stages.compare.costs import describe_costs
from stages.compare.evidence import Evidence
from stages.compare.paired import Comparison, compare, mcnemar_p, paired_interval
from stages.compare.params import Params
from stages.params import load_params
from tests.support.source import ROOT


def predictions(right: list[bool], names: str | None = None) -> Predictions:
    """Return predictions of images of class a that are right or wrong."""
    digests = [f"{place:03}" for place in range(len(right))] if names is None else list(names)
    logits = np.array([[1.0, 0.0] if hit else [0.0, 1.0] for hit in right])
    return Predictions(digests, digests, ["a"] * len(right), ["a", "b"], logits)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemars_test_is_that_of_scipy(first: int, second: int) -> None:
    """Exact and two-sided; where the tracks never differ there is nothing to wonder at."""
    expected = binomtest(first, first + second, 0.5).pvalue if first + second else 1.0

    assert mcnemar_p(first, second) == pytest.approx(expected)


def test_the_paired_interval_is_near_the_bootstraps() -> None:
    """With many images that differ it is what resampling the images gives; with none it still has a width."""
    differences = np.array([1] * 60 + [-1] * 30 + [0] * 410)
    oracle = bootstrap((differences,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(0))
    low, high = paired_interval(500, 30, 60)

    assert (low, high) == pytest.approx(tuple(oracle.confidence_interval), abs=0.004)
    low, high = paired_interval(153, 0, 0)
    assert low == pytest.approx(-high)
    assert 0.01 < high < 0.02


@given(st.integers(1, 40), st.data())
def test_the_interval_holds_the_difference_and_turns_with_it(num: int, data: st.DataObject) -> None:
    """It lies in [-1, 1], and changing the tracks' places changes its sign alone."""
    first = data.draw(st.integers(0, num))
    second = data.draw(st.integers(0, num - first))
    low, high = paired_interval(num, first, second)

    assert -1 <= low <= high <= 1
    assert np.allclose(paired_interval(num, second, first), (-high, -low))


def test_images_are_compared_by_digest() -> None:
    """The order of the rows does not matter, only on which images each track is right."""
    head = predictions([True, True, False, False], "wxyz")
    finetune = predictions([True, True, True, False], "zyxw")
    comparison = compare(head, finetune)

    assert (comparison.num_only_head, comparison.num_only_finetune) == (1, 2)
    assert comparison.difference == 0.25
    assert comparison.low < 0.25 < comparison.high


def test_other_images_or_labels_are_refused() -> None:
    """Predictions of another split cannot be compared; the message names the first difference."""
    with pytest.raises(TableError, match=r"found 2 differences, the first \('w', 'a'\)"):
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
    """Simpler and faster wins where the difference may be chance, or is to its favour."""
    neither = 30
    head = predictions([True] * only_head + [False] * only_finetune + [True] * neither)
    finetune = predictions([False] * only_head + [True] * only_finetune + [True] * neither)
    comparison = compare(head, finetune)

    assert comparison.ship == ship
    assert comparison.metrics()["ship"] == ship
    assert comparison.counts()["is_significant"] == significant


def layer(depth: int, name: str, accuracy: float, margin: float = 0.01) -> LayerScore:
    """Return a layer's score."""
    return LayerScore(depth, name, accuracy, accuracy - margin, accuracy + margin, 0.1, 1.0, int(name == "last"))


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
    best_epoch=0,
    num_epochs=8,
    backbone_rate=0.0003,
    layer_decay=0.8,
    num_views=1,
    num_suspects=0,
)


def advice(**changes: object) -> Advice:
    """Return what is said of the evidence, changed."""
    return advise(replace(EVIDENCE, **changes))  # type: ignore[arg-type]  # names of its fields


@pytest.mark.parametrize(
    ("num_training", "gain", "verdict"),
    [
        (200, (0.0, 0.04), "small"),  # few of a class
        (2000, (0.008, 0.02), "small"),  # enough by the rule of thumb, but more would clearly help
        (2000, (0.0, 0.004), "large"),  # more would not help
        (1000, (0.0, 0.04), "cannot tell"),
        (4000, (0.0, 0.04), "large"),  # many of a class
    ],
)
def test_the_size_is_what_doubling_would_add(num_training: int, gain: tuple[float, float], verdict: str) -> None:
    """Large and small are measured on the learning curve first, and counted second."""
    found = advice(num_training=num_training, doubling_gain_low=gain[0], doubling_gain_high=gain[1]).size

    assert found.verdict == verdict
    assert f"{num_training} training images of 2 classes" in found.why
    assert f"({100 * gain[0]:+.1f} points to {100 * gain[1]:+.1f} points)" in found.why


def test_likeness_is_where_the_best_layer_lies() -> None:
    """Similar if the last layer wins, different if an earlier one does beyond chance, else it cannot be told."""
    assert advice().similarity.verdict == "similar"
    assert advice(layers=[layer(1, "middle", 0.98), layer(2, "last", 0.95)]).similarity.verdict == "different"
    assert advice(layers=[layer(1, "middle", 0.96), layer(2, "last", 0.95)]).similarity.verdict == "cannot tell"
    assert advice(layers=[layer(1, "last", 0.95)]).similarity.verdict == "cannot tell"
    assert "0.980 (0.970 to 0.990)" in advice(layers=[layer(1, "m", 0.98), layer(2, "last", 0.95)]).similarity.why


def test_the_rule_of_thumb_stands_beside_the_measurement() -> None:
    """Where they disagree, that is said; where the case cannot be told, that too."""
    assert advice().rule.endswith("a linear head on the last layer. The measurement agrees.")
    assert "disagrees: fine-tuning is significantly better" in advice(comparison=BETTER).rule
    large = advice(num_training=4000)
    assert "fine-tuning the network. The measurement disagrees: fine-tuning is not significantly better" in large.rule
    assert "not clear" in advice(layers=[layer(1, "last", 0.95)]).rule
    assert advice(comparison=BETTER).ship.verdict == "finetune"
    assert "20 images only fine-tuning gets right, 0 only the head" in advice(comparison=BETTER).ship.why


def test_what_to_try_next_follows_from_the_evidence() -> None:
    """Each suggestion has its reason, and a command where there is one to run."""
    assert [one.command for one in advice().suggestions] == [
        "dvc exp run -S finetune.optimizer.backbone_rate=0.0001",
        "dvc exp run -S extract.views=2",
    ]
    different = [layer(1, "middle", 0.98), layer(2, "last", 0.95)]
    found = advice(num_suspects=3, doubling_gain_low=0.01, best_epoch=8, layers=different).suggestions
    assert [one.command for one in found] == [
        "",
        "",
        "dvc exp run -S finetune.epochs=16",
        "dvc exp run -S finetune.optimizer.layer_decay=1.0",
    ]
    assert "suspected label errors (3)" in found[0].why
    assert "twice as many" in found[1].why


def test_nothing_is_suggested_that_was_done() -> None:
    """What ran with a gentle rate, two views, no decay, or ended before its last epoch gets other advice."""
    gentler = advice(backbone_rate=0.003, num_views=2).suggestions
    assert [one.command for one in gentler] == ["dvc exp run -S finetune.optimizer.backbone_rate=0.001"]
    assert advice(backbone_rate=1e-5, num_views=2).suggestions == []
    different = [layer(1, "middle", 0.98), layer(2, "last", 0.95)]
    assert advice(layers=different, layer_decay=1.0, best_epoch=7).suggestions == []


def test_layers_without_a_chosen_one_are_refused() -> None:
    """A damaged table is told, not guessed at."""
    with pytest.raises(TableError, match="no row is the chosen one"):
        advice(layers=[layer(1, "middle", 0.9)])


def test_a_significantly_worse_fine_tuning_is_told() -> None:
    """It is more than not being better."""
    worse = Comparison(50, 20, 0, -0.4, -0.5, -0.3, 1e-5)

    assert "The head is significantly better" in advice(comparison=worse).ship.why


def test_suggested_commands_are_valid(tmp_path: Path) -> None:
    """Every value that a suggestion sets is one that params.yaml takes."""
    different = [layer(1, "middle", 0.98), layer(2, "last", 0.95)]
    several = [advice(), advice(best_epoch=8, layers=different), advice(layers=[layer(1, "last", 0.95)])]
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


def test_costs_are_told_so_far_as_they_were_measured(tmp_path: Path) -> None:
    """Timings that are not there are said to be missing, not made up, and the others to be of an earlier run."""
    write_metrics(tmp_path / "head.json", {"training_seconds": 1.84})
    write_metrics(tmp_path / "finetune.json", {"prediction_images_per_second": 512.3})
    told = describe_costs(tmp_path)

    assert told.startswith("when they last ran")
    assert "the head trained in 1.84 s" in told
    assert "embedded, (not measured) images/s; fine-tuning took (not measured) s and predicted 512" in told
