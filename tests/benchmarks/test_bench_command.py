"""The commands ``papershell bench run|compare|report``: what they print, write and exit with."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from papershell.benchmarks import records, runner
from papershell.benchmarks.records import append, benchmarks_of, read_run, write_run
from papershell.kernels.backends import has_cuda
from papershell.orchestration.cli import main
from tests.benchmarks.runs import CASES, commit_id, make_run

Bench = Callable[..., tuple[int, str, str]]
MACHINE = "amd-epyc-2c-3f2a9c"
WITHOUT_ISAL = [case for case in CASES if case.case != "isal"]
PLANTED, KEY = "numba, out=", "test_kernels.py::test_normalize_float32[numba, out=]"
ROOT = runner.FOLDER.parent
NUMBERS = """
import numpy as np
import pytest

from papershell.benchmarks.case import Case, Work, against
from papershell.kernels import normalize

X = np.arange(256, dtype=np.uint8).repeat(100)
CALLS = {"NumPy": lambda: X / 255, "normalize": lambda: normalize(X, dtype="float64", backend="numpy")}
WORK = Work(moved_bytes=9 * X.size, ceiling="copy, L2")


@pytest.mark.parametrize("case", CALLS)
def test_numbers(measure, case):
    measure(Case.among(CALLS, case, group="numbers", error=against(X / 255), tolerance=1e-15, work=WORK))
"""
WRONG = """
from papershell.benchmarks.case import Case


def test_wrong(measure):
    measure(Case.among({"three": lambda: 3}, "three", group="numbers", error=float, tolerance=0))


def test_right(measure):
    measure(Case.among({"zero": lambda: 0}, "zero", group="numbers", error=float, tolerance=0))
"""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Bench:
    """Run the command in an empty folder; return its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["bench", *map(str, words)])
        return (ended.value.code or 0, *capfd.readouterr())  # type: ignore[return-value]

    return call


def recorded(path: Path, **options: Any) -> Path:
    """Write a made-up run and return its file."""
    write_run(path, make_run(9, **options))
    return path


def sentence(text: str) -> str:
    """Return the error, which is one sentence."""
    assert text.startswith("error: ") and text.count("\n") == 1
    return text


def test_run_measures_real_kernels_and_appends_to_the_history(suites: Path, bench: Bench) -> None:
    (suites / "test_first_call.py").write_text(NUMBERS)
    code, out, _ = bench("run", "--smoke", "--select", "numbers", "--history", "history")
    assert code == 0 and "wrote outputs/bench.json" in out
    run = read_run(Path("outputs/bench.json"))
    assert {*benchmarks_of(run)} == {
        "test_first_call.py::test_numbers[NumPy]",
        "test_first_call.py::test_numbers[normalize]",
    }
    for benchmark in run["benchmarks"]:
        assert benchmark["extra_info"]["case"] in out and f"{benchmark['extra_info']['ratio']:.3g}" in out
    (kept,) = Path("history", records.machine_of(run)).iterdir()
    assert read_run(kept) == records.compact(run) and kept.name in out
    code, out, _ = bench("report", "--history", "history")
    assert code == 0 and "normalize" in Path("outputs/bench.html").read_text()


def test_a_failing_check_shows_the_others_and_exits_with_1(suites: Path, bench: Bench) -> None:
    (suites / "test_numbers.py").write_text(WRONG)
    code, out, err = bench("run", "--smoke", "--history", "history")
    assert (
        code == 1
        and "no time is recorded for it; the results so far are in outputs/bench.json" in sentence(err)
    )
    table = out[out.rindex("times as fast as the reference") :]
    assert "zero" in table and "three" not in table and "wrong result before timing" in out
    assert not Path("history").exists()


@pytest.mark.parametrize(
    ("select", "said"),
    [
        ("no_such_name", "no result: no benchmark has such a name"),
        ("a b", "does not understand the selection"),
    ],
)
def test_a_selection_of_nothing_is_one_sentence(suites: Path, bench: Bench, select: str, said: str) -> None:
    (suites / "test_numbers.py").write_text(WRONG)
    code, _, err = bench("run", "--smoke", "--select", select)
    assert code == 1 and said in err.splitlines()[-1] and not Path("outputs/bench.json").exists()


@pytest.mark.skipif(has_cuda(), reason="there is a GPU")
def test_a_gpu_asked_for_and_absent_is_one_sentence(bench: Bench) -> None:
    before = recorded(Path("outputs/bench.json"))
    code, out, err = bench("run", "--smoke", "--device", "cuda")
    assert code == 1 and out == "" and "no CUDA device here" in sentence(err)
    assert before.exists()  # nothing was measured that could take its place


@pytest.mark.parametrize("command", ["report", "compare"])
def test_a_run_that_is_not_there_is_one_sentence(bench: Bench, command: str) -> None:
    code, out, err = bench(command, *["none.json"] * (1 + (command == "compare")))
    assert code == 1 and out == "" and "No such file" in sentence(err)


def test_files_of_your_own_are_run_from_any_folder_above_them(bench: Bench) -> None:
    mine = Path("mine/bench.v1")
    mine.mkdir(parents=True)
    (mine / "test_numbers.py").write_text(NUMBERS)
    (mine / "test_decode.py").write_text(WRONG.replace("lambda: 3", "lambda: 0"))
    code, _, err = bench("run", "mine", "--smoke", "--device", "cpu")
    assert (code, err) == (0, "")
    keys = {f"./mine/bench.v1/test_numbers.py::test_numbers[{case}]" for case in ("NumPy", "normalize")}
    decode = {f"./mine/bench.v1/test_decode.py::test_{name}" for name in ("wrong", "right")}
    assert {*benchmarks_of(read_run(Path("outputs/bench.json")))} == keys | decode
    code, _, _ = bench("run", mine / "test_numbers.py", "--smoke", "--select", "normalize")
    assert code == 0 and len(benchmarks_of(read_run(Path("outputs/bench.json")))) == 1


@pytest.mark.parametrize(
    ("path", "said"), [("absent", "no such file or folder"), ("..", "start the run in a folder above it")]
)
def test_a_path_that_cannot_be_run_is_one_sentence(bench: Bench, path: str, said: str) -> None:
    code, out, err = bench("run", path)
    assert code == 1 and out == "" and said in sentence(err) and not Path("outputs").exists()


def test_compare_shows_both_ratios_and_what_came_and_went(bench: Bench) -> None:
    before, after = Path("before.json"), Path("after.json")
    write_run(before, make_run(1))
    write_run(after, make_run(2, cases=WITHOUT_ISAL, slowdown={PLANTED: 1.3}))
    code, out, _ = bench("compare", before, after)
    line = next(x for x in out.splitlines() if KEY in x)
    assert code == 0 and float(line.split()[-2]) == pytest.approx(30, abs=4)
    assert "[X / 255.0]" not in out  # a reference has no ratio to itself that could change
    assert (
        "vanished: test_kernels.py::test_decode_MNIST[isal]" in out and "only the ratios compare" not in out
    )


def test_compare_says_that_machines_differ(bench: Bench) -> None:
    write_run(Path("other.json"), make_run(2, machine="another-one"))
    code, out, _ = bench("compare", recorded(Path("run.json")), "other.json")
    assert code == 0 and "other.json on another-one: only the ratios compare" in out


def test_report_draws_the_runs_before_it_and_names_files_that_hold_none(bench: Bench) -> None:
    history = Path("history")
    for index in (0, 1, 12):
        append(history, make_run(index))
    (history / MACHINE / "cut.json").write_text("{")
    write_run(history / MACHINE / "other.json", make_run(3, machine="another-one"))
    code, out, _ = bench("report", recorded(Path("run.json")), "--history", history)
    assert code == 0 and out.count("note: ") == 2 and "cut.json" in out and "measured on another-one" in out
    shown = Path("outputs/bench.html").read_text()
    assert [commit_id(index) in shown for index in (0, 1, 9, 12)] == [True, True, True, False]  # 12 is later


def test_report_needs_no_history(bench: Bench) -> None:
    recorded(Path("outputs/bench.json"))
    code, out, _ = bench("report", "--output", "pages/bench.html")
    assert code == 0 and "wrote pages/bench.html" in out
    assert Path("pages/bench.html").read_text().startswith("<!")


def test_help_imports_no_benchmark() -> None:
    script = (
        "import sys; from papershell.orchestration.cli import main\n"
        "heavy = ('papershell.benchmarks', 'numpy', 'pytest')\n"
        "try: main(['bench', '--help'])\n"
        "finally: print([name for name in sys.modules if name.startswith(heavy)])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "compare" in done.stdout and done.stdout.splitlines()[-1] == "[]"
