"""Trials of sets of layers are kept: another strength needs none, whatever else changes makes them anew."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.linear import layer_choice, trials
from headstart.linear.fold_ridge import FoldRidge
from stages.head.train import TrainedHead
from tests.unit.stages.test_head import Layers, blobs, bundle_bytes
from tests.unit.stages.test_head import train as train_without


def train(folder: Path, embeddings: Layers, labels: list[str], **changes: Any) -> TrainedHead:
    """Train with the trials that are kept in the folder."""
    return train_without(folder, embeddings, labels, trials=folder / "trials.safetensors", **changes)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give the number of sets in each call that fits ridge regression to compare layers."""
    calls: list[int] = []
    original = FoldRidge.fit

    def counted(self: FoldRidge, sets: Any, c_grid: Any) -> Any:
        calls.append(len(sets))
        return original(self, sets, c_grid)

    monkeypatch.setattr(FoldRidge, "fit", counted)
    return calls


def same(one: TrainedHead, other: TrainedHead, folder: Path) -> bool:
    """Whether two heads are the same, bit for bit, with the scores of all sets."""
    bytes_ = [bundle_bytes(folder / str(number), head) for number, head in enumerate((one, other))]
    return (
        bytes_[0] == bytes_[1]
        and one.fitted.layer_scores == other.fitted.layer_scores
        and np.array_equal(one.out_of_fold.logits, other.out_of_fold.logits)
    )


@pytest.mark.parametrize(("layers", "most_columns"), [("auto", 28), ("auto", 20), ("all", 28), (["last"], 20)])
def test_a_second_run_makes_no_trial_and_gives_the_same_head(
    tmp_path: Path, fits: list[int], monkeypatch: pytest.MonkeyPatch, layers: Any, most_columns: int
) -> None:
    """With and without kept trials the head is the same, bit for bit, also where not all layers fit side by side."""
    monkeypatch.setattr(layer_choice, "MAX_COLUMNS", most_columns)
    data = blobs()
    first = train(tmp_path, *data, layers=layers)
    assert fits
    fits.clear()
    second = train(tmp_path, *data, layers=layers)

    assert fits == []
    assert same(first, second, tmp_path)


@pytest.mark.parametrize("change", [{"c": 0.5}, {"kind": "sgd"}, {"max_iter": 50}, {"tol": 0.01}])
def test_an_edit_that_does_not_matter_needs_no_trial(tmp_path: Path, fits: list[int], change: dict[str, Any]) -> None:
    """Another strength, kind or end of the fit gives what it gives without kept trials."""
    data = blobs()
    train(tmp_path, *data)
    fits.clear()
    kept = train(tmp_path, *data, **change)
    assert fits == []

    assert same(kept, train_without(tmp_path, *data, **change), tmp_path)
    assert fits


@pytest.mark.parametrize(
    "change",
    [
        {"folds": 4},
        {"seed": 1},
        {"c_grid": [0.001, 0.1]},
        {"layers": "all"},
        {"class_weights": "balanced"},
        {"kind": "ridge", "c": 0.1},
    ],
)
def test_an_edit_that_matters_makes_new_trials(tmp_path: Path, fits: list[int], change: dict[str, Any]) -> None:
    """Other folds, strengths, layers or weights of classes are tried; the head is that of an empty cache."""
    layers, labels = blobs()
    labels[0] = labels[1]  # classes of different sizes
    train(tmp_path, layers, labels)
    fits.clear()
    kept = train(tmp_path, layers, labels, **change)
    assert fits

    assert same(kept, train_without(tmp_path, layers, labels, **change), tmp_path)


def test_other_data_make_new_trials(tmp_path: Path, fits: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """One other value of an embedding, one other label, other code or another version of NumPy voids the trials."""
    layers, labels = blobs()
    train(tmp_path, layers, labels)
    layers["last"][0, 0] += 1
    other_labels = [*labels[1:], labels[0]]
    for embeddings, names in ((layers, labels), (layers, other_labels)):
        fits.clear()
        train(tmp_path, embeddings, names)
        assert fits
    for name in ("code_digests", "version"):
        train(tmp_path, layers, other_labels)
        fits.clear()
        with monkeypatch.context() as patch:
            patch.setattr(trials, name, lambda *_: "other")
            train(tmp_path, layers, other_labels)
        assert fits


@pytest.mark.parametrize("damage", ["byte", "cut", "fact", "empty"])
def test_damaged_trials_are_named_and_made_anew(
    tmp_path: Path, fits: list[int], capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    """Whatever is wrong with the file, the head is the same, and the next run finds trials again."""
    data = blobs()
    first = train(tmp_path, *data)
    path = tmp_path / "trials.safetensors"
    content = path.read_bytes()
    changed = bytearray(content)
    changed[-3] ^= 1
    broken = {
        "byte": bytes(changed),
        "cut": content[:-9],
        "fact": content.replace(b'"accuracy": 0', b'"accuracy": 1', 1),
        "empty": b"",
    }[damage]
    assert broken != content
    path.write_bytes(broken)
    fits.clear()
    second = train(tmp_path, *data)

    assert f"head: WARNING: {path} is damaged" in capsys.readouterr().out
    assert fits
    fits.clear()
    assert same(first, second, tmp_path)
    assert same(first, train(tmp_path, *data), tmp_path)
    assert fits == []


def test_where_trials_cannot_be_kept_the_stage_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If the folder cannot be written, the run ends well."""
    (tmp_path / "file").write_text("no folder")
    train_without(tmp_path, *blobs(), trials=tmp_path / "file" / "trials.safetensors")

    assert "cannot be written" in capsys.readouterr().out
