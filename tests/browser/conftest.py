"""Fixtures of the tests in a browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.support.browser import launched


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Yield the Chromium of this machine, without a window."""
    with launched() as chromium:
        yield chromium
