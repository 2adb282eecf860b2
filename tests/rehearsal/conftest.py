"""Fixtures of the rehearsals: pretended devices, and the runs of the unit tests."""

from collections.abc import Iterator

import pytest

from tests.rehearsal.device import pretended
from tests.rehearsal.state import Device
from tests.unit.stages.conftest import finetune_project, tune

__all__ = ["finetune_project", "tune"]


@pytest.fixture
def cuda() -> Iterator[Device]:
    """A pretended CUDA device."""
    with pretended("cuda") as device:
        yield device


@pytest.fixture
def mps() -> Iterator[Device]:
    """A pretended MPS device."""
    with pretended("mps") as device:
        yield device
