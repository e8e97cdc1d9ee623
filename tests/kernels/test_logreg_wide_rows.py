"""Many classes: the kernels whose vectors run along a row say what the formulas say."""

from __future__ import annotations

import numpy as np
import pytest

from papershell.kernels import Status, fit_path
from papershell.kernels.backends import is_available
from papershell.kernels.logreg.losses import loss_and_residual, slope_and_curvature

pytestmark = pytest.mark.skipif(not is_available("numba"), reason="Numba is not installed")
SUMS = 1e-12  # relative, of float64 sums in another order


@pytest.mark.parametrize("K", [2, 31, 32, 100])
@pytest.mark.parametrize("size", [1.0, 300.0, 1e6])
def test_residuals_and_slopes_are_those_of_the_formulas(K: int, size: float) -> None:
    from papershell.kernels.logreg import on_wide_rows

    rng = np.random.default_rng(K)
    N, t = 37, 0.3
    Z, D = rng.normal(size=(2, N, K)) * size
    y, weight = rng.integers(0, K, N), rng.random(N)
    loss, R = loss_and_residual(np, Z + t * D, y, weight)
    moved, out, total = Z.copy(), np.empty_like(Z), np.zeros(K)
    expected = slope_and_curvature(np, Z + t * D, D, y, weight)
    found = on_wide_rows.slopes(Z, D, t, y, weight)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=SUMS * size**2 * N)
    np.testing.assert_allclose(on_wide_rows.residuals(moved, D, t, y, weight, out, total), loss, rtol=SUMS)
    np.testing.assert_allclose(out, R, rtol=0, atol=SUMS * size)
    np.testing.assert_allclose(total, R.sum(axis=0), rtol=0, atol=SUMS * size * N)
    np.testing.assert_allclose(moved, Z + t * D, rtol=SUMS)


def test_fifty_classes_have_the_optimum_of_plain_numpy() -> None:
    rng = np.random.default_rng(3)
    y = np.arange(600) % 50
    X = rng.normal(size=(50, 8))[y] + rng.normal(size=(600, 8))
    ours, plain = (fit_path(X, y, [0.1, 10.0], gap=1e-7, backend=name) for name in ("numba", "numpy"))
    assert (ours.status == Status.PROVEN).all()
    np.testing.assert_allclose(ours.loss, plain.loss, rtol=1e-7)
