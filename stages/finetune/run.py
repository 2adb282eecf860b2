"""A run of fine-tuning: from images, labels and cached embeddings to a bundle and predictions."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from headstart.artifacts.bundle import Bundle
from headstart.artifacts.features import Features, fingerprint
from headstart.backbone.spec import min_side_px_of, transform_of
from headstart.base.errors import TrainingError
from headstart.base.launch import run_processes
from headstart.base.machine import (
    Rank,
    choose_device,
    make_repeatable,
    num_local_ranks,
    num_processes,
    this_rank,
)
from headstart.imaging.clock import Clock
from headstart.imaging.reader import Reader, memory_for_decoding
from headstart.imaging.transform import view_of
from headstart.sources.folder import open_source
from headstart.tables.index import IndexRow
from headstart.tables.predictions import Predictions
from headstart.tables.split import SplitRow
from stages.finetune.augmentation import Augmentation, choose_augmentation
from stages.finetune.checkpoint import Checkpoint, run_key
from stages.finetune.classifier import Classifier
from stages.finetune.history import Epoch, Kept
from stages.finetune.kept_pixels import KeptPixels
from stages.finetune.loader import Loader
from stages.finetune.memory import explain_out_of_memory
from stages.finetune.params import Params
from stages.finetune.ranks import Ranks, check_gpus
from stages.finetune.sample_batch import SampleImage, make_sample_batch
from stages.finetune.subsets import Subsets, make_subsets
from stages.finetune.trained_classifier import TrainedClassifier
from stages.finetune.trainer import Timings
from stages.finetune.training import Setting, Training

Watch = Callable[[Sequence[Epoch]], None]
Show = Callable[[Sequence[SampleImage]], None]

_LEAST_SHARE = 16  # with fewer images of a batch, a GPU mostly waits


@dataclass(frozen=True)
class FineTuned:
    """The result of a run.

    Attributes:
        bundle: The weights that are kept or, with `finetune.refit: all`, those of the second training.
        predictions: Calibrated logits of every test image.
        history: The start, then every epoch.
        kept: Which weights are kept.
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
    kept: Kept
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
    show: Show = lambda _: None,
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
        show: Function that is called with a sample batch before the training.

    Returns:
        The result, or None if torchrun started this process. Such a process only trains, into the checkpoint.

    Raises:
        BackboneError, DownloadError: The backbone cannot be built as the params say.
        DataError: The tables do not fit each other, there are too few images, or the content of a file differs from
            the index.
        FeatureFileError: The features are of another backbone, or lack the layer or the images of the probe.
        ParamsError: A device, a layer or a class does not exist, or there are more processes than GPUs.
        HeadstartError: What one of several processes reported.
        TrainingError: A number is not finite, a device has too little memory, or processes died.
    """
    rank, num = this_rank(), num_processes(params.runtime, most=params.finetune.batch // _LEAST_SHARE)
    run = FinetuneRun(features, index, split, classes=classes, split_sha256=split_sha256, params=params)
    check_gpus(params.runtime, run.device, num if rank is None else num_local_ranks())
    if rank is None:
        show(run.sample_batch())
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
        device: Device of this process.

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
        self.device = torch.device(choose_device(params.runtime.device))
        self._spec = features.spec
        self._transform = transform_of(self._spec)
        sides_px = [min(image.row.width, image.row.height) for image in self._subsets.training]
        augmentation = params.finetune.augmentation
        kind = choose_augmentation(augmentation.kind, statistics.median(sides_px), self._transform)
        self._augmentation = Augmentation(
            kind, self._transform, augmentation.min_area, params.finetune.source_px, params.finetune.seed
        )
        data = {"split": split_sha256, "classes": "\n".join(classes)}
        self.checkpoint = Checkpoint(run_key(params, fingerprint(self._spec), data, self.device.type))

    def sample_batch(self) -> list[SampleImage]:
        """Return a few training images as training sees them.

        Raises:
            DataError: A file is missing, or its content differs from the index.
        """
        return make_sample_batch(self._loader, self._subsets.training)

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
        with explain_out_of_memory(self.device, self._params.finetune):
            return self._train(rank, watch, predict=predict)

    def _train(self, rank: Rank, watch: Watch, *, predict: bool) -> FineTuned | None:
        setting, subsets = self._setting(), self._subsets
        training = Training(setting, subsets, self.checkpoint)
        with Ranks(rank, self.device) as ranks:
            with training.trainer(ranks) as trainer:
                kept = trainer.run(watch)
            classifier, held_out = training.classifier, None
            if self._params.finetune.refit == "all":
                if predict:
                    # The second training knows the images of the inner validation, so the first one scores them.
                    first = self._trained(classifier, setting)
                    known = first.embed_known(subsets.training)
                    held_out = first.held_out(kept.temperature, subsets.validation, known)
                classifier = self._refit(setting, kept, trainer.timings, ranks)
        if not predict:
            return None
        trained = self._trained(classifier, setting)
        bundle = trained.bundle(self._spec, self._classes, kept.temperature, self._trained_on(kept))
        learnt_from = self._learnt_from.training
        known = trained.embed_known(learnt_from)
        if held_out is None:
            held_out = trained.held_out(kept.temperature, subsets.validation, known)
        bundle = replace(bundle, references=trained.references(learnt_from, known, held_out))
        start = time.monotonic()
        predictions = trained.predict(bundle, subsets.test)
        trainer.timings.prediction_seconds = time.monotonic() - start
        return FineTuned(
            bundle=bundle,
            predictions=predictions,
            history=trainer.history,
            kept=kept,
            subsets=subsets,
            augmentation=self._augmentation.kind,
            has_frozen_prefix=training.has_frozen_prefix,
            device=str(self.device),
            timings=trainer.timings,
            checkpoint=self.checkpoint,
        )

    @property
    def _learnt_from(self) -> Subsets:
        """The subsets of the training whose weights are shipped."""
        return self._subsets.all_for_training() if self._params.finetune.refit == "all" else self._subsets

    def _refit(self, setting: Setting, kept: Kept, timings: Timings, ranks: Ranks) -> Classifier:
        """Train once more, on the images of the inner validation too, and add the work to the timings."""
        training = Training(setting, self._learnt_from, self.checkpoint.part("refit"))
        with training.trainer(ranks) as trainer:
            trainer.refit(kept, len(self._subsets.training))
        timings.num_images += trainer.timings.num_images
        timings.training_seconds += trainer.timings.training_seconds
        return training.classifier

    @cached_property
    def _loader(self) -> Loader:
        runtime, subsets = self._params.runtime, self._subsets
        reader = Reader(
            open_source(self._params.data.path),
            self._transform,
            [view_of(view) for view in self._spec["views"]],
            memory_for_decoding(runtime.memory, self.device.type),
            Clock(),
            min_side_px=min_side_px_of(self._spec),
        )
        reader.check_present([image.row for image in [*subsets.training, *subsets.validation, *subsets.test]])
        pixels = KeptPixels(
            reader,
            self._augmentation,
            self._spec,
            subsets,
            self._learnt_from.training,
            budget=runtime.pixels,
            num_processes=num_local_ranks(),
        )
        return Loader(pixels, self._augmentation, runtime.num_workers)

    def _setting(self) -> Setting:
        return Setting(
            self._params,
            self._features,
            self._classes,
            self._transform,
            self._augmentation,
            self._loader,
            self.device,
        )

    def _trained(self, classifier: Classifier, setting: Setting) -> TrainedClassifier:
        return TrainedClassifier(classifier, setting.loader, self._params.finetune.batch, self.device)

    def _trained_on(self, kept: Kept) -> dict[str, str | int]:
        return {
            "features": fingerprint(self._spec),
            "split_sha256": self._split_sha256,
            "num_images": len(self._learnt_from.training),
            "epoch": kept.epoch,
        }
