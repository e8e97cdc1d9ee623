"""Two runs side by side: how the ratios to the references changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from papershell.benchmarks.records import Run, benchmarks_of


@dataclass(frozen=True)
class Change:
    """A benchmark of both runs: the two records, and by how much it became slower against its reference.

    ``slower`` is a share: 0.1 is ten percent slower, -0.1 faster.
    """

    key: str
    before: dict[str, Any]
    after: dict[str, Any]
    slower: float


@dataclass(frozen=True)
class Comparison:
    """Two runs: the changes, and the keys that only one of them has."""

    changes: list[Change]
    vanished: list[str]
    new: list[str]


def compare_runs(before: Run, after: Run) -> Comparison:
    """Compare the benchmarks of two runs; references are left out, their ratio to themselves is noise."""
    past, present = benchmarks_of(before), benchmarks_of(after)
    changes = [
        Change(key, old, new, old["ratio"] / new["ratio"] - 1)
        for key in present
        if key in past
        for old, new in [(past[key]["extra_info"], present[key]["extra_info"])]
        if not new.get("is_reference")
    ]
    return Comparison(changes, sorted(past.keys() - present.keys()), sorted(present.keys() - past.keys()))
