"""``papershell bench check --against`` and ``bench bisect`` on repositories of their users, with real processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from papershell.benchmarks import against, runner
from papershell.benchmarks.records import OUTSIDE
from papershell.orchestration.cli import main

Bench = Callable[..., tuple[int, str, str]]
LOOSE = ("--least", "80", "--budget", "20")  # a slowdown that a machine full of other tests shows too
STEPS = 4000
SUITE = """
import pytest

import mine
from papershell.benchmarks.case import Case


def spin(steps):
    total = 0
    for step in range(steps):
        total += step
    return 0


def raising(calls=[]):
    calls.append(1)
    if len(calls) > 3 and mine.BROKEN:
        raise OSError("the disk is gone")
    return 0


CALLS = {name: lambda steps=steps: spin(steps) for name, steps in mine.STEPS.items()}
CALLS |= {"wrong": lambda: mine.RESULT, "raising": raising}


@pytest.mark.parametrize("case", CALLS)
def test_spin(measure, case):
    measure(Case.among(CALLS, case, group="spin", error=float, tolerance=0))


def test_gpu(measure):
    measure(Case.among(CALLS, "plain", group="spin", error=float, tolerance=0, device="cuda"))


def test_not_timed():
    assert True
"""
LONG = """
import time
from papershell.benchmarks.case import Case


def test_long(measure):
    measure(Case.among({"long": lambda: time.sleep(0.5)}, "long", group="g", error=lambda _: 0, tolerance=0))
"""
KEY = "./suites/test_mine.py::test_spin"


def git(folder: Path, *arguments: str) -> str:
    """Run git, whose settings are its own."""
    settings = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *settings, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit(folder: Path, **files: str) -> str:
    """Write files, named by their stem, commit all, and return the commit."""
    for name, text in files.items():
        (folder / name.replace("__", "/")).with_suffix(".py").write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", f"change {', '.join(files)}")
    return git(folder, "rev-parse", "HEAD")


def settings(steps: dict[str, int], result: int = 0, broken: bool = False) -> str:
    return f"STEPS = {steps}\nRESULT = {result}\nBROKEN = {broken}\n"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's repository with a module and a suite in a folder, in which the test runs."""
    folder = tmp_path / "mine"
    (folder / "suites").mkdir(parents=True)
    git(folder, "init", "--quiet")
    commit(folder, mine=settings({"plain": STEPS}), suites__test_mine=SUITE)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(against, "TURN_S", 2e-3)
    return folder


@pytest.fixture
def bench(repository: Path, capfd: pytest.CaptureFixture[str]) -> Bench:
    """Run the command there; return its exit code, stdout and stderr; no checkout may be left."""

    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["bench", *map(str, words)])
        assert git(repository, "worktree", "list").count("\n") == 0
        return (ended.value.code or 0, *capfd.readouterr())  # type: ignore[return-value]

    return call


def states(out: str) -> dict[str, str]:
    """Return what is said of each key."""
    lines = [line for line in out.splitlines() if OUTSIDE in line]
    return {line[line.index(OUTSIDE) :]: line.split("  ")[0] for line in lines}


def test_every_kind_of_change_is_told_apart(repository: Path, bench: Bench) -> None:
    commit(repository, mine=settings({"plain": STEPS, "slow": STEPS, "gone": STEPS}))
    (repository / "mine.py").write_text(
        settings({"plain": STEPS, "slow": 5 * STEPS, "fresh": STEPS}, 1, True)
    )
    code, out, err = bench("check", "suites", "--against", "HEAD", "--device", "cpu", *LOOSE)
    assert (code, err) == (1, "")  # a regression counts more than a failure
    assert states(out) == {
        f"{KEY}[plain]": "same", f"{KEY}[slow]": "regression", f"{KEY}[wrong]": "failed", f"{KEY}[raising]": "failed",
        f"{KEY}[gone]": "vanished", f"{KEY}[fresh]": "new", "./suites/test_mine.py::test_gpu": "skipped",
    }  # fmt: skip
    assert "new commit: AssertionError: wrong result before timing" in out
    assert "new commit: OSError: the disk is gone" in out
    assert "new commit: runs on cuda; the check is for cpu" in out
    slow = next(line for line in out.splitlines() if "[slow]" in line)
    assert float(slow.split()[1]) > 80 and float(slow.split("sees ")[1].split()[0]) > 0
    assert "1 regression" in out.splitlines()[-1] and "2 failed" in out.splitlines()[-1]


def test_a_file_that_does_not_load_failed_and_a_new_one_is_new(repository: Path, bench: Bench) -> None:
    commit(repository, suites__test_more=LONG)
    (repository / "suites/test_more.py").write_text("import a_library_that_is_not_there\n")
    (repository / "suites/test_newer.py").write_text(LONG)
    code, out, _ = bench("check", "suites/test_more.py", "suites/test_newer.py", "--against", "HEAD")
    assert code == 2 and "a_library_that_is_not_there" in out
    assert "failed" in out.splitlines()[0] and out.splitlines()[-1] == "1 failed, 1 new"


def test_a_call_that_is_too_long_for_the_budget_is_undecided(repository: Path, bench: Bench) -> None:
    commit(repository, suites__test_long=LONG)
    code, out, _ = bench("check", "suites/test_long.py", "--against", "HEAD", "--budget", "5")
    assert (
        code == 3
        and "could not decide  sees nothing" in out
        and "5 turns in each of 2 sets of processes need 15 s; give --budget 31 or more" in out
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["suites", "--against", "no-such-commit"], "'no-such-commit' is no commit of"),
        (["suites", "--against", "HEAD", "--select", "nothing"], "have no such benchmark in common"),
        (["absent", "--against", "HEAD"], "neither commit has benchmarks at absent"),
        (["..", "--against", "HEAD"], "is not below"),
    ],
)
def test_wrong_use_exits_with_2(bench: Bench, arguments: list[str], said: str) -> None:
    code, out, err = bench("check", *arguments)
    assert (code, out) == (2, "") and said in err and err.startswith("error: ") and err.count("\n") == 1


def test_outside_of_a_repository_there_is_no_commit(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "test_lone.py").write_text(LONG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    code, _, err = bench("check", "test_lone.py", "--against", "HEAD")
    assert code == 2 and "lies in no git repository" in err


def test_our_own_suites_name_a_commit_that_is_too_old(tmp_path: Path) -> None:
    """A copy of the package whose first commit has a plugin without this protocol."""
    package = tmp_path / "papershell"
    shutil.copytree(runner.FOLDER.parent, package, ignore=shutil.ignore_patterns("__pycache__", "results"))
    git(tmp_path, "init", "--quiet")
    plugin = package / "benchmarks" / "plugin.py"
    text = plugin.read_text()
    plugin.write_text(text.replace('"--measure-serve"', '"--measure-nothing", dest="measure_serve"'))
    commit(tmp_path)
    plugin.write_text(text)
    command = [
        "-m",
        "papershell.orchestration.cli",
        "bench",
        "check",
        "--against",
        "HEAD",
        "--select",
        "import",
    ]
    done = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert (
        done.stderr == "error: old commit: its papershell cannot compare commits yet; name a later commit\n"
    )
    assert git(tmp_path, "worktree", "list").count("\n") == 0


def test_a_terminated_comparison_leaves_nothing_behind(repository: Path) -> None:
    commit(repository, suites__test_long=LONG.replace("0.5", "60"))
    before = set(Path(tempfile.gettempdir()).glob("papershell-bench-*"))
    command = [
        "-m",
        "papershell.orchestration.cli",
        "bench",
        "check",
        "suites/test_long.py",
        "--against",
        "HEAD",
    ]
    environment = {**os.environ, "PYTHONPATH": str(runner.FOLDER.parents[1])}
    process = subprocess.Popen([sys.executable, *command], cwd=repository, env=environment)
    while git(repository, "worktree", "list").count("\n") == 0 and process.poll() is None:
        time.sleep(0.05)
    process.terminate()
    assert process.wait() == 128 + signal.SIGTERM
    assert git(repository, "worktree", "list").count("\n") == 0
    assert set(Path(tempfile.gettempdir()).glob("papershell-bench-*")) <= before


@pytest.mark.slow
def test_bisection_finds_the_commit(repository: Path, bench: Bench) -> None:
    good = git(repository, "rev-parse", "HEAD")
    for number, steps in enumerate((STEPS, STEPS, 5 * STEPS, 5 * STEPS)):
        commit(repository, mine=settings({"plain": steps}) + f"# {number}\n")
    slow = git(repository, "rev-parse", "--short", "HEAD~1")
    code, out, _ = bench("bisect", good, "HEAD", "suites", "--select", "plain and not gpu", *LOOSE)
    assert code == 0 and out.splitlines()[-1] == f"slow since {slow} change mine"
    code, out, _ = bench("bisect", good, "HEAD~2", "suites", "--select", "plain and not gpu", *LOOSE)
    assert code == 0 and f"is not slower than {good[:10]}" in out
    code, _, err = bench("bisect", "HEAD", good, "suites", "--select", "plain")
    assert code == 2 and "name the older one first" in err
