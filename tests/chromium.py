"""A tab of the Chromium that is on PATH."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, sync_playwright


def has_chromium() -> bool:
    return _chromium() is not None


def _chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def chromium_tab(*, width: int, height: int) -> Iterator[Page]:
    """Needs Chromium on PATH."""
    chromium = _chromium()
    assert chromium is not None, "Chromium is not on PATH: apt-get install chromium"
    with sync_playwright() as playwright:
        # Chromium has no sandbox as root, and many CI machines run as root. It opens no page but ours.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": width, "height": height})
        browser.close()
