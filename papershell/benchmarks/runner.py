"""Starts the suites, each file in a process of its own, and returns what they measured.

Frameworks share no process so: TensorFlow and PyTorch do not get on in one, and what a suite measures
does not depend on the suites that ran before it.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from papershell.benchmarks.records import Run, read_run
from papershell.kernels.backends import BackendError, has_cuda

FOLDER = Path(__file__).parent
FULL_S, SMOKE_S = 3.0, 0.2
FAILED, INTERRUPTED, REFUSED, NO_TESTS = 1, 2, 4, 5  # pytest's exit codes
ENDINGS = {
    FAILED: "a benchmark failed, and no time is recorded for it",
    INTERRUPTED: "the run was interrupted",
    REFUSED: "pytest does not understand the selection, or knows no such benchmark",
}


class BenchmarkFailure(RuntimeError):
    """The suites did not end well; the message says how, and where what they had measured is."""


def run_suites(
    output: Path,
    *,
    select: str = "",
    keys: Collection[str] = (),
    budget_s: float = FULL_S,
    device: str = "any",
    environment: Mapping[str, str] | None = None,
    quiet: bool = False,
) -> Run:
    """Run the suites and return the run, which ``output`` holds from the first benchmark on.

    Parameters
    ----------
    output : file for the run; it is replaced after each benchmark.
    select : expression of pytest's ``-k``.
    keys : benchmarks by key (`papershell.benchmarks.records.key_of`); all of the suites when empty.
    budget_s : seconds that each benchmark is measured; below `FULL_S` the slow ones are left out.
    device : ``cuda`` for the cases on a GPU only, ``cpu`` for all others, ``any``.
    environment : variables to set.
    quiet : print only what fails.

    Raises
    ------
    BackendError
        ``device="cuda"`` where there is no GPU.
    BenchmarkFailure
        A benchmark failed (the others are measured all the same), nothing was selected, or the run was
        interrupted.
    """
    if device == "cuda" and not has_cuda():
        raise BackendError("no CUDA device here that CuPy or PyTorch can use; leave out --device cuda")
    if importlib.util.find_spec("pytest_benchmark") is None:
        raise BenchmarkFailure("pytest-benchmark is not installed; pip install 'papershell[bench]' adds it")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)
    options = [f"--record={output.resolve()}", f"--budget={budget_s}", f"--on={device}", "--benchmark-quiet"]
    options += [f"-k={select}"] * bool(select) + ["-m=not slow"] * (budget_s < FULL_S)
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    ours["PAPERSHELL_DATA"] = str(Path(ours.get("PAPERSHELL_DATA", "data")).resolve())  # they run elsewhere
    endings = []
    for targets in by_file(keys or [path.name for path in sorted(FOLDER.glob("test_*.py"))]):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-c", str(FOLDER / "pytest.ini"), *options, *targets],
            env={**ours, **(environment or {})}, cwd=FOLDER.parent,
            stdout=subprocess.PIPE if quiet else None, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        endings.append((done.returncode, done.stdout))
        if done.returncode in (INTERRUPTED, REFUSED):
            break
    kept = read_run(output) if output.exists() else None
    if kept is None and all(code in (0, NO_TESTS) for code, _ in endings):
        raise BenchmarkFailure(
            "nothing was measured: no benchmark has such a name, or all of them were skipped"
        )
    for code, printed in endings:
        if code not in (0, NO_TESTS):
            where = f"; what was measured is in {output}" if kept else ""
            raise BenchmarkFailure(
                f"{ENDINGS.get(code, f'pytest ended with {code}')}{where}\n{printed or ''}".rstrip()
            )
    assert kept is not None
    return kept


def by_file(keys: Iterable[str]) -> list[list[str]]:
    """Return pytest's arguments for the benchmarks of ``keys``, those of one file together."""
    return [
        [f"{FOLDER}/{key}" for key in group]  # a path would tidy up what stands between the brackets
        for _, group in groupby(sorted(keys), lambda key: key.split("::")[0])
    ]


def measure_again(keys: Collection[str], **options: Any) -> Run:
    """Run only the benchmarks of these keys, leaving no file."""
    with tempfile.TemporaryDirectory() as folder:
        return run_suites(Path(folder) / "run.json", keys=keys, quiet=True, **options)
