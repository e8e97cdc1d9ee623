"""The model of the cost that chooses a back end: what it loads, what it counts, whether measured passes bear it out."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from papershell.benchmarks import solver_rates
from papershell.kernels import backends
from papershell.kernels.backends import is_available
from papershell.kernels.logreg import cost

MNIST = (60_000, 784, 10)


def test_a_small_fit_loads_neither_numba_nor_pytorch():
    script = """
import sys
import numpy as np
from papershell import fit_path
y = np.arange(90) % 3
for dtype in (np.uint8, np.float32):
    assert fit_path(np.eye(3)[y].astype(dtype), y, 1.0).backend == "numpy"
print([name for name in ("numba", "torch") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_loading_counts_until_a_library_is_loaded(monkeypatch):
    monkeypatch.setattr(backends, "has_matrix_units", lambda: True)
    monkeypatch.setattr(cost, "installed", lambda *_: ["numpy", "numba", "torch"])
    kernels = "papershell.kernels.logreg.on_cpu"
    for name in ("torch", kernels):
        monkeypatch.setitem(sys.modules, name, sys.modules.get(name, sys))
    loaded = cost.seconds(*MNIST, 1, np.int8)
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.delitem(sys.modules, kernels)
    fresh = cost.seconds(*MNIST, 1, np.int8)
    expected = {"numpy": 0.0, "numba": cost.LOADING_S["numba"], "torch": sum(cost.LOADING_S.values())}
    for name, seconds in expected.items():
        assert fresh[name] - loaded[name] == pytest.approx(seconds, abs=1e-9)
    assert min(loaded, key=loaded.get) == "torch"  # not held back by what has been paid


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_exact_products_are_offered_to_bytes_only(monkeypatch, dtype):
    monkeypatch.setattr(backends, "has_matrix_units", lambda: True)
    offered = cost.installed(1000, 20, dtype)
    assert ("torch" in offered) == (dtype == "uint8" and is_available("torch"))
    assert "torch" not in cost.installed(20, 1000, dtype)  # the coordinates of the rows are floats


@pytest.mark.parametrize(("vnni", "expected"), [(True, "numba"), (False, "torch")])
def test_unsigned_bytes_need_no_pytorch_if_the_processor_has_vnni(monkeypatch, vnni, expected):
    monkeypatch.setattr(backends, "has_matrix_units", lambda: True)
    monkeypatch.setattr(backends, "has_vnni", lambda: vnni)
    monkeypatch.setattr(cost, "installed", lambda *_: ["numpy", "numba", "torch"])
    monkeypatch.setattr(cost, "LOADING_S", dict.fromkeys(cost.LOADING_S, 0.0))
    each = cost.seconds(*MNIST, 1, np.uint8)
    assert min(each, key=each.get) == expected


def test_more_work_takes_longer():
    small = cost.seconds(*MNIST, 1, "float32")
    for larger in ((120_000, 784, 10, 1), (60_000, 1568, 10, 1), (60_000, 784, 20, 1), (60_000, 784, 10, 4)):
        each = cost.seconds(*larger, "float32")
        assert all(each[name] > small[name] for name in small)


def test_measured_passes_bear_the_model_out():
    """Logits of many rows are what Numba's fused loops are for: both the model and the clock must say so."""
    N, P, K = 20_000, 3, 10
    measured = [solver_rates.measured_pass_s(name, "float32", N, P, K) for name in ("numpy", "numba")]
    stated = [cost.pass_s(cost.RATES[name], N, P, K) for name in ("numpy", "numba")]
    assert measured[0] > 2 * measured[1] and stated[0] > 2 * stated[1]


def test_the_rates_are_printed_beside_the_stated_ones(monkeypatch, capsys):
    monkeypatch.setattr(solver_rates, "SHAPES", ((256, 64, 3), (64, 256, 20), (2000, 3, 5)))
    solver_rates.main()
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines[1:]} == set(cost.installed(1, 1, "uint8"))
    assert all(line.count("(stated ") == 3 for line in lines[1:])


def test_the_plan_names_coordinates_and_preconditioner():
    wide = cost.explain(100, 5000, 3, 2)
    assert "coordinates: 100 combinations of the rows" in wide
    assert any("each class by itself" in line for line in cost.explain(30_000, 400, 200, 1))
    assert "columns of logits a problem: 1" in cost.explain(300, 10, 2, 1)
    assert "Newton's method with the whole Hessian of 11 unknowns" in cost.explain(300, 10, 2, 1)
    assert any("one read of X a step" in line for line in cost.explain(1_000_000, 20, 2, 1, "float64"))
    assert sum("(chosen by auto)" in line for line in wide) == 1
