"""Fixtures of several folders of unit tests."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.head_data import DesignsOf


@pytest.fixture
def designs_of(tmp_path: Path) -> Iterator[DesignsOf]:
    """Give a function that returns the design matrices of some rows."""
    with ExitStack() as files:
        yield DesignsOf(tmp_path, files)
