"""Starts suites, each file in a process of its own, and returns their run.

So frameworks share no process: TensorFlow and PyTorch do not get on in one, and no suite depends on the
suites that ran before it.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from papershell.benchmarks.plugin import FULL_S
from papershell.benchmarks.records import Run, read_run
from papershell.kernels.backends import BackendError, has_cuda

FOLDER = Path(__file__).parent
PLUGIN = "papershell.benchmarks.plugin"
FAILED, INTERRUPTED, REFUSED, NO_TESTS = 1, 2, 4, 5  # pytest's exit codes
ENDINGS = {
    FAILED: "a benchmark failed, and no time is recorded for it",
    INTERRUPTED: "the run was interrupted",
    REFUSED: "pytest does not understand the selection, or knows no such benchmark",
}


class BenchmarkFailure(RuntimeError):
    """The suites did not end well; the message says how, and where the file with the measurements is."""


@dataclass(frozen=True)
class Process:
    """The suites of one process: pytest's arguments, and the folder that their addresses begin at."""

    root: Path
    targets: list[str]

    @property
    def options(self) -> list[str]:
        """Arguments that tell pytest where they are."""
        outside = ["--measure-outside"] if self.root != FOLDER else []
        return ["-c", str(FOLDER / "pytest.ini"), f"--rootdir={self.root}", *outside, *self.targets]


def run_suites(
    output: Path,
    *,
    paths: Sequence[Path] = (),
    select: str = "",
    budget_s: float = FULL_S,
    device: str = "any",
    quiet: bool = False,
) -> Run:
    """Run suites and return the run, which ``output`` holds from the first benchmark on.

    Parameters
    ----------
    output : file for the run; it is replaced after each benchmark.
    paths : files of suites, or folders with ``test_*.py``, in or below the current folder; ours if empty.
    select : expression of pytest's ``-k``.
    budget_s : seconds that each benchmark is measured; below `FULL_S` the slow ones are left out.
    device : ``cuda`` for the cases on a GPU only, ``cpu`` for all others, ``any``.
    quiet : print the failures only.

    Raises
    ------
    BackendError
        ``device="cuda"``, and there is no GPU.
    BenchmarkFailure
        A benchmark failed (the others are measured all the same), nothing was selected, or the run was
        interrupted.
    ValueError
        A path is not there, or not below the current folder.
    """
    if device == "cuda" and not has_cuda():
        raise BackendError("no CUDA device here that CuPy or PyTorch can use; leave out --device cuda")
    if importlib.util.find_spec("pytest_benchmark") is None:
        raise BenchmarkFailure("pytest-benchmark is not installed; pip install 'papershell[bench]' adds it")
    processes = list(suites(paths))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)
    options = ["-p", PLUGIN, f"--measure-record={output.resolve()}", f"--measure-budget={budget_s}"]
    options += [f"--measure-device={device}", "--benchmark-quiet"]
    options += [f"-k={select}"] * bool(select) + ["-m=not slow"] * (budget_s < FULL_S)
    return _read(output, [*_endings(processes, options, quiet)])


def _endings(processes: Iterable[Process], options: Sequence[str], quiet: bool) -> Iterable[tuple[int, str]]:
    """Start one process after another; yield each one's exit code and, if ``quiet``, its output."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    for process in processes:
        # -P: without it the modules in the current folder would hide installed ones
        done = subprocess.run(
            [sys.executable, "-P", "-m", "pytest", *options, *process.options],
            env=inherited,
            stdout=subprocess.PIPE if quiet else None, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        yield done.returncode, done.stdout or ""
        if done.returncode in (INTERRUPTED, REFUSED):
            return


def _read(output: Path, endings: Sequence[tuple[int, str]]) -> Run:
    """Return the run that ``output`` holds, if the processes ended well."""
    kept = read_run(output) if output.exists() else None
    for code, printed in endings:
        if code not in (0, NO_TESTS):
            where = f"; the results so far are in {output}" if kept else ""
            raise BenchmarkFailure(
                f"{ENDINGS.get(code, f'pytest ended with {code}')}{where}\n{printed}".rstrip()
            )
    if kept is None:
        raise BenchmarkFailure("no result: no benchmark has such a name, or all of them were skipped")
    return kept


def suites(paths: Sequence[Path]) -> Iterable[Process]:
    """Yield a process for each file of suites at ``paths``, or of ours."""
    for path in paths or [FOLDER]:
        root = Path.cwd() if paths else FOLDER
        if not path.exists():
            raise ValueError(
                f"{path}: no such file or folder; name a file of benchmarks, or a folder with test_*.py"
            )
        if not path.resolve().is_relative_to(root.resolve()):
            raise ValueError(f"{path} is not below the current folder; start the run in a folder above it")
        found = (
            [path] if path.is_file() else sorted(path.rglob("test_*.py") if paths else path.glob("test_*.py"))
        )
        yield from (Process(root, [str(file.resolve())]) for file in found)
