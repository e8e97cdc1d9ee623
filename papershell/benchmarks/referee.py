"""The judge of all solvers: objectives in plain float64 NumPy, of coefficients as scikit-learn lays them out."""

from __future__ import annotations

import numpy as np

from papershell.benchmarks.problems import Problem


def objective(problem: Problem, coef: np.ndarray, intercept: np.ndarray, l2: float, loss: str = "") -> float:
    """Return ``sum of losses + l2 / 2 * ||coef||^2``.

    Parameters
    ----------
    problem : with its features scaled.
    coef, intercept : (K, P) and (K,); of two classes (1, P) and (1,), the second class against the first.
    l2 : 1 / C of scikit-learn.
    loss : ``ovr`` for K logistic regressions with the intercepts penalized too, as liblinear does.
    """
    coef, intercept = np.asarray(coef, np.float64), np.asarray(intercept, np.float64)
    total = l2 / 2 * ((coef**2).sum() + (intercept**2).sum() * (loss == "ovr"))
    for X, y in problem.row_blocks():
        Z = X @ coef.T + intercept
        total += _one_against_rest(Z, y) if loss == "ovr" or len(coef) == 1 else _softmax(Z, y)
    return float(total)


def _softmax(Z: np.ndarray, y: np.ndarray) -> float:
    top = Z.max(axis=1)
    return float((np.log(np.exp(Z - top[:, None]).sum(axis=1)) + top - Z[np.arange(len(y)), y]).sum())


def _one_against_rest(Z: np.ndarray, y: np.ndarray) -> float:
    """Sum of log(1 + exp(-z)) over the class's own column and log(1 + exp(z)) over the others."""
    own = y[:, None] == (np.arange(Z.shape[1]) if Z.shape[1] > 1 else 1)
    return float(np.logaddexp(0, np.where(own, -Z, Z)).sum())
