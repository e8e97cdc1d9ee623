"""Recorded runs: what is read is usable by all that follows, what is written is whole."""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from papershell.benchmarks import records
from papershell.benchmarks.compare import compare_runs
from papershell.benchmarks.records import (
    RecordError,
    append,
    benchmarks_of,
    read_history,
    read_run,
    write_run,
)
from papershell.benchmarks.report import render
from papershell.orchestration.commands.bench import print_run
from tests.benchmarks.runs import CASES, GPU, commit_id, make_run

MACHINE = "amd-epyc-2c-3f2a9c"
FEW = CASES[3:5]
ABSENT = object()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to every value inside a JSON value."""
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for name, child in children:
        yield (*path, name)
        yield from places(child, (*path, name))


def changed(run: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """Return a copy with another value in one place, or without that place."""
    result = copy.deepcopy(run)
    holder = result
    for name in path[:-1]:
        holder = holder[name]
    if value is ABSENT:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return result


def used(run: dict[str, Any], folder: Path) -> None:
    """Do with a run all that is ever done with one."""
    before = [make_run(index, cases=FEW) for index in range(5)]
    compare_runs(before[-1], run)
    compare_runs(run, before[-1])
    render([*before, run])
    print_run(run)
    assert read_run(append(folder, run)) == records.compact(run)


def read_or_refuse(path: Path, folder: Path) -> bool:
    """Return whether a file is a run; then it is usable, and else the refusal is one sentence on that file."""
    try:
        run = read_run(path)
    except RecordError as error:
        assert str(path) in str(error) and "\n" not in str(error) and len(str(error)) < 500
        return False
    used(run, folder)
    return True


RUN = make_run(7, cases=FEW, gpu=GPU, rounds=3)
PLACES = sorted(places(RUN), key=repr)
JSON = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just(10**400),
    st.sampled_from(["\ud800", "../../x", "a\x1b[2J", "2026-11-08", [], {}, [[]], {"a": {}}, -1.0, 1e308, 5e-324]),
)  # fmt: skip
SHARED = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SHARED
@given(st.lists(st.tuples(st.sampled_from(PLACES), JSON | st.just(ABSENT)), min_size=1, max_size=2))
def test_a_run_with_odd_values_is_usable_or_refused(tmp_path: Path, changes: list[tuple[Any, Any]]) -> None:
    run = RUN
    for path, value in changes:
        try:
            run = changed(run, path, value)
        except (KeyError, TypeError, IndexError):
            continue  # the first change took away the place of the second
    file = tmp_path / "run.json"
    file.write_text(json.dumps(run))
    read_or_refuse(file, tmp_path / "history")


@SHARED
@given(st.binary(max_size=200) | st.lists(JSON, max_size=3).map(lambda value: json.dumps(value).encode()))
def test_other_bytes_are_refused(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "run.json"
    file.write_bytes(data)
    assert not read_or_refuse(file, tmp_path / "history")


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    write_run(file, RUN)
    data = file.read_bytes()
    for end in range(0, len(data) - 1, 97):
        file.write_bytes(data[:end])
        with pytest.raises(RecordError, match="not whole JSON"):
            read_run(file)


FACTS = ("benchmarks", 0, "extra_info")
REFUSED = {
    "another format": (("machine_info", "papershell", "format"), 2, "format 2, this version reads 1"),
    "no format": (("machine_info", "papershell", "format"), ABSENT, "format None"),
    "pytest-benchmark's own": (("machine_info", "papershell"), ABSENT, "lack our block"),
    "nan": ((*FACTS, "error"), math.nan, "not whole JSON"),
    "infinity": ((*FACTS, "bytes"), math.inf, "not whole JSON"),
    "nan where nobody looks": (("machine_info", "node"), math.nan, "not whole JSON"),
    "truth as a number": ((*FACTS, "ratio"), True, "ratio = True"),
    "ratio outside its interval": ((*FACTS, "ratio"), 1e6, "outside its interval"),
    "text as a number": ((*FACTS, "first_call_s"), "0.1", "first_call_s = '0.1'"),
    "a path as a commit": (("commit_info", "id"), "../../etc", "id = '../../etc'"),
    "a path as a machine": (("machine_info", "papershell", "id"), "..", "id = '..'"),
    "another calendar": (("datetime",), "20261108/021731+0000", "datetime"),
    "more than a float": (("benchmarks", 0, "stats", "median"), 10**400, "median = 1000"),
    "no time zone": (("datetime",), "2026-11-08T02:17:31", "datetime"),
    "an address outside": (("benchmarks", 0, "fullname"), "../x.py::test", "fullname"),
    "an absolute address": (("benchmarks", 0, "fullname"), "/tmp/x.py::test", "fullname"),
    "what a terminal obeys": (("benchmarks", 0, "group"), "\x1b[2J", "group"),
    "twice": (("benchmarks", 1), RUN["benchmarks"][0], "twice"),
    "ceiling of nothing": (("machine_info", "papershell", "ceilings", "copy, L1", "value"), 0, "copy, L1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_named(tmp_path: Path, name: str) -> None:
    place, value, said = REFUSED[name]
    file = tmp_path / "run.json"
    file.write_text(json.dumps(changed(RUN, place, value)))
    with pytest.raises(RecordError) as caught:
        read_run(file)
    assert said in str(caught.value) and str(file) in str(caught.value)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 5_000 + "1" + "}" * 5_000, "9" * 5_000])
def test_depth_and_length_are_bounded(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RecordError, match="not whole JSON"):
        read_run(tmp_path / "run.json")


OPTIONAL = (
    "error",
    "first_call_s",
    "percent_of_ceiling",
    "ceiling",
    "is_reference",
    "bytes",
    "reference",
    "host_s",
)


@pytest.mark.parametrize("value", [None, ABSENT], ids=["null", "absent"])
def test_optional_facts_may_be_missing(tmp_path: Path, value: Any) -> None:
    run = RUN
    for name in OPTIONAL:
        run = changed(run, (*FACTS, name), value)
    file = tmp_path / "run.json"
    write_run(file, run)
    assert read_or_refuse(file, tmp_path / "history")


def test_names_with_slashes_stay_apart() -> None:
    run = make_run(cases=CASES[3:4])
    (key,) = benchmarks_of(run)
    assert key == "test_kernels.py::test_normalize_float32[X / 255.0]"


def test_a_failing_write_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "run.json"
    write_run(file, RUN)
    with pytest.raises(ValueError):
        write_run(file, changed(RUN, (*FACTS, "error"), math.nan))
    assert [*file.parent.iterdir()] == [file] and read_run(file) == RUN


def test_history_is_oldest_first_without_the_rounds(tmp_path: Path) -> None:
    for index in (3, 1, 2):
        append(tmp_path, make_run(index, cases=FEW))
    runs, notes = read_history(tmp_path, MACHINE)
    assert [run["commit_info"]["id"] for run in runs] == [commit_id(index) for index in (1, 2, 3)]
    assert notes == [] and all("data" not in b["stats"] for run in runs for b in run["benchmarks"])


def test_time_zones_are_compared_not_spelled(tmp_path: Path) -> None:
    late = changed(RUN, ("datetime",), "2026-11-08T01:00:00-05:00")
    early = changed(RUN, ("datetime",), "2026-11-08T02:00:00+00:00")
    for run in (late, early):
        append(tmp_path, run)
    assert [run["datetime"] for run in read_history(tmp_path, MACHINE)[0]] == [
        early["datetime"],
        late["datetime"],
    ]


def test_append_overwrites_no_other_run_and_repeats_none(tmp_path: Path) -> None:
    runs = [changed(RUN, (*FACTS, "error"), error) for error in (0.1, 0.2, 0.3)]
    files = [append(tmp_path, run) for run in runs for _ in range(2)]
    assert len(set(files)) == 3 and files[::2] == files[1::2]
    assert [read_run(file)["benchmarks"][0]["extra_info"]["error"] for file in files[::2]] == [0.1, 0.2, 0.3]


def test_history_names_each_file_that_is_none(tmp_path: Path) -> None:
    good = append(tmp_path, RUN)
    folder = good.parent
    (folder / "cut.json").write_bytes(good.read_bytes()[:500])
    (folder / "folder.json").mkdir()
    (folder / "nowhere.json").symlink_to(folder / "absent")
    (folder / "circle.json").symlink_to(folder / "circle.json")
    (folder / "linked.json").symlink_to(good)
    write_run(folder / "other.json", make_run(machine="another-one"))
    (folder / "old.json").write_text(json.dumps(changed(RUN, ("machine_info", "papershell", "format"), 0)))
    (folder / f".{good.name}.1234.tmp").write_text("what a killed process left")
    (folder / "notes.txt").write_text("not asked about")
    runs, notes = read_history(tmp_path, MACHINE)
    assert len(runs) == 2  # the link is a run as well
    named = ("circle.json", "cut.json", "folder.json", "nowhere.json", "old.json", "other.json")
    assert len(notes) == len(named)
    for name, note in zip(named, notes, strict=True):
        assert name in note and note.endswith("left out") and "\n" not in note


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    append(tmp_path, RUN).chmod(0)
    assert "Permission denied" in read_history(tmp_path, MACHINE)[1][0]


def test_no_folder_is_an_empty_history(tmp_path: Path) -> None:
    assert read_history(tmp_path / "absent", MACHINE) == ([], [])
