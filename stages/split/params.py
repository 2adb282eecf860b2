"""The section of params.yaml that the stage `split` reads."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from headstart.base.params import Section
from headstart.sources.params import DataParams
from headstart.tables.names import SPLIT_NAMES
from stages.params import StageParams

EXIF_BURST = "exif-burst"


class SplitParams(Section):
    """`split:` how images get labels, and which images are the test set."""

    class_depth: Annotated[int, Field(ge=1)] | Literal["all"]
    class_order: Literal["text", "natural"]
    ignore_case: bool
    label_fixes: Annotated[str, Field(min_length=1)]
    unlabelled: str
    conflicts: Literal["fail", "drop"]
    method: Literal["auto", "stratified", "hash"]
    reported: Literal["auto", "val", "test"]
    test_fraction: Annotated[float, Field(gt=0, lt=1)]
    val_fraction: Annotated[float, Field(ge=0, lt=1)]
    group: Annotated[str, Field(min_length=1)] | None
    burst_seconds: Annotated[float, Field(gt=0, le=86_400)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]

    @field_validator("unlabelled")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if not name or "/" in name or name.lower() in SPLIT_NAMES:
            raise ValueError(f"the name of one folder, and none of {list(SPLIT_NAMES)}")
        return name

    @field_validator("group")
    @classmethod
    def _names_one_part(cls, group: str | None) -> str | None:
        if group is not None and group != EXIF_BURST:
            try:
                num_parts = re.compile(group).groups
            except re.error as error:
                raise ValueError(f"exif-burst, or a regular expression over the path ({error})") from error
            if num_parts != 1:
                raise ValueError(
                    "exif-burst, or exactly one part in parentheses, the name of the group, as in ^[^/]+/([^_]+)_"
                )
        return group

    @model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> "SplitParams":
        if self.test_fraction + self.val_fraction >= 1:
            raise ValueError(
                "a sum of test_fraction and val_fraction below 1, because the other images are the training set; found "
                f"{self.test_fraction + self.val_fraction:g}"
            )
        return self


class Params(StageParams):
    """The sections that this stage reads."""

    data: DataParams
    split: SplitParams
