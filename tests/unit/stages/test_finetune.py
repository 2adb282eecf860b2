"""Fine-tuning: what is trained, which epoch is kept, how a run resumes, and that two processes train like one."""

import errno
import math
import os
import shutil
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch._dynamo
import torchvision
from torch import multiprocessing, nn

from headstart.artifacts.bundle import read_bundle, write_bundle
from headstart.artifacts.features import open_features
from headstart.backbone.build import build_backbone
from headstart.backbone.params import BackboneParams
from headstart.base.errors import DataError, FeatureFileError, ParamsError, TrainingError
from headstart.base.machine import Rank
from headstart.imaging.transform import Transform
from headstart.tables.index import IndexRow
from headstart.tables.rows import write_rows
from headstart.tables.split import SplitRow
from stages.finetune import trainer
from stages.finetune.augmentation import Augmentation
from stages.finetune.checkpoint import Checkpoint
from stages.finetune.classifier import Classifier
from stages.finetune.frozen_prefix import find_frozen_prefix
from stages.finetune.history import Epoch, Kept
from stages.finetune.loader import even_batches
from stages.finetune.params import Params
from stages.finetune.ranks import Ranks
from stages.finetune.run import FinetuneRun
from stages.finetune.trainable_layers import TrainableLayers, layer_depths, layer_order
from tests.conftest import backbone_params
from tests.support.finetuning import CLASSES, Tune, differing, finetune_params, rows_of, tensors_of


def keep_the_last(self: trainer.Trainer, end: trainer.State) -> Kept:  # noqa: ARG001
    """Choose the last epoch, whatever its scores are. It replaces `Trainer._choose`."""
    return Kept.of(self.history[-1])


@pytest.fixture
def keep_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make runs keep the last epoch, so that a test sees what training did."""
    monkeypatch.setattr(trainer.Trainer, "_choose", keep_the_last)


def test_the_start_is_the_probe_on_the_cached_embeddings(tune: Tune, tiny_backbone: BackboneParams) -> None:
    """Epoch 0 is scored. If it is kept, the bundle holds the pretrained backbone and a fitted head."""
    tuned = tune(epochs=0)
    backbone = build_backbone(tiny_backbone).network.state_dict()

    assert [one.epoch for one in tuned.history] == [0]
    assert differing(dict(tuned.bundle.backbone), {name: value.numpy() for name, value in backbone.items()}) == set()
    assert tuned.history[0].log_loss < math.log(3)
    assert tuned.bundle.trained_on["epoch"] == 0


def test_the_loss_of_a_random_head_starts_near_chance(tune: Tune) -> None:
    """The calibrated log loss of a random head is about that of a guess among three classes."""
    (start,) = tune(epochs=0, init="random").history

    assert start.log_loss == pytest.approx(math.log(3), abs=0.15)


def test_the_better_of_start_and_epochs_is_kept(tune: Tune) -> None:
    """If the learning rates wreck the network, the bundle holds the start, and the history shows it."""
    start = tune(epochs=0)
    wrecked = tune(epochs=2, optimizer__kind="sgd", optimizer__backbone_rate=1.0, optimizer__head_rate=1.0)

    assert wrecked.history[-1].log_loss > wrecked.history[0].log_loss
    assert wrecked.kept.epoch == 0
    assert differing(tensors_of(start), tensors_of(wrecked)) == set()
    assert (wrecked.predictions.logits == start.predictions.logits).all()


def test_a_training_that_is_better_is_kept(tune: Tune) -> None:
    """Training improves a random head, and the last epoch, or its mean with the start, is kept with its temperature."""
    tuned = tune(init="random", epochs=6, optimizer__head_rate=0.02, augmentation__kind="none")

    assert tuned.kept.epoch == tuned.history[-1].epoch == 6
    assert tuned.kept.log_loss <= tuned.history[-1].log_loss < tuned.history[0].log_loss
    assert tuned.bundle.temperature == tuned.kept.temperature


@pytest.mark.parametrize(
    ("losses", "kept"),
    [
        ([0.5, 0.1, 0.4, 0.45, 0.3, 0.35], (2, 0.5)),  # epoch 1 is lower by luck; the mean with a half is lowest
        ([0.5, 0.1, 0.25, 0.45, 0.3, 0.35], (2, 1.0)),
        ([0.2, 0.1, 0.4, 0.45, 0.3, 0.35], (0, 1.0)),
        ([0.2, 0.1, 0.4, 0.15, 0.3, 0.35], (2, 0.25)),  # the last epoch is worse than the start, a quarter of it is not
    ],
)
def test_the_last_epoch_its_means_with_the_start_or_the_start_is_kept(
    tune: Tune, monkeypatch: pytest.MonkeyPatch, losses: list[float], kept: tuple[int, float]
) -> None:
    """The lowest log loss of the last epoch and of its means counts, if it is lower than that of the start."""
    scores = iter(losses)
    monkeypatch.setattr(
        trainer.Trainer,
        "_score",
        lambda _, number, loss, factor: Epoch(number, factor, loss, 0.9, next(scores), temperature=1.0),
    )
    tuned = tune(epochs=2)

    assert [one.log_loss for one in tuned.history] == losses[:3]
    assert (tuned.kept.epoch, tuned.kept.share) == kept


@pytest.mark.usefixtures("keep_last")
@pytest.mark.parametrize("unfreeze", ["all", "layer4", "head"])
@pytest.mark.parametrize("batch_norm", ["train", "frozen"])
@pytest.mark.parametrize("augmentation", ["none", "crop"])
@pytest.mark.slow
def test_only_what_is_unfrozen_moves(
    tune: Tune, tiny_backbone: BackboneParams, unfreeze: str, batch_norm: str, augmentation: str
) -> None:
    """Exactly the parameters from the named layer on change, and only their statistics follow batches."""
    start = tensors_of(tune(epochs=0))
    moved = differing(
        start,
        # Without smoothing the probe is so sure of these photos that gradients vanish.
        tensors_of(
            tune(
                unfreeze=unfreeze,
                batch_norm=batch_norm,
                augmentation__kind=augmentation,
                epochs=1,
                label_smoothing=0.1,
            )
        ),
    )
    network = build_backbone(tiny_backbone).network
    parameters = {name for name, _ in network.named_parameters()}
    learning = {"all": "", "head": "nothing", "layer4": "layer4."}[unfreeze]
    expected = {name for name in parameters if name.startswith(learning)} | {"weight", "bias"}
    if batch_norm == "train":
        expected |= {name for name, _ in network.named_buffers() if name.startswith(learning)}

    # The scale of a norm before a layer and another norm that follows the batches has a gradient of zero.
    assert moved | ({"layer4.0.bn1.weight"} & expected) == expected


@pytest.mark.usefixtures("keep_last")
def test_a_frozen_prefix_runs_once_and_changes_nothing(tune: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without augmentation, frozen layers run once per image, and the result is as if they ran in every epoch."""
    options = {"unfreeze": "layer4", "augmentation__kind": "none", "epochs": 3}
    once = tune(**options)
    once.checkpoint.remove()
    with monkeypatch.context() as patch:
        patch.setattr("stages.finetune.training.find_frozen_prefix", lambda *_: None)
        every_time = tune(**options)

    assert (once.has_frozen_prefix, every_time.has_frozen_prefix) == (True, False)
    for name, values in tensors_of(once).items():
        np.testing.assert_allclose(values, tensors_of(every_time)[name], rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_one_batch_can_be_overfitted(tune: Tune) -> None:
    """With a constant learning rate and no augmentation, the training loss falls to nearly zero."""
    tuned = tune(
        init="random",
        epochs=40,
        batch=32,
        augmentation__kind="none",
        schedule__kind="constant",
        optimizer__backbone_rate=0.005,
        optimizer__head_rate=0.005,
    )
    losses = [one.training_loss for one in tuned.history[1:]]

    assert losses[0] is not None
    assert losses[0] > 0.8
    assert losses[-1] is not None
    assert losses[-1] < 0.05


@pytest.mark.usefixtures("keep_last")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer__kind": "sgd", "augmentation__kind": "mild", "augmentation__mixup": 0.4, "label_smoothing": 0.1},
        {"optimizer__kind": "rmsprop", "unfreeze": "layer4", "augmentation__kind": "none", "accumulate": 2},
    ],
    ids=["default", "mixup", "prefix"],
)
@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits(tune: Tune, changes: dict[str, Any]) -> None:
    """A run that was killed after an epoch ends with the weights, history and logits of an undisturbed run."""
    whole = tune(epochs=4, **changes)
    whole.checkpoint.remove()

    def die_after_two(history: Sequence[Epoch]) -> None:
        if history[-1].epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(die_after_two, epochs=4, **changes)
    seen: list[int] = []
    resumed = tune(lambda history: seen.append(history[-1].epoch), epochs=4, **changes)

    assert seen == [3, 4]
    assert resumed.history == whole.history
    assert differing(tensors_of(whole), tensors_of(resumed)) == set()
    assert (resumed.predictions.logits == whole.predictions.logits).all()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.usefixtures("keep_last")
@pytest.mark.slow
def test_half_precision_learns_nearly_the_same(tune: Tune, precision: str) -> None:
    """Forward passes in half precision give nearly the same weights as full precision, but not the same bits."""
    full, half = (tensors_of(tune(precision=name, augmentation__kind="none")) for name in ("float32", precision))
    for name in differing(full, half):
        assert half[name].dtype == full[name].dtype
        assert np.abs(half[name] - full[name]).max() < 0.05 * max(np.abs(full[name]).max(), 0.1), name

    assert differing(full, half)


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a compiler")
@pytest.mark.usefixtures("keep_last")
@pytest.mark.slow
def test_a_compiled_network_learns_the_same(tune: Tune) -> None:
    """`runtime.compile` compiles the network and changes results only by rounding."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    eager = tune(augmentation__kind="none")
    eager.checkpoint.remove()
    compiled = tensors_of(tune(runtime={"compile": True}, augmentation__kind="none"))
    for name in differing(tensors_of(eager), compiled):
        assert np.allclose(tensors_of(eager)[name], compiled[name], rtol=1e-3, atol=1e-4), name

    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


def test_two_runs_give_the_same_bits(tune: Tune, finetune_project: Path) -> None:
    """The same inputs give the same files, byte for byte."""
    for name in ("one", "two"):
        tuned = tune(augmentation__kind="crop")
        tuned.checkpoint.remove()
        write_bundle(finetune_project / name, tuned.bundle)
    files = [{path.name: path.read_bytes() for path in (finetune_project / name).iterdir()} for name in ("one", "two")]

    assert files[0] == files[1]


def test_results_do_not_depend_on_the_threads_that_load(tune: Tune) -> None:
    """One loading thread and three give the same logits: a draw depends only on image, epoch and seed."""
    logits = []
    for workers in (1, 3):
        tuned = tune(runtime={"workers": workers}, augmentation__kind="crop")
        tuned.checkpoint.remove()
        logits.append(tuned.predictions.logits)

    assert (logits[0] == logits[1]).all()


@pytest.mark.parametrize("change", [{"seed": 1}, {"optimizer__backbone_rate": 0.5}, {"label_smoothing": 0.3}])
def test_the_checkpoint_of_another_run_is_not_used(tune: Tune, change: dict[str, Any]) -> None:
    """A checkpoint belongs to its params: with other params, training starts from the beginning."""
    first = tune()
    assert first.checkpoint.folder.is_dir()
    seen: list[int] = []
    tune(lambda history: seen.append(history[-1].epoch), **change)

    assert seen == [0, 1, 2]


@pytest.mark.parametrize("damage", ["cut", "foreign", "noise", "bit"])
@pytest.mark.slow
def test_a_damaged_or_foreign_checkpoint_is_reported_and_not_used(
    tune: Tune, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint that is cut, noise, or has one flipped bit gives a warning; also of another run, it is not used."""
    whole = tune()
    path = whole.checkpoint.folder / "checkpoint.pt"
    if damage == "foreign":
        content = whole.checkpoint.load()
        other = "0" * 64
        Checkpoint(other).save(content or {})
        path.write_bytes((path.parents[1] / other / "checkpoint.pt").read_bytes())
    elif damage == "bit":
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
    else:
        path.write_bytes(path.read_bytes()[:1000] if damage == "cut" else b"noise")
    seen: list[int] = []
    again = tune(lambda history: seen.append(history[-1].epoch))

    assert seen == [0, 1, 2]
    assert ("is damaged" in capsys.readouterr().out) == (damage != "foreign")
    assert (again.predictions.logits == whole.predictions.logits).all()


def test_a_loss_that_is_not_finite_names_step_and_images(tune: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training stops at the first loss that is not finite. The error names the step, its images and what to lower."""
    monkeypatch.setattr("torch.nn.functional.cross_entropy", lambda logits, *_, **__: logits.sum() * math.nan)
    with pytest.raises(TrainingError, match=r"epoch 1, step 1 of 3: the loss is nan, on \w+/\d.*backbone_rate"):
        tune()


def test_memory_that_does_not_suffice_says_what_to_change(tune: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a device runs out of memory, the error names the params that help."""

    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("torch.nn.functional.cross_entropy", fail)
    with pytest.raises(TrainingError, match=r"out of memory at a batch of 4 .*finetune\.accumulate"):
        tune()


@pytest.mark.usefixtures("keep_last")
@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_accumulated_parts_give_the_result_of_the_whole_batch(tune: Tune, mixup: float) -> None:
    """With frozen statistics, a batch in two parts takes the same steps as a whole batch."""
    options = {"batch_norm": "frozen", "batch": 8, "optimizer__kind": "sgd", "augmentation__mixup": mixup}
    whole, parts = (tensors_of(tune(accumulate=number, **options)) for number in (1, 2))

    for name, values in whole.items():
        np.testing.assert_allclose(parts[name], values, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.usefixtures("keep_last")
def test_the_loss_is_weighted_by_class(tune: Tune) -> None:
    """A class that counts almost nothing in the loss is never predicted, and one that counts most is."""
    options = {"init": "random", "epochs": 3, "optimizer__head_rate": 0.05}
    light, heavy = (tune(**options, class_weights={"red": weight}) for weight in (1e-4, 100.0))

    assert "red" not in light.predictions.predicted
    assert "red" in heavy.predictions.predicted


def test_nothing_of_the_test_images_reaches_the_bundle(tune: Tune) -> None:
    """If the labels of the test images are exchanged, everything that is chosen and fitted stays the same."""
    plain = tune()
    plain.checkpoint.remove()

    def exchanged(row: SplitRow) -> SplitRow:
        return replace(row, label=CLASSES[CLASSES.index(row.label) - 1]) if row.split == "test" else row

    other = tune(change_row=exchanged)

    assert other.history == plain.history
    assert differing(tensors_of(plain), tensors_of(other)) == set()
    assert other.predictions.labels != plain.predictions.labels


def test_a_given_val_split_is_the_inner_validation(tune: Tune) -> None:
    """If the data set has a split `val`, it is the inner validation, and nothing is taken from the training images."""
    tuned = tune(epochs=0, change_row=lambda row: replace(row, split="val") if row.path.endswith("2.jpg") else row)

    assert [image.row.path[-5:] for image in tuned.subsets.validation] == ["2.jpg"] * 3


def test_a_class_that_only_validates_gives_a_warning(tune: Tune, capsys: pytest.CaptureFixture[str]) -> None:
    """If a whole class is one group and falls to the inner validation, a warning names the class."""
    one = CLASSES[0]
    tune(init="random", folds=2, change_row=lambda row: replace(row, group=one if row.label == one else row.group))

    assert f"no image of ['{one}'] is trained on" in capsys.readouterr().out


def test_groups_are_not_divided_between_training_and_inner_validation(tune: Tune) -> None:
    """Pictures of one patient or burst are either all trained on or all held out."""
    tuned = tune(epochs=0, change_row=lambda row: replace(row, group=f"{row.label} {int(row.path[-5]) // 2}"))
    training_groups = {image.group for image in tuned.subsets.training}

    assert training_groups.isdisjoint(image.group for image in tuned.subsets.validation)
    assert len(tuned.subsets.training) + len(tuned.subsets.validation) == 18


VIEW = Transform(32, 32, squash=False, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def test_weights_of_modules_that_are_never_called_train_with_their_layer() -> None:
    """Attention uses the weights of its projections without calling them. They train with it and have its depth."""
    network = torchvision.models.VisionTransformer(
        image_size=32, patch_size=16, num_layers=3, num_heads=2, hidden_dim=8, mlp_dim=8
    )
    network.heads = nn.Identity()
    classifier, order = Classifier(network, VIEW, ["last"], "mean", num_classes=2, seed=0), layer_order(network, 32)
    layer = "encoder.layers.encoder_layer_"
    TrainableLayers(classifier, order, f"{layer}1", train_norms=False)
    depth_of = layer_depths(network, order, [f"{layer}{number}" for number in range(3)])
    learning = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    later = (f"{layer}1", f"{layer}2", "encoder.ln")

    assert learning == {name for name, _ in network.named_parameters() if name.startswith(later)}
    assert [depth_of[f"{layer}{number}.self_attention.out_proj"] for number in range(3)] == [1, 2, 3]


def test_a_prefix_that_is_no_chain_is_not_removed() -> None:
    """If position embeddings are added between layers, the rest alone gives other outputs, so all layers run."""
    network: Any = timm.create_model("test_vit", num_classes=0, img_size=32)
    network.pos_embed.data.normal_(0, 1)
    classifier, order = Classifier(network, VIEW, ["last"], "mean", num_classes=2, seed=0), layer_order(network, 32)

    assert find_frozen_prefix(classifier, "blocks.1", order, 32) is None
    assert find_frozen_prefix(classifier, None, order, 32) is not None


def test_no_batch_is_a_lone_image() -> None:
    """Batches have at least two images, their lengths differ by at most one, and every image is in one of them."""
    for num in range(2, 40):
        for batch in range(2, 12):
            batches = even_batches(np.arange(num), batch)
            lengths = [len(one) for one in batches]
            assert min(lengths) >= 2
            assert max(lengths) - min(lengths) <= 1
            assert max(lengths) <= batch + 1
            assert np.concatenate(batches).tolist() == list(range(num))


def test_drawing_leaves_torchs_generators_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Augmentations are drawn ahead of the network, as many as there are threads. This must not change dropout."""
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda _: pytest.fail("a GPU's generator was seeded"))
    augmentation = Augmentation("crop", VIEW, 0.3, "auto", 0)
    before = torch.random.get_rng_state()
    row = IndexRow("a.jpg", "0" * 64, "JPEG", 60, 40, "ok", "")
    plans = [augmentation.plan(row, epoch) for epoch in (1, 1, 2)]

    assert torch.equal(torch.random.get_rng_state(), before)
    assert plans[0] == plans[1]
    assert plans[1] != plans[2]


def test_a_sample_batch_is_shown_before_the_training(tune: Tune) -> None:
    """Two images of each of three classes are shown once, before the first score; none is of the test set."""
    calls: list[Any] = []
    tuned = tune(watch=lambda history: calls.append(len(history)), show=calls.append)

    assert calls[1:] == [1, 2, 3]
    assert [one.image.label for one in calls[0]] == [name for name in CLASSES for _ in range(2)]
    assert {one.image.row.digest for one in calls[0]} <= {image.row.digest for image in tuned.subsets.training}


def test_a_table_with_a_label_that_is_no_class_is_refused(tune: Tune) -> None:
    """An unknown label in the split table is named before any training."""
    with pytest.raises(DataError, match=r"labels \['cow'\] are not in data/classes.json"):
        tune(change_row=lambda row: replace(row, label="cow") if row.split == "test" else row)


def test_too_few_groups_for_the_probe_are_refused(tune: Tune) -> None:
    """One group of images per class cannot be cross-validated. The error names the param."""
    with pytest.raises(DataError, match="finetune.folds: found"):
        tune(change_row=lambda row: replace(row, group=row.label))


def test_a_checkpoint_that_cannot_be_written_says_so(tune: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk is full, the error names the file."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("headstart.base.kept.atomic_path", fail)
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: cannot be written .*No space left on device"):
        tune()


def test_a_copy_of_an_image_is_not_taken_for_it(finetune_project: Path, tune: Tune) -> None:
    """The index also lists copies. Only the images that the split names are used."""
    index, _ = rows_of(finetune_project)
    copy = replace(index[0], path="zz/copy.jpg", status="duplicate", reason=index[0].path)
    write_rows(finetune_project / "index.csv", [*index, copy], IndexRow)
    tuned = tune(epochs=0)
    images = [*tuned.subsets.training, *tuned.subsets.validation, *tuned.subsets.test]

    assert "zz/copy.jpg" not in {image.row.path for image in images}


def test_a_misspelt_layer_is_refused_with_similar_names(tune: Tune) -> None:
    """A misspelt layer ends the run before any training, and the error suggests similar names."""
    with pytest.raises(ParamsError, match=r"finetune\.unfreeze: found 'layer\.4', which is no layer .*layer4"):
        tune(unfreeze="layer.4")


def test_features_of_another_backbone_are_refused(tune: Tune, squeezenet: Path) -> None:
    """They are refused because the probe would be fitted on embeddings that this network does not give."""
    with pytest.raises(FeatureFileError, match=r"backbone is 'timm/test_resnet', .* expects 'squeezenet1_1'"):
        tune(backbone=backbone_params("squeezenet1_1", squeezenet))


def test_missing_images_are_reported_before_the_network_is_built(tune: Tune, finetune_project: Path) -> None:
    """On a machine that has the features but not the photos, the error says at once how many are missing."""
    (finetune_project / "photos" / "red" / "3.png").unlink()

    with pytest.raises(DataError, match="1 of the 24 images that are needed are missing"):
        tune()


def test_the_bundle_holds_the_network(tune: Tune, finetune_project: Path) -> None:
    """Reading the bundle back gives the tensors that were written, with any number of axes."""
    tuned = tune()
    write_bundle(finetune_project / "bundle", tuned.bundle)
    again = read_bundle(finetune_project / "bundle")

    assert differing(dict(again.backbone), dict(tuned.bundle.backbone)) == set()
    assert {np.asarray(value).ndim for value in again.backbone.values()} >= {0, 1, 4}
    assert again.track == "finetune"
    assert again.spec["layers"] == ["last"]


def _train_rank(rank: int, folder: str, params: Params, path: str) -> None:
    """Train as one of two processes."""
    os.chdir(folder)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": path}
    torch.set_num_threads(1)
    trainer.Trainer._choose = keep_the_last  # type: ignore[method-assign]
    index, split = rows_of(Path(folder))
    with open_features(Path("features.h5")) as features:
        one = FinetuneRun(features, index, split, classes=CLASSES, split_sha256="s", params=params)
        one.train(Rank(rank, 2), lambda _: None, predict=False)


@pytest.mark.usefixtures("keep_last")
@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tune: Tune, finetune_project: Path, tiny_backbone: BackboneParams) -> None:
    """The gradients of two gloo processes add up to those of the whole batch, also if batches are uneven."""
    options: dict[str, Any] = {
        "batch_norm": "frozen",
        "batch": 5,
        "optimizer__kind": "sgd",
        "augmentation__kind": "crop",
    }
    alone = tune(**options)
    alone.checkpoint.remove()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    params = finetune_params(finetune_project / "photos", tiny_backbone, **options)
    multiprocessing.spawn(_train_rank, (str(finetune_project), params, port), nprocs=2)  # type: ignore[attr-defined]
    together = tune(**options)  # continues from the checkpoint, which has all epochs

    assert len(together.history) == 3
    for one, other in zip(alone.history, together.history, strict=True):
        assert one.log_loss == pytest.approx(other.log_loss, rel=1e-3)
        assert (one.training_loss or 0) == pytest.approx(other.training_loss or 0, rel=1e-4)
    for name, values in tensors_of(alone).items():
        np.testing.assert_allclose(tensors_of(together)[name], values, rtol=1e-3, atol=1e-5, err_msg=name)


def test_batch_norm_that_trains_needs_gpus_for_several_processes(tiny_backbone: BackboneParams) -> None:
    """On a CPU each process would use only its own images' statistics, so this is refused."""
    ranks = Ranks(Rank(0, 2), torch.device("cpu"))
    with pytest.raises(ParamsError, match="finetune.batch_norm: train needs GPUs"):
        ranks.synchronise(build_backbone(tiny_backbone).network)
    ranks.synchronise(nn.Linear(2, 2))  # a network without BatchNorm is accepted
