"""The GPU comparison: all of it on the host's tensors, and what it says where there is no GPU."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from papershell.kernels import available_backends
from papershell.kernels.backends import is_available, torch_has_cuda

pytestmark = pytest.mark.skipif(not is_available("torch"), reason=available_backends()["torch"])


def test_every_line_of_the_comparison(capsys):
    from papershell.benchmarks import solver_gpu

    X, y = load_digits(return_X_y=True)
    solver_gpu.compare(np.uint8(15 * X), y, "cpu", np.logspace(0, 3, 4))
    out = capsys.readouterr().out
    for route in ("float32", "bfloat16, 3 pieces", "float64", "kernel", "formulas", "PyTorch LBFGS"):
        assert route in out
    error = {
        line.split("  ")[2].strip(): float(line.split()[-1])
        for line in out.splitlines()
        if "pieces  " in line
    }
    assert error["bfloat16, 3 pieces"] < 1e-6 < error["bfloat16, 1 pieces"] < 1e-2
    assert "['GRADIENT']" in out and "500 ms over papershell, 4 rates" in out


@pytest.mark.skipif(torch_has_cuda(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_a_sentence():
    run = subprocess.run(
        [sys.executable, "-m", "papershell.benchmarks.solver", "gpu"],
        capture_output=True,
        text=True,
        env=os.environ | {"PAPERSHELL_DATA": ""},
    )
    assert run.returncode == 1 and not run.stdout
    assert "no CUDA device" in run.stderr and run.stderr.count("\n") == 1
