"""Chromium for the tests of the report page, folders of suites for those of the runner."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from papershell.benchmarks import runner
from tests.benchmarks.browser import Page
from tests.conftest import skip_or_fail


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    """See `chromium`."""
    with chromium() as browser:
        yield browser


@contextmanager
def chromium() -> Iterator[Any]:
    """Chromium without a window, through Debian's own driver: nothing is downloaded."""
    paths = [shutil.which("chromium"), shutil.which("chromedriver")]
    if None in paths:
        skip_or_fail("PAPERSHELL_REQUIRE_CHROMIUM", "no chromium with a chromedriver on the PATH")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = paths[0]
    quiet = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
    for argument in quiet + ["--no-sandbox"] * (os.getuid() == 0):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(paths[1]))
    try:
        yield browser
    finally:
        browser.quit()


@pytest.fixture
def page(driver: Any, tmp_path: Path) -> Iterator[Page]:
    """A page to open; afterwards nothing may have left it, and the console must be empty."""
    page = Page(driver, tmp_path)
    page.complaints()
    page.requests()
    yield page
    assert page.complaints() == []
    assert page.requests() <= {page.target.as_uri(), "data:,"}


@pytest.fixture
def suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for suites that `runner` takes for ours: same settings, same fixtures, other files."""
    return prepare_suites(tmp_path, monkeypatch)


def prepare_suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make such a folder below ``tmp_path``, for as long as ``monkeypatch`` lasts."""
    folder = tmp_path / "suites"
    folder.mkdir()
    shutil.copy(runner.FOLDER / "pytest.ini", folder)
    monkeypatch.setenv("PYTHONPATH", str(runner.FOLDER.parents[1]))
    monkeypatch.setattr(runner, "FOLDER", folder)
    return folder
