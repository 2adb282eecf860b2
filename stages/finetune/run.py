"""A run of fine-tuning: from images, labels and cached embeddings to a bundle and predictions."""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch

from headstart.artifacts.bundle import Bundle
from headstart.artifacts.features import Features, fingerprint
from headstart.backbone.build import build_backbone
from headstart.backbone.layers import blocks_of
from headstart.backbone.spec import transform_of
from headstart.base.errors import FeatureFileError, TrainingError
from headstart.base.machine import Rank, choose_device, make_repeatable, num_processes, run_processes, this_rank
from headstart.imaging.clock import Clock
from headstart.imaging.decode import DECODE_POLICY
from headstart.imaging.reader import Reader, memory_for_decoding
from headstart.imaging.transform import view_of
from headstart.linear.targets import Targets, make_targets
from headstart.sources.folder import open_source
from headstart.tables.classes import class_numbers
from headstart.tables.index import IndexRow
from headstart.tables.names import LAST_LAYER
from headstart.tables.predictions import Predictions
from headstart.tables.split import SplitRow
from stages.finetune.augmentation import Augmentation, choose_augmentation
from stages.finetune.checkpoint import Checkpoint, run_key
from stages.finetune.classifier import Classifier
from stages.finetune.frozen_prefix import FrozenPrefix, find_frozen_prefix
from stages.finetune.inputs import Activations, Inputs, Pictures
from stages.finetune.loader import Loader
from stages.finetune.optimizer import make_groups, make_optimizer
from stages.finetune.params import Params
from stages.finetune.probe import fit_probe
from stages.finetune.ranks import Ranks
from stages.finetune.stepper import Stepper, forward_dtype
from stages.finetune.subsets import Subsets, make_subsets
from stages.finetune.trainable_layers import TrainableLayers, layer_depths, layer_order
from stages.finetune.trained_classifier import TrainedClassifier
from stages.finetune.trainer import Epoch, Timings, Trainer, best_epoch

Watch = Callable[[Sequence[Epoch]], None]


@dataclass(frozen=True)
class FineTuned:
    """The result of a run.

    Attributes:
        bundle: The better of the start and the best epoch, by the inner validation.
        predictions: Calibrated logits of every test image.
        history: The start, then every epoch.
        subsets: Images of training, inner validation and test set.
        augmentation: Kind of augmentation, resolved.
        has_frozen_prefix: Whether frozen layers ran only once.
        device: Device of the run, such as `cpu`.
        timings: Work and time of this process.
        checkpoint: Checkpoint of the run. Remove it when everything is written.
    """

    bundle: Bundle
    predictions: Predictions
    history: Sequence[Epoch]
    subsets: Subsets
    augmentation: str
    has_frozen_prefix: bool
    device: str
    timings: Timings
    checkpoint: Checkpoint


def fine_tune(
    features: Features,
    index: Sequence[IndexRow],
    split: Sequence[SplitRow],
    *,
    classes: Sequence[str],
    split_sha256: str,
    params: Params,
    watch: Watch,
) -> FineTuned | None:
    """Train and predict the test images. Several processes train if there are several GPUs.

    Args:
        features: Open features file. Its spec says how the network sees images.
        index: Rows of all files.
        split: Rows of all images that are used.
        classes: (C,) names in the order of the logits.
        split_sha256: Digest of the split table.
        params: Params of the stage.
        watch: Function that is called with the history after every epoch.

    Returns:
        The result, or None if torchrun started this process. Such a process only trains, into the checkpoint.

    Raises:
        BackboneError, DownloadError: The backbone cannot be built as the params say.
        DataError: The tables do not fit each other, there are too few images, or the content of a file differs from
            the index.
        FeatureFileError: The features are of another backbone, or lack the layer or the images of the probe.
        ParamsError: A device, a layer or a class does not exist.
        TrainingError: A number is not finite, a device has too little memory, or processes failed.
    """
    rank, num = this_rank(), num_processes(params.runtime)
    run = FinetuneRun(features, index, split, classes=classes, split_sha256=split_sha256, params=params)
    if rank is None and num > 1 and not run_processes("stages.finetune", num):
        raise TrainingError(
            f"{num} processes could not train; their messages are above. The next run continues after the last epoch "
            "that was saved"
        )
    return run.train(rank or Rank(0, 1), watch, predict=rank is None)


class FinetuneRun:
    """One run. Its arguments are those of `fine_tune`, and it checks them before any slow work.

    Attributes:
        checkpoint: Checkpoint of this run.

    Raises:
        DataError: The tables do not fit each other, or there are too few images.
        ParamsError: The device does not exist.
    """

    def __init__(
        self,
        features: Features,
        index: Sequence[IndexRow],
        split: Sequence[SplitRow],
        *,
        classes: Sequence[str],
        split_sha256: str,
        params: Params,
    ) -> None:
        self._features, self._classes, self._params, self._split_sha256 = features, classes, params, split_sha256
        self._subsets = make_subsets(index, split, classes, params.finetune)
        self._device = torch.device(choose_device(params.runtime.device))
        self._spec = features.spec
        self._transform = transform_of(self._spec)
        sides_px = [min(image.row.width, image.row.height) for image in self._subsets.training]
        augmentation = params.finetune.augmentation
        kind = choose_augmentation(augmentation.kind, statistics.median(sides_px), self._transform)
        self._augmentation = Augmentation(kind, self._transform, augmentation.min_area, params.finetune.seed)
        data = {"split": split_sha256, "classes": "\n".join(classes)}
        self.checkpoint = Checkpoint(run_key(params, fingerprint(self._spec), data, self._device.type))

    def train(self, rank: Rank, watch: Watch, *, predict: bool) -> FineTuned | None:
        """Train from the start, or from the checkpoint of a killed run.

        Args:
            rank: Rank of this process among those that train together.
            watch: Function that is called with the history after every epoch.
            predict: Whether to predict the test images afterwards.

        Returns:
            The result, or None if the test images are not predicted.

        Raises:
            BackboneError, DownloadError: The backbone cannot be built as the params say.
            DataError: A file is missing, or its content differs from the index.
            FeatureFileError: The features are of another backbone, or lack the layer or the images of the probe.
            ParamsError: A layer or a class does not exist.
            TrainingError: A number is not finite, or a device has too little memory.
        """
        make_repeatable()
        loader = self._loader()
        classifier, order = self._start()
        labels = [image.label for image in self._subsets.training]
        targets = make_targets(labels, self._classes, self._params.finetune.class_weights, "finetune.class_weights")
        with Ranks(rank, self._device) as ranks:
            trainer, has_prefix = self._run_epochs(classifier, order, targets, loader=loader, ranks=ranks, watch=watch)
        if not predict:
            return None
        bundle, predictions, seconds = self._predict(classifier, loader, best_epoch(trainer.history))
        trainer.timings.prediction_seconds = seconds
        return FineTuned(
            bundle=bundle,
            predictions=predictions,
            history=trainer.history,
            subsets=self._subsets,
            augmentation=self._augmentation.kind,
            has_frozen_prefix=has_prefix,
            device=str(self._device),
            timings=trainer.timings,
            checkpoint=self.checkpoint,
        )

    def _loader(self) -> Loader:
        runtime, subsets = self._params.runtime, self._subsets
        reader = Reader(
            open_source(self._params.data.path),
            self._transform,
            [view_of(view) for view in self._spec["views"]],
            memory_for_decoding(runtime.memory, self._device.type),
            Clock(),
        )
        reader.check_present([image.row for image in [*subsets.training, *subsets.validation, *subsets.test]])
        return Loader(reader, self._augmentation, runtime.num_workers)

    def _start(self) -> tuple[Classifier, list[str]]:
        """Return the classifier in the state to start from, on the CPU, and the order of its layers."""
        params = self._params.finetune
        backbone = build_backbone(self._params.backbone)
        facts = backbone.facts
        expected = {"backbone": facts.name, "weights_sha256": facts.weights_sha256, "decode": DECODE_POLICY}
        for name, value in expected.items():
            if self._spec[name] != value:
                raise FeatureFileError(
                    f"features/features.h5: {name} is {self._spec[name]!r}, this run expects {value!r}. "
                    "Run: dvc repro extract"
                )
        probe = None
        if params.init == "probe":
            probe = fit_probe(self._features, self._subsets.training, self._classes, self._params)
        classifier = Classifier(
            backbone.network,
            self._transform,
            [LAST_LAYER] if probe is None else probe.layers,
            self._spec["pooling"],
            num_classes=len(self._classes),
            seed=params.seed,
        )
        if probe is not None:
            classifier.start_from(probe.model, probe.mean, probe.scale)
        return classifier, layer_order(backbone.network, self._transform.crop_px)

    def _run_epochs(
        self,
        classifier: Classifier,
        order: Sequence[str],
        targets: Targets,
        *,
        loader: Loader,
        ranks: Ranks,
        watch: Watch,
    ) -> tuple[Trainer, bool]:
        """Train the classifier in place; return the trainer and whether the frozen prefix ran only once."""
        params, subsets, device = self._params.finetune, self._subsets, self._device
        train_norms = params.batch_norm == "train"
        if train_norms:
            ranks.synchronise(classifier)
        trainable_layers = TrainableLayers(classifier, order, params.unfreeze, train_norms=train_norms)
        depths = layer_depths(classifier.backbone, order, blocks_of(classifier.backbone, self._transform.crop_px))
        prefix = self._frozen_prefix(classifier, trainable_layers, order)
        classifier.to(device)
        classifier.to(memory_format=torch.channels_last)
        optimizer = make_optimizer(make_groups(classifier, depths, params.optimizer), params.optimizer)
        compiled: Any = torch.compile(classifier) if self._params.runtime.compile else classifier
        stepper = Stepper(
            ranks.wrap(compiled),
            optimizer,
            images=subsets.training,
            targets=targets,
            params=params,
            dtype=forward_dtype(params.precision, device),
            device=device,
            ranks=ranks,
        )
        pictures = Pictures(loader, classifier.normalise, subsets, device)
        with ExitStack() as stack:
            inputs: Inputs = pictures
            if prefix is not None:
                inputs = self._activations(pictures, prefix, classifier, ranks.rank)
                stack.enter_context(prefix.removed())
            trainer = Trainer(
                classifier,
                trainable_layers,
                stepper,
                inputs,
                classes=(targets.classes, class_numbers([one.label for one in subsets.validation], self._classes)),
                params=params,
                ranks=ranks,
                checkpoint=self.checkpoint,
            )
            trainer.run(watch)
        return trainer, prefix is not None

    def _frozen_prefix(
        self, classifier: Classifier, trainable_layers: TrainableLayers, order: Sequence[str]
    ) -> FrozenPrefix | None:
        if self._augmentation.kind != "none" or self._params.finetune.augmentation.mixup:
            return None  # the input of the prefix changes from epoch to epoch
        return find_frozen_prefix(classifier, trainable_layers.first, order, self._transform.crop_px)

    def _activations(self, pictures: Pictures, prefix: FrozenPrefix, classifier: Classifier, rank: Rank) -> Activations:
        classifier.eval()
        # Each rank has its own files, so that none waits for the file of another.
        batch, folder = self._params.finetune.batch, self.checkpoint.folder / f"rank{rank.rank}"
        folder.mkdir(parents=True, exist_ok=True)
        return Activations(pictures, prefix, self._subsets, batch=batch, folder=folder, device=self._device)

    def _predict(self, classifier: Classifier, loader: Loader, best: Epoch) -> tuple[Bundle, Predictions, float]:
        """Return the bundle, the predictions of the test images, and the seconds that predicting took."""
        trained_on: dict[str, str | int] = {
            "features": fingerprint(self._spec),
            "split_sha256": self._split_sha256,
            "num_images": len(self._subsets.training),
            "epoch": best.epoch,
        }
        trained = TrainedClassifier(classifier, loader, self._params.finetune.batch, self._device)
        bundle = trained.bundle(self._spec, self._classes, best.temperature, trained_on)
        references = trained.references(bundle, self._subsets.training, self._subsets.validation)
        bundle = replace(bundle, references=references)
        start = time.monotonic()
        return bundle, trained.predict(bundle, self._subsets.test), time.monotonic() - start
