"""Fits whose penalty is on standardized weights, beside scikit-learn's pipeline of a scaler and a model."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from papershell.kernels import available_backends, fit_path
from papershell.kernels.backends import is_available

RATES = [0.5, 5.0]
GAP = 1e-9  # proven, of the loss; probabilities are within about its root


def samples(N: int, P: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Three classes; features of deviations from 0.01 to 100, off the origin, one of them constant."""
    rng, size = np.random.default_rng(0), np.geomspace(1e-2, 1e2, P)
    y = rng.integers(0, 3, N)
    X = rng.normal(size=(N, P)) * size + np.arange(P)
    X[np.arange(N), y] += size[y]
    X[:, 3] = 7
    return X.astype(dtype), y


@pytest.mark.parametrize("backend", ["numpy", "numba", "torch"])
@pytest.mark.parametrize(("N", "P"), [(300, 12), (40, 90)])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_probabilities_are_those_of_scikit_learns_pipeline(backend, N, P, dtype):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if not is_available(backend):
        pytest.skip(available_backends()[backend])
    X, y = samples(N, P, dtype)
    path, wide = fit_path(X, y, RATES, standardize=True, gap=GAP, backend=backend), X.astype(np.float64)
    assert (path.gap <= GAP).all()
    for r, rate in enumerate(RATES):
        peer = make_pipeline(StandardScaler(), LogisticRegression(C=1 / rate, tol=1e-9, max_iter=10_000))
        expected = peer.fit(wide, y).predict_proba(wide)
        np.testing.assert_allclose(path.predict_proba(X)[r], expected, atol=np.sqrt(GAP))
        deviation, W = peer[0].scale_, path.coef[r]
        loss = rate / 2 * ((W * deviation) ** 2).sum() - np.log(expected[np.arange(N), y]).sum()
        np.testing.assert_allclose(path.loss[r], loss, rtol=1e-4)


def test_one_vs_rest_penalizes_the_intercept_of_the_standardized_features():
    X, y = samples(300, 12, "float64")
    scaled = (X - X.mean(axis=0)) / np.where(X.std(axis=0) > 0, X.std(axis=0), 1)
    settings = {"loss": "ovr", "penalize_intercept": True, "gap": GAP, "backend": "numpy"}
    raw, peer = fit_path(X, y, RATES, standardize=True, **settings), fit_path(scaled, y, RATES, **settings)
    np.testing.assert_allclose(raw.loss, peer.loss, rtol=1e-8)
    np.testing.assert_allclose(raw.predict_proba(X), peer.predict_proba(scaled), atol=np.sqrt(GAP))


def peak_bytes(**settings: object) -> int:
    X, y = samples(200_000, 100, "float16")
    tracemalloc.start()
    fit_path(X, y, 1e4, gap=1e-2, backend="numba", **settings)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_no_standardized_copy_is_made():
    plain = peak_bytes()  # compiles, too
    assert peak_bytes(standardize=True) < plain + 200_000 * 100 * 2  # half of a copy in float32


def test_bytes_are_refused():
    X = np.random.default_rng(2).integers(0, 256, (20, 4), dtype=np.uint8)
    with pytest.raises(ValueError, match="bytes cannot be standardized"):
        fit_path(X, np.arange(20) % 2, 1.0, standardize=True)
