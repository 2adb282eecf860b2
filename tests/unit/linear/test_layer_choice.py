"""The choice of layers: it takes what helps, prefers fewer columns, and stays within a number of columns."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from headstart.artifacts.features import open_features
from headstart.base.errors import ParamsError
from headstart.linear.folds import make_folds
from headstart.linear.layer_choice import LayerChoice, LayerChooser, Layers
from tests.support.head_data import FOLDS, RESOURCES, digests_of, equal_targets, write_features

NUM = 240


def choose(
    folder: Path,
    layers: Mapping[str, NDArray[np.float64]],
    wanted: Layers = "auto",
    *,
    including: str | None = None,
    num: int = NUM,
    c_grid: Sequence[float] = (1.0, 0.1),
) -> LayerChoice:
    """Choose among layers by their first rows, which belong to the four classes 0, 1, 2, 3, 0, 1, ..."""
    digests, classes = digests_of(num), np.arange(num) % 4
    layers = {name: rows[:num] for name, rows in layers.items()}
    write_features(folder / "f.h5", digests, {name: rows.astype(np.float32) for name, rows in layers.items()})
    with open_features(folder / "f.h5") as features:
        chooser = LayerChooser(
            features,
            digests,
            equal_targets(classes, 4),
            make_folds([str(number) for number in classes], digests, FOLDS, 0, "head.folds"),
            c_grid=c_grid,
            max_bytes=2**30,
            resources_for=lambda _, __: RESOURCES,
        )
        return chooser.choose(wanted, "head.layers") if including is None else chooser.choose_with(including)


def halves(noise: float = 1.5) -> dict[str, NDArray[np.float64]]:
    """Return two layers that each know one bit of the class, a layer of noise, and a last one that knows one bit."""
    random = np.random.default_rng(0)
    bits = np.stack([np.arange(NUM) % 2, np.arange(NUM) % 4 // 2]) * 2.0 - 1

    def layer(bit: int, dim: int) -> NDArray[np.float64]:
        return bits[bit][:, None] + noise * random.normal(size=(NUM, dim))

    return {
        "first": layer(0, 6),
        "second": layer(1, 9),
        "noise": random.normal(size=(NUM, 8)),
        "last": layer(0, 7),
    }


def test_layers_that_know_different_things_are_combined(tmp_path: Path) -> None:
    """Two layers that each know half of the class are read together, without the layers that add nothing."""
    choice = choose(tmp_path, halves())

    assert "second" in choice.layers
    assert {"first", "last"} & set(choice.layers)
    assert "noise" not in choice.layers
    assert choice.score.accuracy > 0.8
    assert max(choice.scores[name,].accuracy for name in ("first", "second", "noise", "last")) < 0.6
    assert ("first", "second", "noise", "last") in choice.scores
    assert choice.designs.rows.dim == sum(halves()[layer].shape[1] for layer in choice.layers)


def test_of_sets_that_are_as_good_the_narrowest_is_taken(tmp_path: Path) -> None:
    """If one layer knows all, layers that repeat it are not added."""
    random = np.random.default_rng(1)
    knows = np.eye(4)[np.arange(NUM) % 4] * 3 + random.normal(size=(NUM, 4))
    layers = {
        "copy": np.repeat(knows, 3, axis=1) + 0.01 * random.normal(size=(NUM, 12)),
        "last": knows,
    }

    assert choose(tmp_path, layers).layers == ("last",)
    assert choose(tmp_path, layers, "all").layers == ("copy", "last")


def test_named_layers_are_read_together(tmp_path: Path) -> None:
    """Layers that are named are read, all of them, in the order of the network; unknown names are an error."""
    assert choose(tmp_path, halves(), ["last", "noise"]).layers == ("noise", "last")
    assert choose(tmp_path, halves(), ["noise"]).layers == ("noise",)
    with pytest.raises(ParamsError, match=r"head\.layers: found \['lost'\]; expected auto, all or some of \['first'"):
        choose(tmp_path, halves(), ["lost"])


def test_a_layer_can_be_required(tmp_path: Path) -> None:
    """The best set with a given layer is taken, even if a set without it is better."""
    assert "noise" in choose(tmp_path, halves(), including="noise").layers
    assert "last" in choose(tmp_path, halves(), including="last").layers


def test_a_required_layer_is_combined_with_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets grow from a layer that is required, also where not all layers fit together and it is the worst of them."""
    monkeypatch.setattr("headstart.linear.layer_choice.MAX_COLUMNS", 17)
    choice = choose(tmp_path, halves(), including="noise")

    assert set(choice.layers) in ({"noise", "second"}, {"noise", "first"}, {"noise", "last"})
    assert choice.score.log_loss < choice.scores["noise",].log_loss


def test_of_single_layers_that_are_as_good_the_deepest_is_taken(tmp_path: Path) -> None:
    """A narrower layer that is not as deep does not win a tie."""
    random = np.random.default_rng(4)
    layers = {name: random.normal(size=(NUM, dim)) for name, dim in (("narrow", 3), ("middle", 8), ("last", 12))}

    assert choose(tmp_path, layers).layers == ("last",)


def test_wide_networks_stay_within_a_number_of_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If all layers have too many columns together, the best ones are combined as far as they fit."""
    monkeypatch.setattr("headstart.linear.layer_choice.MAX_COLUMNS", 17)
    choice = choose(tmp_path, halves())

    assert len(choice.scores) > 4
    assert all(sum(halves()[layer].shape[1] for layer in layers) <= 17 for layers in choice.scores)
    assert choice.score.accuracy > 0.8
    with pytest.raises(ParamsError, match=r"head\.layers: found layers with 30 columns together; expected at most 17"):
        choose(tmp_path, halves(), "all")


def test_few_rows_must_show_more_clearly_that_layers_help_each_other(tmp_path: Path) -> None:
    """Of 20 rows one layer is taken where two seem clearly better by one standard error; of 240 rows both are."""
    random = np.random.default_rng(3)
    knows = np.eye(4)[np.arange(NUM) % 4]
    layers = {name: signal * knows + random.normal(size=(NUM, 4)) for name, signal in (("first", 3.2), ("last", 2.4))}

    assert len(choose(tmp_path, layers, num=20).layers) == 1
    assert choose(tmp_path, layers).layers == ("first", "last")


def test_labels_of_chance_choose_nothing_wide(tmp_path: Path) -> None:
    """If no layer knows anything, one layer alone is taken."""
    random = np.random.default_rng(2)
    layers = {name: random.normal(size=(NUM, 10)) for name in ("a", "b", "last")}

    assert len(choose(tmp_path, layers).layers) == 1


def test_a_larger_set_tries_the_neighbours_of_the_best_c(tmp_path: Path) -> None:
    """All layers together, most of them noise, want a smaller c than the set that they grew from, and get it."""
    scores = choose(tmp_path, halves(), c_grid=[0.001, 0.01, 0.1, 1.0]).scores

    assert scores["first", "second", "last"].c == 0.1
    assert scores["first", "second", "noise", "last"].c == 0.01


def test_of_values_of_c_that_are_as_good_the_smallest_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The c with the lowest squared error is not taken if a smaller one is not clearly worse."""
    layers, c_grid = halves(noise=3), [0.001, 0.01, 0.1, 1.0]
    chosen = choose(tmp_path, layers, ["second"], c_grid=c_grid).score.c
    monkeypatch.setattr(
        "headstart.linear.layer_choice.one_standard_error_choice",
        lambda losses, *_: min(range(len(losses)), key=lambda place: losses[place].mean()),
    )

    assert chosen == 0.01
    assert choose(tmp_path, layers, ["second"], c_grid=c_grid).score.c == 0.1
