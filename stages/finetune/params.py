"""What stage `finetune` reads from params.yaml."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from headstart.backbone.params import BackboneParams
from headstart.base.machine import RuntimeParams
from headstart.base.params import Name, Positive, Section
from headstart.linear.params import ClassWeights, InverseStrength
from headstart.sources.params import DataParams
from stages.params import StageParams

Rate = Annotated[float, Field(ge=0, le=10)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class OptimizerParams(Section):
    """`finetune.optimizer:` optimizer and learning rates."""

    kind: Literal["sgd", "adamw", "rmsprop"]
    backbone_rate: Rate
    head_rate: Rate
    layer_decay: Annotated[float, Field(gt=0, le=1)]
    momentum: Fraction
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    clip: Positive | None


class ScheduleParams(Section):
    """`finetune.schedule:` learning-rate schedule."""

    kind: Literal["cosine", "step", "constant"]
    warmup_epochs: Annotated[int, Field(ge=0)]
    step_epochs: Annotated[int, Field(ge=1)]
    gamma: Annotated[float, Field(gt=0, le=1)]


class AugmentationParams(Section):
    """`finetune.augmentation:` random augmentation of training images."""

    kind: Literal["auto", "none", "mild", "crop"]
    min_area: Annotated[float, Field(gt=0, le=1)]
    mixup: Annotated[float, Field(ge=0, le=10)]


class FinetuneParams(Section):
    """`finetune:` training of the whole network."""

    init: Literal["probe", "random"]
    probe_c_grid: Annotated[list[InverseStrength], Field(min_length=1)]
    folds: Annotated[int, Field(ge=2, le=20)]
    unfreeze: Name
    batch_norm: Literal["train", "frozen"]
    epochs: Annotated[int, Field(ge=0, le=10_000)]
    refit: Literal["none", "all"]
    batch: Annotated[int, Field(ge=2, le=65_536)]
    accumulate: Annotated[int, Field(ge=1)]
    source_px: Annotated[int, Field(ge=16, le=16_384)] | Literal["auto"]
    optimizer: OptimizerParams
    schedule: ScheduleParams
    augmentation: AugmentationParams
    label_smoothing: Fraction
    class_weights: ClassWeights
    precision: Literal["auto", "float32", "bfloat16", "float16"]
    seed: Annotated[int, Field(ge=0, lt=2**32)]

    @model_validator(mode="after")
    def _parts_have_images(self) -> "FinetuneParams":
        if self.accumulate > self.batch // 2:
            raise ValueError(
                "accumulate to be at most half of batch, because each part needs two images; "
                f"found accumulate {self.accumulate} and batch {self.batch}"
            )
        return self

    @model_validator(mode="after")
    def _warm_up_ends(self) -> "FinetuneParams":
        if self.schedule.warmup_epochs > self.epochs > 0:
            raise ValueError(
                "schedule.warmup_epochs to be at most epochs; "
                f"found {self.schedule.warmup_epochs} warm-up epochs of {self.epochs}"
            )
        return self


class Params(StageParams):
    """The sections that this stage reads."""

    data: DataParams
    backbone: BackboneParams
    finetune: FinetuneParams
    runtime: RuntimeParams
