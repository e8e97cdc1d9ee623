"""The commands ``papershell bench run|compare|report|check``: what they print, write and exit with."""

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


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """A folder with six unchanged runs."""
    for index in range(6):
        append(tmp_path / "history", make_run(index))
    return tmp_path / "history"


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
    code, out, _ = bench("check", "--baseline", "history")
    assert code == 0 and "nothing to compare with" in out
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


@pytest.mark.parametrize("command", [("check",), ("report",), ("compare", "outputs/bench.json")])
def test_a_run_that_is_not_there_is_one_sentence(bench: Bench, command: tuple[str, ...]) -> None:
    code, out, err = bench(*command, *["none.json"] * (command != ("check",)))
    assert code == 1 and out == "" and "No such file" in sentence(err)


def test_check_passes_an_unchanged_run(bench: Bench, history: Path) -> None:
    code, out, err = bench("check", recorded(Path("run.json")), "--baseline", history, "--no-confirm")
    assert (code, err) == (0, "") and f"{len(CASES)} as before, against 6 runs" in out and "slower" not in out


def test_check_says_which_how_much_how_sure_and_since_when(bench: Bench, history: Path) -> None:
    run = recorded(Path("run.json"), slowdown={PLANTED: 1.3, "fused": 0.5})
    code, out, _ = bench("check", run, "--baseline", history, "--no-confirm")
    assert code == 1
    line, faster = (next(x for x in out.splitlines() if name in x) for name in (KEY, "[fused]"))
    numbers = [float(word) for word in line.split(" slower ")[1].replace("%", "").split()[:3]]
    assert numbers[0] == pytest.approx(30, abs=4) and 0 < numbers[1] < 10 and numbers[2] > 99
    assert f"{commit_id(5)[:10]}..{commit_id(9)[:10]}" in line and " faster " in faster
    assert f"{len(CASES) - 2} as before" in out


def test_check_names_what_is_new_vanished_undecided_or_no_run(bench: Bench, tmp_path: Path) -> None:
    history = tmp_path / "history"
    for index in range(2):
        append(history, make_run(index, cases=CASES[:-1]))
    (history / MACHINE / "cut.json").write_text("{")
    write_run(history / MACHINE / "other.json", make_run(3, machine="another-one"))
    run = recorded(Path("run.json"), cases=WITHOUT_ISAL)
    code, out, _ = bench("check", run, "--baseline", history)
    assert code == 0 and f"{len(CASES) - 2} benchmarks have too few runs" in out
    assert "new: test_kernels.py::test_byte_order_1000_labels[byteswap in place]" in out
    assert "vanished: test_kernels.py::test_decode_MNIST[isal]" in out
    assert out.count("note: ") == 2 and "cut.json" in out and "measured on another-one" in out


def test_runs_of_later_nights_are_no_baseline(bench: Bench, history: Path) -> None:
    write_run(Path("run.json"), make_run(0))
    code, out, _ = bench("check", "run.json", "--baseline", history)
    assert code == 0 and f"holds no earlier runs of {MACHINE}" in out


def test_the_first_night_of_a_machine_passes(bench: Bench, history: Path) -> None:
    code, out, err = bench("check", recorded(Path("run.json"), machine="new-one"), "--baseline", history)
    assert (code, err) == (0, "") and "holds no earlier runs of new-one" in out


def test_a_baseline_that_is_no_folder_is_one_sentence(bench: Bench) -> None:
    code, out, err = bench("check", recorded(Path("run.json")), "--baseline", "absent")
    assert code == 1 and out == "" and "absent: no such folder" in sentence(err)


AGAIN = """
import time
import pytest
from papershell.benchmarks.case import Case

SECONDS = {{"X / 255.0": 2e-3, "numba, out=": {seconds}}}


@pytest.mark.parametrize("case", SECONDS)
def test_normalize_float32(measure, case):
    calls = {{name: lambda s=s: time.sleep(s) for name, s in SECONDS.items()}}
    measure(Case.among(calls, case, group="normalize, float32", error=lambda _: 0, tolerance=0))
"""


def here(run: dict[str, Any], machine: dict[str, Any], ratio: float, prefix: str = "") -> dict[str, Any]:
    """Return a run as of this machine, in which the planted case has about this ratio."""
    run["machine_info"]["papershell"]["id"] = machine["id"]
    shares = {"ratio": ratio, "ratio_low": ratio * 0.99, "ratio_high": ratio * 1.01}
    for benchmark in run["benchmarks"]:
        benchmark["fullname"] = prefix + benchmark["fullname"]
        if benchmark["extra_info"]["case"] == PLANTED:
            benchmark["extra_info"] |= shares
    return run


@pytest.mark.parametrize("outside", [False, True], ids=["ours", "outside"])
def test_check_confirms_by_measuring_that_case_again(suites: Path, bench: Bench, outside: bool) -> None:
    """Sleeps make ratios of about 1/8, as in the run that is judged, and 1/2, as in the history."""
    file = (Path() if outside else suites) / "test_kernels.py"
    prefix = records.OUTSIDE if outside else ""
    file.write_text(AGAIN.format(seconds=16e-3))
    paths = [file] if outside else []
    measured = runner.run_suites(Path("first.json"), paths=paths, select="X", budget_s=0.05, quiet=True)
    assert [*benchmarks_of(measured)] == [f"{prefix}test_kernels.py::test_normalize_float32[X / 255.0]"]
    machine = measured["machine_info"]["papershell"]
    for index in range(5):
        append(Path("history"), here(make_run(index), machine, 0.5 * (1 + 0.02 * index), prefix))
    write_run(Path("run.json"), here(make_run(9), machine, 1 / 8, prefix))
    code, out, err = bench("check", "run.json", "--baseline", "history")
    assert (code, err) == (1, "") and prefix + KEY in out
    file.write_text(AGAIN.format(seconds=4e-3))
    code, out, err = bench("check", "run.json", "--baseline", "history")
    assert (code, err) == (0, "") and KEY not in out


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


def test_another_machine_cannot_confirm(suites: Path, bench: Bench, history: Path) -> None:
    (suites / "test_kernels.py").write_text(AGAIN.format(seconds=4e-3))
    run = recorded(Path("run.json"), slowdown={PLANTED: 1.3})
    code, out, err = bench("check", run, "--baseline", history)
    assert code == 1 and out == "" and f"the run is of {MACHINE}, this is " in sentence(err)
    assert "--no-confirm" in err


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
