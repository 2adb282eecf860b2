"""The job: everything that fine-tuning takes, opened and checked, then done."""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from headstart.artifacts.bundle import Bundle
from headstart.artifacts.features import Features, fingerprint
from headstart.artifacts.references import References
from headstart.backbone.build import build_backbone
from headstart.backbone.layers import blocks_of
from headstart.backbone.spec import transform_of
from headstart.base.errors import FeatureFileError
from headstart.base.machine import Rank, choose_device, make_repeatable
from headstart.imaging.clock import Clock, peak_memory_bytes
from headstart.imaging.decode import DECODE_POLICY
from headstart.imaging.reader import MemoryBudget, Reader
from headstart.imaging.transform import view_of
from headstart.linear.targets import make_targets
from headstart.tables.index import IndexRow
from headstart.tables.names import LAST_LAYER
from headstart.tables.predictions import Predictions
from headstart.tables.split import SplitRow
from stages.finetune.augmentation import Augmentation, choose_augmentation
from stages.finetune.checkpoints import Checkpoint, run_key
from stages.finetune.classifier import Classifier
from stages.finetune.epochs import Epoch, Timings, Trainer, best_epoch
from stages.finetune.freeze import Freezing, depths, order_of_layers
from stages.finetune.frozen_prefix import FrozenPrefix, find_frozen_prefix
from stages.finetune.inputs import Activations, Inputs, Pictures
from stages.finetune.loader import Loader
from stages.finetune.optimizer import make_groups, make_optimizer
from stages.finetune.outcome import Outcome
from stages.finetune.params import Params
from stages.finetune.probe import fit_probe
from stages.finetune.ranks import Ranks
from stages.finetune.step import Stepper
from stages.finetune.subsets import Images, numbers_of, part_images


@dataclass(frozen=True)
class FineTuned:
    """What fine-tuning gives.

    Attributes:
        bundle: The better of the start and the best epoch, by the inner validation.
        predictions: Its calibrated logits for every test image.
        history: The start, then every epoch.
        images: What was trained on, chosen by and reported.
        augmentation: Kind of augmentation, resolved.
        has_frozen_prefix: Whether frozen layers ran once only.
        device: Where it ran, such as `cpu`.
        timings: Timings of this process.
        checkpoint: Checkpoint of the run. Remove it when everything is written.
    """

    bundle: Bundle
    predictions: Predictions
    history: Sequence[Epoch]
    images: Images
    augmentation: str
    has_frozen_prefix: bool
    device: str
    timings: Timings
    checkpoint: Checkpoint


class Job:
    """Everything that fine-tuning takes, opened and checked before any slow work.

    Attributes:
        checkpoint: Checkpoint of this run.

    Args:
        features: Open features file, whose spec says how the network sees images.
        index: The whole index.
        split: Every row.
        classes: (C,) order of the logits.
        split_sha256: Digest of the split table.
        params: Params of the stage.

    Raises:
        DataError: Tables that do not fit each other, or too few images.
        FeatureFileError: The features are not of this backbone, or lack the layer or the images of the probe.
        ParamsError: A device that is not there.
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
        self._features, self._classes, self._params = features, classes, params
        self._split_sha256 = split_sha256
        self._images = part_images(index, split, classes, params.finetune)
        self._device = torch.device(choose_device(params.runtime.device))
        self._spec = features.spec
        self._transform = transform_of(self._spec)
        sides_px = [min(image.row.width, image.row.height) for image in self._images.training]
        kind = choose_augmentation(params.finetune.augmentation.kind, statistics.median(sides_px), self._transform)
        self._augmentation = Augmentation(
            kind, self._transform, params.finetune.augmentation.min_area, params.finetune.seed
        )
        data = {"split": split_sha256, "classes": "\n".join(classes)}
        key = run_key(params, fingerprint(self._spec), data, self._device.type)
        self.checkpoint = Checkpoint(key)

    def run(self, rank: Rank, watch: Callable[[Sequence[Epoch]], None], *, report: bool) -> FineTuned | None:
        """Train from the start, or from where a killed run stopped.

        Args:
            rank: This process among those that train together.
            watch: Called with the history after every epoch.
            report: Whether to predict the test images when all is chosen.

        Returns:
            None without a report.

        Raises:
            BackboneError, DownloadError: The backbone cannot be built as asked.
            DataError: A file is not what the index says.
            ParamsError: A layer or a class that is not there.
            TrainingError: Training cannot go on.
        """
        params, images, device = self._params.finetune, self._images, self._device
        make_repeatable()
        loader = self._loader()
        classifier, order = self._classifier()
        targets = make_targets(
            [image.label for image in images.training], self._classes, params.class_weights, "finetune.class_weights"
        )
        with Ranks(rank, device) as ranks:
            if params.batch_norm == "train":
                ranks.synchronise(classifier)
            freezing = Freezing(classifier, order, params.unfreeze, train_norms=params.batch_norm == "train")
            depth_of = depths(classifier.backbone, order, blocks_of(classifier.backbone, self._transform.crop_px))
            prefix = self._frozen_prefix(classifier, freezing, order)
            classifier.to(device)
            classifier.to(memory_format=torch.channels_last)
            optimizer = make_optimizer(make_groups(classifier, depth_of, params.optimizer), params.optimizer)
            compiled: Any = torch.compile(classifier) if self._params.runtime.compile else classifier
            module = ranks.wrap(compiled)
            stepper = Stepper(
                module,
                optimizer,
                images=images.training,
                targets=targets,
                params=params,
                dtype=_dtype(params.precision, device),
                device=device,
                ranks=ranks,
            )
            pictures = Pictures(loader, classifier.normalise, images, device)
            with ExitStack() as stack:
                inputs: Inputs = pictures
                if prefix is not None:
                    inputs = self._activations(pictures, prefix, classifier, rank)
                    stack.enter_context(prefix.taken_off())
                classes = (targets.classes, numbers_of(images.validation, self._classes))
                trainer = Trainer(
                    classifier,
                    freezing,
                    stepper,
                    inputs,
                    classes=classes,
                    params=params,
                    ranks=ranks,
                    checkpoint=self.checkpoint,
                )
                trainer.run(watch)
        if not report:
            return None
        bundle = self._bundle(classifier, best_epoch(trainer.history))
        outcome = Outcome(classifier, loader, params.batch, device)
        bundle = replace(bundle, references=outcome.references(bundle, images.training, images.validation))
        start = time.monotonic()
        predictions = outcome.predict(bundle, images.reported)
        trainer.timings.prediction_seconds = time.monotonic() - start
        return FineTuned(
            bundle=bundle,
            predictions=predictions,
            history=trainer.history,
            images=images,
            augmentation=self._augmentation.kind,
            has_frozen_prefix=prefix is not None,
            device=str(device),
            timings=trainer.timings,
            checkpoint=self.checkpoint,
        )

    def _loader(self) -> Loader:
        runtime = self._params.runtime
        reader = Reader(
            Path(self._params.data.path),
            self._transform,
            [view_of(view) for view in self._spec["views"]],
            MemoryBudget(runtime.memory - peak_memory_bytes()),
            Clock(),
        )
        images = [*self._images.training, *self._images.validation, *self._images.reported]
        reader.check_present([image.row for image in images])
        return Loader(reader, self._augmentation, runtime.num_workers)

    def _classifier(self) -> tuple[Classifier, list[str]]:
        """Return the classifier as it starts, on the CPU, and the order of its layers."""
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
        classifier = Classifier(backbone.network, self._transform, len(self._classes), params.seed)
        if params.init == "probe":
            classifier.set_head(fit_probe(self._features, self._images.training, self._classes, self._params))
        return classifier, order_of_layers(backbone.network, self._transform.crop_px)

    def _frozen_prefix(self, classifier: Classifier, freezing: Freezing, order: Sequence[str]) -> FrozenPrefix | None:
        params = self._params.finetune.augmentation
        if self._augmentation.kind != "none" or params.mixup:
            return None
        return find_frozen_prefix(classifier, freezing.first, order, self._transform.crop_px)

    def _activations(self, pictures: Pictures, prefix: FrozenPrefix, classifier: Classifier, rank: Rank) -> Activations:
        classifier.eval()
        # Each rank keeps its own: nobody waits for another's file to be whole.
        batch, folder = self._params.finetune.batch, self.checkpoint.folder / f"rank{rank.rank}"
        folder.mkdir(parents=True, exist_ok=True)
        return Activations(pictures, prefix, self._images, batch=batch, folder=folder, device=self._device)

    def _bundle(self, classifier: Classifier, best: Epoch) -> Bundle:
        backbone = {name: tensor.cpu().numpy() for name, tensor in classifier.backbone.state_dict().items()}
        return Bundle(
            track="finetune",
            classes=self._classes,
            spec=self._spec | {"layers": [LAST_LAYER]},
            layer=LAST_LAYER,
            temperature=best.temperature,
            trained_on={
                "features": fingerprint(self._spec),
                "split_sha256": self._split_sha256,
                "num_images": len(self._images.training),
                "epoch": best.epoch,
            },
            weight=classifier.head.weight.detach().cpu().numpy(),
            bias=classifier.head.bias.detach().cpu().numpy(),
            references=References.none(classifier.head.in_features),
            backbone=backbone,
        )


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return what forward passes compute in: for `auto` bfloat16 on a GPU that has it, else float32."""
    if precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]
    return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
