"""The fixture ``measure`` in real runs of pytest: what it lets into the record, and what survives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from papershell.benchmarks import ceilings, runner
from papershell.benchmarks.case import Case, Work, against
from papershell.benchmarks.ceilings import Trial
from papershell.benchmarks.measure import device_of, need, repeats_of
from papershell.benchmarks.records import Run, benchmarks_of, read_run
from papershell.benchmarks.runner import BenchmarkFailure, run_suites
from tests.benchmarks.conftest import prepare_suites

CHECKED = """
import time

import numpy as np
import pytest

from papershell.benchmarks.case import Case, Work, against

RIGHT = np.arange(200_000.0)
FACTS = {"group": "copy", "error": against(RIGHT), "tolerance": 1e-12, "dtype": "float64"}


def slow_start(calls=[]):
    calls.append(time.sleep(0 if calls else 0.1))
    return RIGHT.copy()


def wrong_at_last(calls=[]):
    calls.append(1)
    return RIGHT + (len(calls) > 3)


def with_nan():
    found = RIGHT.copy()
    found[-1] = np.nan
    return found


CASES = {
    "copy": RIGHT.copy,
    "three copies / each": lambda: [RIGHT.copy() for _ in range(3)][-1],
    "slow start": slow_start,
    "wrong": lambda: RIGHT + 1,
    "wrong at last": wrong_at_last,
    "nan at the end": with_nan,
    "other shape": lambda: RIGHT[:-1],
}


@pytest.mark.parametrize("case", CASES)
def test_copy(measure, case):
    measure(Case.among(CASES, case, work=Work(moved_bytes=2 * RIGHT.nbytes), **FACTS))


def test_killed_child(measure):
    measure(Case.among({"child": lambda: -11}, "child", group="", error=float, tolerance=0))


def test_on_a_device(measure):
    measure(Case.among(CASES, "copy", device="cuda", **FACTS))
"""
SECOND = """
from papershell.benchmarks.case import Case, against
import numpy as np

ZEROS = np.zeros(10)


def test_zeros(measure):
    measure(Case.among({"zeros": ZEROS.copy}, "zeros", group="z", error=against(ZEROS), tolerance=0))
"""
BROKEN = "import a_library_that_is_not_there\n"
ENDLESS = """
import time
from pathlib import Path

from papershell.benchmarks.case import Case

NOTHING = Case.among({"nothing": lambda: 0}, "nothing", group="g", error=float, tolerance=0)


def test_first(measure):
    measure(NOTHING)


def test_second(measure):
    Path(__file__).with_name("second").touch()
    time.sleep(60)
    measure(NOTHING)
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, str, Path]:
    """A run of three files, in which most fails: the run, what was said, and its file."""
    folder = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        suites = prepare_suites(folder, patch)
        for name, text in (("checked", CHECKED), ("broken", BROKEN), ("second", SECOND)):
            (suites / f"test_{name}.py").write_text(text)
        file = folder / "run.json"
        with pytest.raises(BenchmarkFailure) as caught:
            run_suites(file, budget_s=0.1, device="cpu", quiet=True)
    return read_run(file), str(caught.value), file


def facts_of(run: Run, case: str) -> dict[str, Any]:
    """Return what was recorded of a case."""
    return benchmarks_of(run)[f"test_checked.py::test_copy[{case}]"]["extra_info"]


def test_only_right_results_have_a_time(ended: tuple[Run, str, Path]) -> None:
    assert {*benchmarks_of(ended[0])} == {
        *(f"test_checked.py::test_copy[{case}]" for case in ("copy", "three copies / each", "slow start")),
        "test_second.py::test_zeros",  # another process went on with the record, though one before it broke
    }


def test_wrong_results_are_said_loudly(ended: tuple[Run, str, Path]) -> None:
    _, said, file = ended
    assert "a benchmark failed, and no time is recorded for it" in said and str(file) in said
    assert "a_library_that_is_not_there" in said or "test_broken" in said


def test_the_reference_is_its_own_control(ended: tuple[Run, str, Path]) -> None:
    facts = facts_of(ended[0], "copy")
    assert facts["is_reference"] and facts["case"] == facts["reference"] == "copy"
    assert facts["ratio_low"] <= facts["ratio"] <= facts["ratio_high"]
    assert facts["reference_s"] > 0 and np.isfinite(
        facts["ratio"]
    )  # how near 1 depends on the machine's load


def test_a_case_is_compared_with_the_reference_in_its_own_run(ended: tuple[Run, str, Path]) -> None:
    facts = facts_of(ended[0], "three copies / each")
    assert not facts["is_reference"] and facts["reference"] == "copy"
    assert 0 < facts["ratio"] < 0.8


def test_the_first_call_is_recorded_apart(ended: tuple[Run, str, Path]) -> None:
    slow = benchmarks_of(ended[0])["test_checked.py::test_copy[slow start]"]
    assert slow["extra_info"]["first_call_s"] >= 0.1 > slow["stats"]["max"]


def test_rates_follow_from_the_median(ended: tuple[Run, str, Path]) -> None:
    benchmark = benchmarks_of(ended[0])["test_checked.py::test_copy[copy]"]
    assert benchmark["extra_info"]["bytes"] == 2 * 8 * 200_000
    rate = benchmark["extra_info"]["bytes"] / benchmark["stats"]["median"] / 1e9
    assert benchmark["extra_info"]["GB_per_s"] == pytest.approx(rate)
    assert benchmark["extra_info"].get("percent_of_ceiling") is None


def test_pytest_benchmarks_own_command_reads_the_record(ended: tuple[Run, str, Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", str(ended[2]), "--columns=median,rounds"],
        capture_output=True, text=True, cwd=ended[2].parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "test_copy[slow start]" in done.stdout and "test_zeros" in done.stdout


def test_a_benchmark_measured_again_replaces_itself(ended: tuple[Run, str, Path], suites: Path) -> None:
    (suites / "test_second.py").write_text(SECOND)
    file = suites.parent / "run.json"
    file.write_bytes(ended[2].read_bytes())
    options = ["-p", runner.PLUGIN, "-c", "pytest.ini", f"--measure-record={file}", "--measure-budget=0.05"]
    options += ["test_second.py"]
    subprocess.run(
        [sys.executable, "-m", "pytest", *options], check=True, cwd=suites, env=quiet_environment()
    )
    assert benchmarks_of(read_run(file)).keys() == benchmarks_of(ended[0]).keys()


def quiet_environment() -> dict[str, str]:
    """The environment without what it tells this pytest."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


COMMAND = """
import sys
from pathlib import Path
from papershell.benchmarks import runner
from papershell.orchestration.cli import main
runner.FOLDER = Path({folder!r})
main(["bench", "run", "--smoke", "--output", {output!r}])
"""


def started(suites: Path, command: list[str]) -> subprocess.Popen[str]:
    """Start a command and return once its first benchmark is recorded and its second has begun."""
    (suites / "test_endless.py").write_text(ENDLESS)
    process = subprocess.Popen(
        [sys.executable, *command], cwd=suites, env=quiet_environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (suites / "second").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_keeps_what_was_measured(suites: Path, number: signal.Signals) -> None:
    file = suites.parent / "run.json"
    options = ["-p", runner.PLUGIN, "-c", "pytest.ini", f"--measure-record={file}", "--measure-budget=0.05"]
    process = started(suites, ["-m", "pytest", *options, "test_endless.py"])
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == (-number if number == signal.SIGKILL else runner.INTERRUPTED)
    assert [*benchmarks_of(read_run(file))] == ["test_endless.py::test_first"]


def test_an_interrupted_command_prints_what_was_measured(suites: Path) -> None:
    file = suites.parent / "run.json"
    process = started(suites, ["-c", COMMAND.format(folder=str(suites), output=str(file))])
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in said
    assert "nothing" in printed and [*benchmarks_of(read_run(file))] == ["test_endless.py::test_first"]


def judged(error: Callable[[Any], float], tolerance: float) -> Case:
    """Return a case that nobody calls."""
    return Case.among({"nothing": lambda: None}, "nothing", group="", error=error, tolerance=tolerance)


@pytest.mark.parametrize("place", [0, 70_000, -1])
def test_a_nan_anywhere_is_wrong(place: int) -> None:
    right = np.arange(200_000.0)
    found = right.copy()
    found[place] = np.nan
    assert np.isnan(against(right)(found))
    with pytest.raises(AssertionError, match="wrong result after timing: its error is nan"):
        judged(against(right), 1.0).check(found, "after")


@pytest.mark.parametrize("error", [1e-3, -1e-3, float("inf"), float("-inf"), float("nan")])
def test_errors_of_either_sign_are_wrong_beyond_the_tolerance(error: float) -> None:
    with pytest.raises(AssertionError, match="no time is recorded"):
        judged(lambda _: error, 1e-4).check(None, "before")
    assert judged(lambda _: -1e-3, 1e-3).check(None, "before") == 1e-3


def test_errors_are_relative_to_the_largest_number_right() -> None:
    assert against(np.array([0.0, -50.0]))(np.array([1.0, -50.0])) == pytest.approx(0.02)
    assert against(np.zeros(2))(np.array([0.0, 0.5])) == 0.5
    assert against(np.array([200], np.uint8))(np.array([100], np.uint8)) == 0.5


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 1e-6, 3e-4, 1.0])
def test_a_round_is_long_enough_for_the_clock(seconds: float) -> None:
    count, round_s = repeats_of(seconds)
    assert count >= 1 and round_s >= 2e-3 and count < 1e5
    assert count * seconds <= max(2e-3 + seconds, seconds)


def test_the_best_rate_is_compared_with_the_best_of_the_limit() -> None:
    """The machine halves its speed from round to round; what it could do once, also at the start, is the limit."""
    seconds, limit_s = [1.0, 2.0, 4.0], [0.5, 1.0, 2.0]
    copy = Trial("GB/s", amount=10e9, calls=[])
    product = Trial("GFLOP/s", amount=400e9, calls=[])
    work = Work(moved_bytes=8 * 10**9, flops=40 * 10**9)
    assert work.percent(seconds, copy, limit_s, start=10.0) == pytest.approx(40)
    assert work.percent(seconds, copy, limit_s, start=32.0) == pytest.approx(25)
    assert work.percent(seconds, product, limit_s, start=0.0) == pytest.approx(5)
    assert (
        work.percent([0.1], copy, limit_s, start=10.0) == 100
    )  # who surpasses a limit has shown a higher one
    assert work.rates(seconds) == {"bytes": 8 * 10**9, "flops": 40 * 10**9, "GB_per_s": 4, "GFLOP_per_s": 20}
    assert Work().rates(seconds) == dict.fromkeys(("bytes", "flops", "GB_per_s", "GFLOP_per_s"))


def test_an_unknown_ceiling_is_an_error_that_names_the_known() -> None:
    with pytest.raises(ValueError, match=r"unknown ceiling 'copy, dram'; choose among: copy, L1; .*launch"):
        Work(ceiling="copy, dram")
    assert ceilings.on_device("widen 4, new pages", "cuda") == "copy, DRAM on the GPU"
    assert ceilings.on_device("GEMM, float32", "cuda") == "GEMM, float32 on the GPU"
    assert {*ceilings.names()} <= {*ceilings.KNOWN} | {f"{name}{ceilings.GPU}" for name in ceilings.KNOWN}


LONG = """
import time
from pathlib import Path

from papershell.benchmarks.case import Case, Reference

CALLS = Path(__file__).with_name("calls")


def slow():
    with CALLS.open("a") as file:
        file.write("x")
    time.sleep(0.2)
    return 0


def never():
    raise AssertionError("a reference that was timed before is not called")


def facts(result):
    return {"objective": 7.0 + result, "passes": 3.0}


def test_long(measure):
    reference = Reference("minutes", never, seconds=2.0)
    measure(Case("long", "slow", slow, reference, error=float, tolerance=0, facts=facts))
"""


def test_a_call_beyond_the_budget_is_timed_once_beside_what_its_reference_took(suites: Path) -> None:
    (suites / "test_long.py").write_text(LONG)
    run = run_suites(suites.parent / "run.json", budget_s=0.05, quiet=True)
    facts = benchmarks_of(run)["test_long.py::test_long"]
    assert (suites / "calls").read_text() == "xx"  # the first call, and the one that was timed
    assert facts["stats"]["rounds"] == 1 and facts["stats"]["median"] >= 0.2
    shown = facts["extra_info"]
    assert shown["ratio"] == pytest.approx(2.0 / facts["stats"]["median"])
    assert (shown["reference"], shown["objective"], shown["passes"]) == ("minutes", 7, 3)
    assert shown["reference_s"] == 2.0


def test_without_benchmarking_results_are_still_checked(suites: Path) -> None:
    (suites / "test_checked.py").write_text(CHECKED)
    options = ["-p", runner.PLUGIN, "-c", "pytest.ini", "--benchmark-disable", "-k", "copy and not device"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "test_checked.py"],
        cwd=suites, env=quiet_environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1 and "3 failed, 4 passed" in done.stdout, done.stdout


def test_an_absent_back_end_skips_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    from papershell.kernels import backends

    absent = [name for name in backends.available_backends() if not backends.is_available(name)]
    for name in absent:
        with pytest.raises(pytest.skip.Exception, match=name):
            need(name)
    need("numpy")
    assert device_of("numpy") == device_of("numba") == "cpu" and device_of("cupy") == "cuda"
