"""The cost of a process before its first result: imports, compilation, loading compiled code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from papershell.benchmarks.case import Case
from papershell.benchmarks.measure import Measure

pytestmark = pytest.mark.slow

IMPORTS = {
    "import numpy": "import numpy",
    "import sklearn.linear_model": "import sklearn.linear_model",
    "import papershell.kernels": "import papershell.kernels",
    "import papershell.kernels and fit_path": "from papershell.kernels import fit_path",
    "papershell --help": "import sys; sys.argv[1:] = ['--help']; from papershell.orchestration.cli import main; main()",
}
# From a file that belongs to neither: scikit-learn's own reader of the digits loads half of scikit-learn.
DIGITS = "import numpy, sys; X, y = map(numpy.load(sys.argv[1]).get, 'Xy'); "
OURS = DIGITS + "from papershell.kernels import fit_path; fit_path(X, y, [1.0], backend={!r})"
FIRST_FITS = {
    "scikit-learn": DIGITS
    + "from sklearn.linear_model import LogisticRegression; LogisticRegression(max_iter=1000).fit(X, y)",
    **{f"fit_path, {backend}": OURS.format(backend) for backend in ("auto", "numpy", "numba")},
}


def fresh(code: str, *words: object) -> Callable[[], int]:
    """Return a call that runs ``code`` in a process of its own, and returns how it ended."""
    one_thread = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # best for data so small
    command = [sys.executable, "-c", code, *map(str, words)]
    return lambda: subprocess.run(command, stdout=subprocess.DEVNULL, env=one_thread).returncode


@pytest.mark.parametrize("case", IMPORTS)
def test_import(measure: Measure, case: str) -> None:
    calls = {name: fresh(code) for name, code in IMPORTS.items()}
    measure(Case.among(calls, case, group="start of a process", error=float, tolerance=0))


@pytest.mark.parametrize("case", FIRST_FITS)
def test_first_fit(measure: Measure, tmp_path: Path, case: str) -> None:
    X, y = load_digits(return_X_y=True)
    np.savez(tmp_path / "digits.npz", X=X / 16, y=y)
    calls = {name: fresh(code, tmp_path / "digits.npz") for name, code in FIRST_FITS.items()}
    group = "start of a process and a fit of the digits"
    measure(Case.among(calls, case, group=group, error=float, tolerance=0, dtype="float64"))
