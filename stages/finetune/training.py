"""One training of a classifier: what it starts from, what of it learns, and what it trains on."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.artifacts.features import Features
from headstart.backbone.blocks import blocks_of
from headstart.backbone.build import build_backbone
from headstart.base.errors import FeatureFileError
from headstart.imaging.decode import DECODE_POLICIES
from headstart.imaging.transform import Transform
from headstart.linear.targets import make_targets
from headstart.tables.classes import class_numbers
from headstart.tables.names import LAST_LAYER
from stages.finetune.augmentation import Augmentation
from stages.finetune.checkpoint import Checkpoint
from stages.finetune.classifier import Classifier
from stages.finetune.frozen_prefix import FrozenPrefix, find_frozen_prefix
from stages.finetune.inputs import Activations, Inputs, Pictures
from stages.finetune.loader import Loader
from stages.finetune.memory import ForwardPasses
from stages.finetune.optimizer import make_groups, make_optimizer
from stages.finetune.params import Params
from stages.finetune.probe import fit_probe
from stages.finetune.ranks import Ranks
from stages.finetune.stepper import Stepper, forward_dtype
from stages.finetune.subsets import Subsets
from stages.finetune.trainable_layers import TrainableLayers, freeze_unused, layer_depths, layer_order
from stages.finetune.trainer import Trainer


@dataclass(frozen=True)
class Setting:
    """What all trainings of a run have in common.

    Attributes:
        params: Params of the stage.
        features: Open features file. Its spec says how the network sees images.
        classes: (C,) names in the order of the logits.
        transform: Resolved transform of the spec.
        augmentation: Augmentation of training images.
        loader: Loader of the images.
        device: Device of the classifier.
    """

    params: Params
    features: Features
    classes: Sequence[str]
    transform: Transform
    augmentation: Augmentation
    loader: Loader
    device: torch.device


class Training:
    """A training.

    Attributes:
        classifier: The classifier, in the state to start from.
        has_frozen_prefix: Whether frozen layers run only once.

    Args:
        setting: What all trainings have in common.
        subsets: The images to train on, and those of the inner validation.
        checkpoint: Where the state is saved.

    Raises:
        BackboneError, DownloadError: The backbone cannot be built as the params say.
        DataError: There are too few images for the folds of the probe.
        FeatureFileError: The features are of another backbone, or lack the layer or the images of the probe.
        ParamsError: A layer or a class does not exist.
    """

    def __init__(self, setting: Setting, subsets: Subsets, checkpoint: Checkpoint) -> None:
        self._setting, self._subsets, self._checkpoint = setting, subsets, checkpoint
        params = setting.params.finetune
        labels = [image.label for image in subsets.training]
        self._targets = make_targets(labels, setting.classes, params.class_weights, "finetune.class_weights")
        self.classifier = self._start()
        px = setting.transform.crop_px
        self._order = layer_order(self.classifier.backbone, px)
        train_norms = params.batch_norm == "train"
        self._trainable_layers = TrainableLayers(self.classifier, self._order, params.unfreeze, train_norms=train_norms)
        freeze_unused(self.classifier, px)
        self._prefix = self._find_frozen_prefix()

    @property
    def has_frozen_prefix(self) -> bool:
        """Whether frozen layers run only once."""
        return self._prefix is not None

    @contextmanager
    def trainer(self, ranks: Ranks) -> Iterator[Trainer]:
        """Give a trainer of the classifier, which is on its device from now on.

        Args:
            ranks: Processes that share the work.
        """
        setting, params, classifier = self._setting, self._setting.params.finetune, self.classifier
        if params.batch_norm == "train":
            ranks.synchronise(classifier)
        blocks = blocks_of(classifier.backbone, setting.transform.crop_px)
        depths = layer_depths(classifier.backbone, self._order, blocks)
        classifier.to(setting.device)
        if setting.device.type != "mps":  # there, torch of before mid 2026 fails in the gradients of BatchNorm
            classifier.to(memory_format=torch.channels_last)
        groups = make_groups(classifier, depths, params.optimizer)
        optimizer = make_optimizer(groups, params.optimizer, setting.device)
        compiled: Any = torch.compile(classifier) if setting.params.runtime.compile else classifier
        stepper = Stepper(
            ranks.wrap(compiled),
            optimizer,
            targets=self._targets,
            params=params,
            dtype=forward_dtype(params.precision, setting.device),
            device=setting.device,
            ranks=ranks,
        )
        validation = class_numbers([image.label for image in self._subsets.validation], setting.classes)
        pictures = Pictures(setting.loader, classifier.normalise, self._subsets, setting.device)
        if self._prefix is None:
            yield self._make_trainer(stepper, pictures, validation, ranks)
            return
        inputs = self._activations(pictures, self._prefix, ranks)
        with self._prefix.removed():
            yield self._make_trainer(stepper, inputs, validation, ranks)

    def _make_trainer(self, stepper: Stepper, inputs: Inputs, validation: NDArray[np.int64], ranks: Ranks) -> Trainer:
        return Trainer(
            self.classifier,
            self._trainable_layers,
            stepper,
            inputs,
            passes=self._passes(),
            images=self._subsets.training,
            validation_classes=validation,
            params=self._setting.params.finetune,
            ranks=ranks,
            checkpoint=self._checkpoint,
        )

    def _start(self) -> Classifier:
        """Return the classifier in the state to start from, on the CPU."""
        setting, params, spec = self._setting, self._setting.params.finetune, self._setting.features.spec
        backbone = build_backbone(setting.params.backbone)
        facts = backbone.facts
        expected = {
            "backbone": [facts.name],
            "weights_sha256": [facts.weights_sha256],
            "decode": list(DECODE_POLICIES.values()),
        }
        for name, values in expected.items():
            if spec[name] not in values:
                raise FeatureFileError(
                    f"features/features.h5: {name} is {spec[name]!r}, this run expects "
                    f"{' or '.join(map(repr, values))}. Run: dvc repro extract"
                )
        probe = None
        if params.init == "probe":
            probe = fit_probe(setting.features, self._subsets.training, setting.classes, setting.params)
        classifier = Classifier(
            backbone.network,
            setting.transform,
            [LAST_LAYER] if probe is None else probe.layers,
            spec["pooling"],
            num_classes=len(setting.classes),
            seed=params.seed,
        )
        if probe is not None:
            classifier.start_from(probe.model, probe.mean, probe.scale)
        return classifier

    def _find_frozen_prefix(self) -> FrozenPrefix | None:
        params, px = self._setting.params.finetune, self._setting.transform.crop_px
        if self._setting.augmentation.kind != "none" or params.augmentation.mixup:
            return None  # the input of the prefix changes from epoch to epoch
        return find_frozen_prefix(self.classifier, self._trainable_layers.first, self._order, px)

    def _activations(self, pictures: Pictures, prefix: FrozenPrefix, ranks: Ranks) -> Activations:
        # Each rank has its own files, so that none waits for the file of another.
        return Activations(
            pictures,
            prefix,
            self._subsets,
            passes=self._passes(),
            ranks=ranks,
            batch=self._setting.params.finetune.batch,
            folder=self._checkpoint.folder / f"rank{ranks.rank.rank}",
            device=self._setting.device,
        )

    def _passes(self) -> ForwardPasses:
        return ForwardPasses(self._setting.device, self._setting.params.finetune.batch)
