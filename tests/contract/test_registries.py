"""Choices that grow are registries: what params.yaml accepts is exactly what the code can do."""

from typing import Any, get_args

import pytest

from headstart.imaging.formats import FORMATS
from stages.finetune.optimizer import OPTIMIZERS, SCHEDULES
from stages.finetune.params import OptimizerParams, ScheduleParams
from stages.head.kinds import KINDS
from stages.head.params import HeadParams


@pytest.mark.parametrize(
    ("registry", "accepted"),
    [
        (KINDS, HeadParams.model_fields["kind"].annotation),
        (OPTIMIZERS, OptimizerParams.model_fields["kind"].annotation),
        (SCHEDULES, ScheduleParams.model_fields["kind"].annotation),
    ],
    ids=["head.kind", "finetune.optimizer.kind", "finetune.schedule.kind"],
)
def test_params_accept_exactly_the_entries_of_a_registry(registry: dict[str, object], accepted: Any) -> None:
    """A name without an entry would fail late, and an entry without a name could not be used."""
    assert sorted(registry) == sorted(get_args(accepted))


def test_formats_are_told_apart() -> None:
    """No two formats share a name or an extension."""
    extensions = [extension for one in FORMATS for extension in one.extensions]

    assert len({one.name for one in FORMATS}) == len(FORMATS)
    assert len(set(extensions)) == len(extensions)
