"""A start at the optimum of few rows: fewer steps over all of them, the same answers."""

from __future__ import annotations

import numpy as np
import pytest

from papershell.kernels import Status, fit_path
from papershell.kernels.logreg.path import Settings
from papershell.kernels.logreg.preconditioner import Settings as Sizes
from tests.kernels.logreg_reference import ON_HOST, blobs, in_bytes

FEW = Settings(preconditioner=Sizes(candidate_rows=400, drawn_rows=200, drawn_products=1))
ALL = Settings(preconditioner=Sizes(candidate_rows=1 << 30, drawn_rows=200, drawn_products=1))
RATES, GAP, TIMES = [0.3, 30.0], 1e-7, 20


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    """Many samples of few features: the blobs again and again, each time with other noise."""
    X, y = blobs()
    rng = np.random.default_rng(5)
    X = np.concatenate([X + rng.normal(size=X.shape) for _ in range(TIMES)])
    return X, np.tile(y, TIMES)


@pytest.mark.parametrize("loss", ["multinomial", "ovr"])
@pytest.mark.parametrize("kind", ["floats", "bytes"])
@pytest.mark.parametrize("backend", ON_HOST)
def test_few_rows_save_steps_and_change_no_answer(data, backend, kind, loss) -> None:
    X, y = data
    X, scale = (in_bytes(X), 1 / 255) if kind == "bytes" else (X, 1.0)
    options = {"loss": loss, "scale": scale, "gap": GAP, "backend": backend}
    few, whole = (fit_path(X, y, RATES, settings=settings, **options) for settings in (FEW, ALL))
    assert (few.status == Status.PROVEN).all()
    np.testing.assert_allclose(few.loss, whole.loss, rtol=GAP)
    assert (few.n_iter < whole.n_iter).all()


def test_a_fold_whose_class_the_few_rows_lack_is_solved(data) -> None:
    X, y = data
    fold = y != 0
    fold[np.flatnonzero(y == 0)[7]] = True
    path = fit_path(X, y, RATES, folds=fold[None], gap=GAP, settings=FEW, backend="numpy")
    alone = fit_path(X[fold], y[fold], RATES, gap=GAP, backend="numpy")
    assert (path.status == Status.PROVEN).all()
    np.testing.assert_allclose(path.loss[0], alone.loss, rtol=GAP)


def test_without_a_penalty_the_gradient_is_what_few_rows_reach_too(data) -> None:
    X, y = data
    path = fit_path(X, y, 0.0, tol=1e-6, settings=FEW, backend="numpy")
    assert path.status[0] == Status.GRADIENT and path.grad_norm[0] <= 1e-6
