"""Fine-tuning: the head reads several layers, weights are averaged, and a second training learns from every image."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from headstart.artifacts.features import open_features
from headstart.backbone.params import BackboneParams
from headstart.linear.layer_choice import LayerChooser
from stages.extract.extraction import extract
from stages.finetune import trainer
from stages.finetune.checkpoint import Checkpoint
from stages.finetune.history import Epoch, Kept
from stages.finetune.stepper import Stepper
from tests.conftest import extract_params, index_of
from tests.support.finetuning import Tune, differing, tensors_of
from tests.unit.stages.test_finetune import keep_the_last

LAYERS = ["layer2", "layer3", "last"]
CHOOSE = trainer.Trainer._choose


@pytest.fixture
def tune_layers(
    finetune_project: Path,
    tune: Tune,
    tiny_backbone: BackboneParams,
    monkeypatch: pytest.MonkeyPatch,
) -> Tune:
    """Give a function like `tune` for a head that reads three layers, whose last epoch is kept unaveraged."""
    backbone = tiny_backbone.model_copy(update={"layers": LAYERS})
    index = index_of(finetune_project / "photos")
    extract(
        index,
        extract_params(finetune_project / "photos", backbone),
        finetune_project / "features.h5",
        finetune_project / "store",
    )
    monkeypatch.setattr(LayerChooser, "choose_with", lambda chooser, _: chooser.choose("all", "finetune.init"))
    monkeypatch.setattr(trainer.Trainer, "_choose", keep_the_last)
    return lambda *args, **changes: tune(*args, backbone=backbone, **changes)


def test_the_start_is_logistic_regression_on_all_the_layers(tune_layers: Tune, finetune_project: Path) -> None:
    """At epoch 0 the classifier predicts as the bundle's head does on the cached embeddings of its layers."""
    tuned = tune_layers(epochs=0)
    predictions = tuned.predictions
    with open_features(finetune_project / "features.h5") as features:
        rows = np.argsort(np.argsort(features.rows(predictions.digests)))
        pieces = features.pieces(LAYERS, np.sort(features.rows(predictions.digests)), 2**20)
        cached = np.concatenate([views for _, views in pieces])[rows]

    assert list(tuned.bundle.layers) == LAYERS
    assert tuned.bundle.weight.shape == (3, sum(tuned.bundle.dims))
    assert np.allclose(predictions.logits, tuned.bundle.logits(cached), atol=1e-3)


@pytest.mark.parametrize("unfreeze", ["layer3", "layer4", "head"])
def test_layers_inside_a_frozen_prefix_are_kept_with_its_activations(
    tune_layers: Tune, monkeypatch: pytest.MonkeyPatch, unfreeze: str
) -> None:
    """If the head reads layers of the frozen prefix, running the prefix once gives what running it always gives."""
    options = {"unfreeze": unfreeze, "augmentation__kind": "none", "epochs": 2}
    once = tune_layers(**options)
    once.checkpoint.remove()
    monkeypatch.setattr("stages.finetune.training.find_frozen_prefix", lambda *_: None)
    every_time = tune_layers(**options)

    assert (once.has_frozen_prefix, every_time.has_frozen_prefix) == (True, False)
    for name, values in tensors_of(once).items():
        np.testing.assert_allclose(values, tensors_of(every_time)[name], rtol=1e-3, atol=1e-5, err_msg=name)


def test_a_mean_of_start_and_end_is_kept_if_it_is_better(tune_layers: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kept weights are the mean with the lowest log loss on the inner validation, which the bundle then has."""
    rates = {"optimizer__kind": "sgd", "optimizer__backbone_rate": 0.3, "optimizer__head_rate": 0.3, "epochs": 1}
    start = tune_layers(epochs=0)
    end = tune_layers(**rates)
    end.checkpoint.remove()
    scores = iter([0.5, 0.4, 0.3])  # of the start, the epoch and the mean
    monkeypatch.setattr(trainer.Trainer, "_choose", CHOOSE)
    monkeypatch.setattr(trainer, "SHARES", (0.125,))
    monkeypatch.setattr(
        trainer.Trainer,
        "_score",
        lambda _, number, loss, factor: Epoch(number, factor, loss, 0.9, next(scores), temperature=1.5),
    )
    mean = tune_layers(**rates)

    assert (mean.kept.share, mean.kept.log_loss, mean.bundle.temperature) == (0.125, 0.3, 1.5)
    for name, values in mean.bundle.backbone.items():
        if values.dtype == np.float32:
            one, other = (torch.from_numpy(np.array(tuned.bundle.backbone[name])) for tuned in (start, end))
            np.testing.assert_allclose(values, torch.lerp(one, other, 0.125).numpy(), rtol=1e-5, atol=1e-6)


def test_a_refit_learns_from_every_image(tune_layers: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second training starts from a head of all images and takes as many steps; history and temperature stay."""
    batches: list[int] = []
    step = Stepper.step

    def counting(self: Stepper, share: NDArray[np.intp], *given: Any) -> list[torch.Tensor]:
        batches.append(len(share))
        return step(self, share, *given)

    monkeypatch.setattr(Stepper, "step", counting)
    plain = tune_layers(epochs=2)
    plain.checkpoint.remove()
    num_seen = sum(batches)
    refitted = tune_layers(epochs=2, refit="all")

    assert sum(batches) == 3 * num_seen  # the first training once more, then the second one
    assert refitted.history == plain.history
    assert refitted.bundle.temperature == plain.bundle.temperature
    assert (plain.bundle.trained_on["num_images"], refitted.bundle.trained_on["num_images"]) == (12, 18)
    assert len(refitted.bundle.references.digests) == 18
    assert np.array_equal(refitted.bundle.references.held_out, plain.bundle.references.held_out)
    assert {"weight", "bias"} < differing(tensors_of(plain), tensors_of(refitted))
    assert refitted.timings.num_images == 2 * plain.timings.num_images


def test_a_refit_of_a_kept_start_is_the_probe_on_every_image(
    tune_layers: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If training is not better than its start, the network stays as it was, and the head is fitted to all images."""
    monkeypatch.setattr(trainer.Trainer, "_choose", lambda self, _: Kept.of(self.history[0]))
    plain = tune_layers(epochs=1)
    plain.checkpoint.remove()
    refitted = tune_layers(epochs=1, refit="all")

    assert differing(tensors_of(plain), tensors_of(refitted)) == {"weight", "bias"}


@pytest.mark.slow
def test_a_killed_refit_goes_on_to_the_same_bits(tune_layers: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was killed in its second training ends with the weights of an undisturbed run."""
    whole = tune_layers(epochs=3, refit="all")
    whole.checkpoint.remove()
    save: Callable[[Checkpoint, dict[str, Any]], None] = Checkpoint.save

    def die(checkpoint: Checkpoint, content: dict[str, Any]) -> None:
        save(checkpoint, content)
        if content.get("num_epochs") == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Checkpoint, "save", die)
        tune_layers(epochs=3, refit="all")
    seen: list[Sequence[Epoch]] = []
    resumed = tune_layers(seen.append, epochs=3, refit="all")

    assert not seen
    assert differing(tensors_of(whole), tensors_of(resumed)) == set()
    assert (resumed.predictions.logits == whole.predictions.logits).all()
