"""Recorded runs: pytest-benchmark's JSON with our block in ``machine_info``, read with suspicion, written whole.

A history is a folder with a folder for each machine's id, in which every run is a file of its own.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from papershell.kernels.files import replacing

FORMAT = 1
HOST = ("node", "release")  # in pytest-benchmark's machine block
BLOCK = "papershell"
OUTSIDE = "./"  # begins the key of a benchmark that is not one of our suites
LEAST, MOST = 1e-12, 1e30  # between which positive numbers make sense, and their products stay finite
LARGEST_RATIO = 1e9
Run = dict[str, Any]
Kind = Callable[[Any], bool]


class RecordError(ValueError):
    """A file that should hold a run does not; the message says which file and why."""


def key_of(benchmark: dict[str, Any]) -> str:
    """Return a benchmark's name in every run: pytest's address of it in our suites' folder.

    Of a benchmark outside of that folder: `OUTSIDE` and its address in the folder where the run was started.
    """
    return str(benchmark["fullname"])


def machine_of(run: Run) -> str:
    """Return the id of the machine that a run was measured on."""
    return run["machine_info"][BLOCK]["id"]


def moment_of(run: Run) -> datetime:
    """Return when a run was written, with its time zone."""
    return datetime.fromisoformat(run["datetime"])


def budget_of(run: Run) -> float | None:
    """Return the seconds that a run measured each benchmark for, or None if it does not say."""
    return run["machine_info"][BLOCK].get("budget_s")


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
        _encode(run)  # refuses NaN and nesting beyond measure, which could not be written again
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not whole JSON ({error}); measure again or leave it out") from error
    try:
        _check_run(run)
    except RecordError as error:
        raise RecordError(f"{path}: {error}") from error
    return run


def write_run(path: Path, run: Run) -> None:
    """Write a run whole or not at all; pytest-benchmark can read it."""
    data = _encode(run)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(data)


def read_history(folder: Path, machine: str) -> tuple[list[Run], list[str]]:
    """Return a machine's runs, oldest first, and a sentence on each file that holds no run."""
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
    return sorted(runs, key=moment_of), notes


def earlier_runs(folder: Path, run: Run) -> tuple[list[Run], list[str]]:
    """Return the history of ``run``, oldest first, and a sentence on each file there that holds no run.

    Its history: the runs in ``folder`` of its machine, from before it, that measured each case as long as it did.
    """
    runs, notes = read_history(folder, machine_of(run))
    return [r for r in runs if moment_of(r) < moment_of(run) and budget_of(r) == budget_of(run)], notes


def append(folder: Path, run: Run) -> Path:
    """Add a run to the history in ``folder``, without each round's seconds, and return its file.

    A run that is there already stays one file; another one of the same second and commit gets a number.
    """
    kept = compact(run)
    stem = f"{moment_of(run):%Y%m%dT%H%M%S}-{run['commit_info']['id'][:7]}"
    names = (f"{stem}-{number}" if number > 1 else stem for number in count(1))
    paths = (folder / machine_of(run) / f"{name}.json" for name in names)
    path = next(path for path in paths if not path.exists() or path.read_bytes() == _encode(kept))
    write_run(path, kept)
    return path


def compact(run: Run) -> Run:
    """Return a run without each round's seconds (a tenth of the size remains) and without the host's name."""
    kept = [
        {**b, "stats": {name: value for name, value in b["stats"].items() if name != "data"}}
        for b in run["benchmarks"]
    ]
    machine_info = {name: value for name, value in run["machine_info"].items() if name not in HOST}
    return {**run, "machine_info": machine_info, "benchmarks": kept}


def _encode(run: Run) -> bytes:
    return json.dumps(run, indent=1, allow_nan=False).encode()


def _check_run(run: Any) -> None:
    """Raise RecordError if a field that is used later is absent or of another kind."""
    block = _check("the run", run, RUN)["machine_info"].get(BLOCK)
    if block is None:
        raise RecordError("not a run of `papershell bench run`; pytest-benchmark's own files lack our block")
    if (found := isinstance(block, dict) and block.get("format")) != FORMAT:
        raise RecordError(f"written in format {_shown(found)}, this version reads {FORMAT}; measure again")
    _check("the machine", block, MACHINE)
    _check("the commit", run["commit_info"], COMMIT)
    for name, ceiling in block["ceilings"].items():
        _check(f"ceiling {_shown(name)}", ceiling, CEILING)
    for number, benchmark in enumerate(run["benchmarks"]):
        _check(f"benchmark {number}", benchmark, BENCHMARK)
        _check(f"benchmark {number}", benchmark["stats"], STATS)
        facts = _check(f"benchmark {number}", benchmark["extra_info"], FACTS)
        if not facts["ratio_low"] <= facts["ratio"] <= facts["ratio_high"]:
            raise RecordError(f"benchmark {number}: its ratio lies outside its interval; measure again")
    if len(benchmarks_of(run)) != len(run["benchmarks"]):
        raise RecordError("holds a benchmark twice; measure again or leave it out")


def _check(where: str, found: Any, kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """Return ``found``, a dictionary whose values are of the kinds that belong to their names."""
    if not isinstance(found, dict):
        raise RecordError(f"{where} is {_shown(found)}, not a JSON object; measure again or leave it out")
    for name, fits in kinds.items():
        if not fits(value := found.get(name)):
            raise RecordError(
                f"{where} has {name} = {_shown(value)}, which is no {fits.__name__.strip('_')}; "
                f"measure again or leave it out"
            )
    return found


def _shown(value: Any) -> str:
    return reprlib.repr(value)[:80]


def _optional(kind: Kind) -> Kind:
    def fits(value: Any) -> bool:
        return value is None or kind(value)

    fits.__name__ = kind.__name__
    return fits


def _list(value: Any) -> bool:
    return isinstance(value, list)


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= MOST


def _amount(value: Any) -> bool:
    return _number(value) and value >= 0


def _positive(value: Any) -> bool:
    return _number(value) and value >= LEAST


def _ratio(value: Any) -> bool:
    return _number(value) and 1 / LARGEST_RATIO <= value <= LARGEST_RATIO


def _text(value: Any) -> bool:
    """One line without control characters, which a terminal would obey, and lone surrogates."""
    return isinstance(value, str) and value.isprintable()


def _details(value: Any) -> bool:
    kinds = _optional(_text), _optional(_number)
    return isinstance(value, dict) and all(any(fits(v) for fits in kinds) for v in value.values())


def _name(value: Any) -> bool:
    """Letters and digits: it becomes part of a file's name."""
    return isinstance(value, str) and re.fullmatch(r"[0-9A-Za-z]+", value) is not None


def _id(value: Any) -> bool:
    """Of a machine; it becomes a folder's name."""
    return isinstance(value, str) and re.fullmatch(r"[a-z0-9][a-z0-9-]*", value) is not None


def _address(value: Any) -> bool:
    """Of a test below our suites' or the current folder, nowhere else."""
    return _text(value) and re.fullmatch(r"(\./)?([\w-][\w.-]*/)*[\w-][\w.-]*\.py::.+", value) is not None


def _date(value: Any) -> bool:
    """With a time zone, so that all of them compare; its first ten characters are the day."""
    if not isinstance(value, str) or not re.match(r"\d{4}-\d\d-\d\dT", value):
        return False
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


RUN = {"machine_info": _object, "commit_info": _object, "datetime": _date, "benchmarks": _list}
MACHINE = {
    "id": _id, "ceilings": _object, "cpu": _optional(_text), "budget_s": _optional(_positive),
    **dict.fromkeys(("gpu", "libraries"), _optional(_details)),
    **dict.fromkeys(("cores", "memory_GB", "clock_MHz"), _optional(_number)),
}  # fmt: skip
COMMIT = {"id": _name, "dirty": _optional(_flag), "branch": _optional(_text), "url": _optional(_text)}
CEILING = {"value": _positive, "unit": _text}
BENCHMARK = {
    "fullname": _address, "group": _text, "stats": _object, "extra_info": _object, "params": _optional(_object),
}  # fmt: skip
STATS = {
    "median": _positive, **dict.fromkeys(("min", "iqr", "rounds"), _amount),
    **dict.fromkeys(("q1", "q3", "max"), _optional(_amount)),
}  # fmt: skip
FACTS = {
    "case": _text, "ratio": _ratio, "ratio_low": _ratio, "ratio_high": _ratio, "is_reference": _optional(_flag),
    **dict.fromkeys(("reference", "ceiling", "dtype", "backend", "device"), _optional(_text)),
    **dict.fromkeys(("first_call_s", "bytes", "flops", "GB_per_s", "GFLOP_per_s"), _optional(_amount)),
    **dict.fromkeys(("percent_of_ceiling", "host_s", "cold_s", "peak_bytes", "page_faults"), _optional(_amount)),
    **dict.fromkeys(("reference_s", "objective", "gap", "passes", "reference_gap"), _optional(_number)),
    "error": _optional(_number),
}  # fmt: skip
