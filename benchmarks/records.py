"""Recorded runs: pytest-benchmark's JSON with our block in ``machine_info``, read with suspicion, written whole.

A history is a folder with a folder for each machine's id, in which every run is a file of its own.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kernels.files import replacing

FORMAT = 1
BLOCK = "papershell"
Run = dict[str, Any]


class RecordError(ValueError):
    """A file that should hold a run does not; the message says which file and why."""


def key_of(benchmark: dict[str, Any]) -> str:
    """Return what identifies a benchmark in every run: its file and name, wherever it was started from."""
    return str(benchmark["fullname"]).rpartition("/")[2]


def machine_of(run: Run) -> str:
    """Return the id of the machine that a run was measured on."""
    return run["machine_info"][BLOCK]["id"]


def benchmarks_of(run: Run) -> dict[str, dict[str, Any]]:
    """Return the benchmarks of a run by key."""
    return {key_of(benchmark): benchmark for benchmark in run["benchmarks"]}


def read_run(path: Path) -> Run:
    """Return the run that a file holds.

    Raises
    ------
    RecordError
        The file is cut, is not a run of `papershell bench run`, or was written in another format.
    OSError
        It cannot be read.
    """
    try:
        run = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not whole JSON ({error}); measure again or leave it out") from error
    try:
        block = run["machine_info"][BLOCK]
        if (found := block["format"]) != FORMAT:
            raise RecordError(
                f"{path}: written in format {found!r}, this version reads {FORMAT}; measure again"
            )
        _check(run, block)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise RecordError(
            f"{path}: not a run of `papershell bench run` (at {error}); pytest-benchmark's own files lack our block"
        ) from error
    return run


def _check(run: Run, block: dict[str, Any]) -> None:
    """Raise KeyError or TypeError where a field that is used later is absent or of another kind."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", block["id"]):
        raise TypeError("machine_info.papershell.id")
    for text in (run["datetime"], run["commit_info"]["id"]):
        if not isinstance(text, str):
            raise TypeError("datetime or commit_info.id")
    for ceiling in block["ceilings"].values():
        _positive(ceiling["value"], "ceilings")
        if not isinstance(ceiling["unit"], str):
            raise TypeError("ceilings")
    for benchmark in run["benchmarks"]:
        facts = benchmark["extra_info"]
        _positive(benchmark["stats"]["median"], "stats.median")
        for name in ("ratio", "ratio_low", "ratio_high"):
            _positive(facts[name], f"extra_info.{name}")
        if not all(
            isinstance(text, str) for text in (benchmark["fullname"], benchmark["group"], facts["case"])
        ):
            raise TypeError("fullname, group or case")


def _positive(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise TypeError(f"{name}, {value!r}")


def write_run(path: Path, run: Run) -> None:
    """Write a run whole or not at all; what pytest-benchmark reads stays readable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(json.dumps(run, indent=1).encode())


def read_history(folder: Path, machine: str) -> tuple[list[Run], list[str]]:
    """Return a machine's runs, oldest first, and a sentence on each file that is none."""
    runs, notes = [], []
    for path in sorted((folder / machine).glob("*.json")):
        try:
            run = read_run(path)
        except (RecordError, OSError) as error:
            notes.append(f"{error}; left out")
            continue
        if machine_of(run) != machine:
            notes.append(f"{path}: measured on {machine_of(run)}, not on {machine}; left out")
        else:
            runs.append(run)
    return sorted(runs, key=lambda run: run["datetime"]), notes


def append(folder: Path, run: Run) -> Path:
    """Add a run to the history in ``folder`` and return its file; the single rounds' seconds are left out."""
    stamp = re.sub(r"[^0-9T]", "", run["datetime"].partition(".")[0])
    path = folder / machine_of(run) / f"{stamp}-{run['commit_info']['id'][:7]}.json"
    write_run(path, without_rounds(run))
    return path


def without_rounds(run: Run) -> Run:
    """Return the run without each round's seconds, a tenth of the size; medians and intervals stay."""
    kept: Iterable[Run] = (
        {**b, "stats": {name: value for name, value in b["stats"].items() if name != "data"}}
        for b in run["benchmarks"]
    )
    return {**run, "benchmarks": list(kept)}
