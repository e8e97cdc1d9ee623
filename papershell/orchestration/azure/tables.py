"""The dated tables beside this module, read from their CSV files."""

from __future__ import annotations

import csv
from pathlib import Path


def read_table(name: str) -> list[dict[str, str]]:
    """Return the rows of ``NAME.csv``, each a text by column; an empty text says that the source has none."""
    with Path(__file__).with_name(f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def version(text: str) -> tuple[int, int] | None:
    """Return ``MAJOR.MINOR`` as two numbers, or None for an empty text."""
    if not text:
        return None
    major, minor = map(int, text.split("."))
    return major, minor
