"""Counts of the hostile tests, set by variables (``make test-hostile REQUESTS=2000``), and their table at the end."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator

import pytest

if importlib.util.find_spec("azureml") is None:  # papershell without its extra azure
    collect_ignore_glob = ["test_*"]
else:
    from tests.orchestration.conftest import home  # noqa: F401  (a fixture)

DEFAULTS = {"REQUESTS": 100_000, "KILLS": 200, "FITS": 1000, "RUNS": 1000}
_rows: list[tuple[str, str, str]] = []


def numbers(name: str, share: int = 1) -> range:
    """Return the numbers of a test's tries, which decide all that is random in them; ``FROM`` is the first."""
    first, count = int(os.environ.get("FROM") or 0), int(os.environ.get(name) or DEFAULTS[name])
    return range(first, first + max(1, count // share))


@pytest.fixture
def figure() -> Iterator:
    """Add a row to the table: the area, the inputs tried, the findings."""
    yield lambda area, tried, found: _rows.append((area, tried, found))


def pytest_terminal_summary(terminalreporter) -> None:
    if _rows:
        terminalreporter.section("hostile tests")
        widths = [max(len(row[column]) for row in _rows) for column in range(2)]
        for area, tried, found in _rows:
            terminalreporter.write_line(f"{area:{widths[0]}}  {tried:{widths[1]}}  {found}")
