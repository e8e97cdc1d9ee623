"""Tiny problems: Newton's method with the whole Hessian finds what the general solver finds, or leaves it to that."""

from __future__ import annotations

import numpy as np
import pytest

from papershell.kernels import Status, fit_path
from papershell.kernels.logreg import newton
from tests.kernels.logreg_reference import blobs

INTERCEPTS = [{}, {"fit_intercept": False}, {"penalize_intercept": True}]
RATES = [0.01, 1.0, 30.0]


@pytest.fixture
def results(monkeypatch):
    """What the method returns, call after call."""
    found, minimize = [], newton.minimize

    def spy(*arguments):
        found.append(minimize(*arguments))
        return found[-1]

    monkeypatch.setattr(newton, "minimize", spy)
    return found


@pytest.mark.parametrize("options", INTERCEPTS, ids=["free", "none", "penalized"])
@pytest.mark.parametrize("loss", ["multinomial", "ovr"])
@pytest.mark.parametrize("K", [2, 3])
def test_it_agrees_with_the_general_solver(results, K, loss, options):
    X, y = blobs()
    X, y = X[y < K], y[y < K]
    weight = np.random.default_rng(K).uniform(0.0, 2.0, len(y))
    weight[::7] = 0.0
    common = dict(loss=loss, sample_weight=weight, gap=1e-10, **options)
    small = fit_path(X, y, RATES, **common)
    assert all(result is not None for result in results) and len(results) >= len(RATES)
    general = fit_path(X, y, RATES, backend="numpy", **common)
    assert (small.status == Status.PROVEN).all() and (small.gap <= 1e-10).all()
    # both lie within their proven gaps above one optimum
    assert (np.abs(small.loss - general.loss) <= (small.gap + general.gap + 1e-14) * small.loss).all()
    # l2-strong convexity turns the gaps into distances of the weights
    distance = np.linalg.norm(small.coef - general.coef, axis=(1, 2))
    halves = 2.0 if loss == "ovr" or K > 2 else 4.0
    assert (distance <= 2 * np.sqrt(halves * 1e-10 * small.loss / np.array(RATES))).all()


def test_it_ends_at_max_iter_and_the_status_says_so(results):
    X, y = blobs()
    solution = fit_path(X, y, 1e-6, gap=1e-12, max_iter=1)
    assert solution.status[0] is results[0].status is Status.MAX_ITER and solution.n_iter[0] == 1
    longer = fit_path(X, y, 1e-6, gap=1e-12, max_iter=2)
    assert longer.loss[0] < solution.loss[0] and 1e-12 < longer.gap[0] < solution.gap[0]


def test_without_a_provable_gap_the_general_solver_works(results):
    X, y = blobs()
    solution = fit_path(X, y, [0.0, 1.0], tol=1e-3)
    assert results == [None, None] and all(status.reached for status in solution.status)
