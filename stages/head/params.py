"""What stage `head` reads from params.yaml."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from headstart.base.machine import RuntimeParams
from headstart.base.params import Name, Section
from headstart.linear.params import ClassWeights, InverseStrength
from stages.params import StageParams


class SgdParams(Section):
    """`head.sgd:` the training recipe of the tutorials."""

    optimizer: Literal["sgd", "rmsprop"]
    learning_rate: Annotated[float, Field(gt=0, le=10)]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    step_epochs: Annotated[int, Field(ge=1)]
    gamma: Annotated[float, Field(gt=0, le=1)]
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    batch: Annotated[int, Field(ge=1)]


class HeadParams(Section):
    """`head:` the linear classifier."""

    kind: Literal["auto", "logistic", "ridge", "sgd"]
    layers: Annotated[list[Name], Field(min_length=1)] | Literal["auto", "all"]
    c: InverseStrength | Literal["auto"]
    c_grid: Annotated[list[InverseStrength], Field(min_length=1)]
    folds: Annotated[int, Field(ge=2, le=20)]
    max_iter: Annotated[int, Field(ge=1)]
    tol: Annotated[float, Field(ge=1e-8, le=0.1)] | Literal["auto"]
    class_weights: ClassWeights
    duplicate_similarity: Annotated[float, Field(gt=0, le=1)]
    sgd: SgdParams
    seed: Annotated[int, Field(ge=0, lt=2**32)]

    @model_validator(mode="after")
    def _c_is_used(self) -> "HeadParams":
        if self.kind == "sgd" and self.c != "auto":
            raise ValueError(f"c to be auto when kind is sgd, which has no strength; found {self.c:g} (-S head.c=auto)")
        return self

    @model_validator(mode="after")
    def _sgd_has_a_fold_to_train_on(self) -> "HeadParams":
        if self.kind == "sgd" and self.folds < 3:
            raise ValueError(
                "folds to be at least 3 when kind is sgd: one fold is held out and another one chooses the epoch; "
                f"found {self.folds} (-S head.folds=3)"
            )
        return self


class Params(StageParams):
    """The sections that this stage reads."""

    head: HeadParams
    runtime: RuntimeParams
