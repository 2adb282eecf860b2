"""The browser of this machine, for tests of pages."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(_CHROMIUM is None, reason="there is no Chromium on this machine")


@contextmanager
def launched() -> Iterator[Browser]:
    """Start Chromium without a window, and close it at the end."""
    with sync_playwright() as playwright:
        # As root, in a container say, Chromium's own sandbox does not start.
        chromium = playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()
