"""The sections of params.yaml that several rooms read. What each key means stands in params.yaml itself."""

import os
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import BeforeValidator, ByteSize, Field, field_validator, model_validator

from stages.core.parallel import num_cores
from stages.core.params import Section

Name = Annotated[str, Field(min_length=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
# Beyond these, float64 does not tell the strengths or the classes apart.
Strength = Annotated[float, Field(ge=1e-9, le=1e9)]
Weight = Annotated[float, Field(ge=1e-6, le=1e6)]


def _names_in_quotes(value: object) -> object:
    if isinstance(value, dict) and not all(isinstance(name, str) for name in value):
        raise ValueError("names of classes in quotes, as in {'1': 2.0}, in the file (-S takes no numbers as names)")
    return value


ClassWeights = Annotated[dict[Name, Weight] | Literal["none", "balanced"], BeforeValidator(_names_in_quotes)]

WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt")


class DataParams(Section):
    """`data:` which images."""

    path: str

    @field_validator("path")
    @classmethod
    def _is_a_folder_of_its_own(cls, path: str) -> str:
        if PurePosixPath(path) in {PurePosixPath("."), PurePosixPath("data")}:
            raise ValueError("a folder that holds nothing but the data set, such as data/my_photos")
        return path


class BackboneParams(Section):
    """`backbone:` which pretrained network."""

    name: Annotated[str, Field(min_length=1)]
    weights: Annotated[str, Field(min_length=1)]
    weights_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None
    taps: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] | Literal["auto"]
    pooling: Literal["mean", "token"]

    @property
    def weights_is_file(self) -> bool:
        """Whether `weights` is a path or an address, and not the name of published weights."""
        return "://" in self.weights or self.weights.lower().endswith(WEIGHTS_SUFFIXES)

    @model_validator(mode="after")
    def _file_has_digest(self) -> "BackboneParams":
        if self.weights_is_file and self.weights_sha256 is None:
            raise ValueError(
                "weights_sha256 beside weights that are a file, because DVC sees params.yaml and not the file "
                f"(`sha256sum {self.weights}` prints it)"
            )
        if not self.weights_is_file and self.weights_sha256 is not None:
            raise ValueError("weights_sha256 only beside weights that are a file; else null")
        return self


class TransformParams(Section):
    """`transform:` how a picture becomes the network's input."""

    px: Annotated[int, Field(ge=16, le=2048)] | Literal["auto"]


class IntervalParams(Section):
    """`intervals:` how certain a reported number is."""

    resamples: Annotated[int, Field(ge=100, le=100_000)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]


class RuntimeParams(Section):
    """`runtime:` on what, and how fast. In no stage's `params:`: it never changes a result."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d{1,2})?)$")]
    workers: Annotated[int, Field(ge=1, le=256)] | Literal["auto"]
    processes: Annotated[int, Field(ge=1, le=64)] | Literal["auto"]
    engine: Literal["auto", "onnx", "torch"]
    compile: bool
    batch: Annotated[int, Field(ge=2, le=4096)] | Literal["auto"]
    memory: Annotated[ByteSize, Field(ge=64 * 2**20)]
    store: Annotated[str, Field(min_length=1)]

    @property
    def batch_or_none(self) -> int | None:
        """The batch, or None where the engine chooses."""
        return None if self.batch == "auto" else self.batch

    @property
    def num_workers(self) -> int:
        """Number of threads: for `auto` one per core, shared with the processes that torchrun started beside this."""
        if self.workers != "auto":
            return self.workers
        return max(1, num_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
