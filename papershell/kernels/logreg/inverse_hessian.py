"""An inverse Hessian: coordinates, what it is in each of them, and how it is applied to a gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from papershell.kernels.logreg.engine import Engine
from papershell.kernels.logreg.losses import Array

TINY = 1e-30  # its inverse fits a float32


@dataclass
class Basis:
    """Orthonormal coordinates that all problems share.

    Attributes
    ----------
    mean : (P,), zero without an intercept.
    vectors : (P, V) float32 eigenvectors of the covariance by falling eigenvalue, or unit vectors of few features.
    values : (V,) the covariance in these directions.
    rest : mean eigenvalue of the directions that ``vectors`` leaves out.
    """

    mean: Array
    vectors: Array
    values: Array
    rest: float


def inverse(H: np.ndarray, jitter: float, dtype: Any) -> np.ndarray:
    """Return the inverse (n, n) of a symmetric positive semidefinite matrix with a little on its diagonal.

    Fresh memory costs more here than arithmetic, so the steps overwrite what they have.
    """
    from scipy.linalg import lapack

    diagonal = H.diagonal()
    root = 1.0 / np.sqrt(np.where(diagonal > TINY, diagonal, np.inf))
    failed = 1
    while failed and jitter < 1.0:
        unit = H * root
        unit *= root[:, None]
        unit[np.diag_indices_from(unit)] += jitter
        factor, failed = lapack.dpotrf(unit.T, lower=True, clean=False, overwrite_a=True)
        jitter *= 1e3
    if failed:  # not a number: the logits overflow
        return np.eye(len(H), dtype=dtype)
    upper = lapack.dpotri(factor, lower=True, overwrite_c=True)[0].T
    upper *= root
    upper *= root[:, None]
    full = upper.astype(dtype)
    np.copyto(full, full.T, where=np.tri(len(H), k=-1, dtype=bool))
    return full


@dataclass
class Penalty:
    """The ridge in the coordinates: diagonal (V,), outside of all, and (Q, Q) on the leading ones if not diagonal."""

    diagonal: np.ndarray
    rest: float
    leading: np.ndarray | None


@dataclass
class Preconditioner:
    """An inverse Hessian of a summed objective; see the module.

    Attributes
    ----------
    diagonal, rest, edge : (K, V), (K,) and (K,) inverse curvatures of coordinates, of what lies outside, of intercepts.
    classes : (K, K) orthonormal combinations of classes that ``diagonal`` refers to, or None for the classes.
    dense : (K (Q + 1), K (Q + 1)) or (K, Q + 1, Q + 1) for the leading coordinates and intercepts, or None.
    """

    engine: Engine
    basis: Basis
    total: float
    diagonal: np.ndarray
    rest: np.ndarray
    edge: np.ndarray
    classes: np.ndarray | None
    dense: np.ndarray | None
    dtype: Any

    def __post_init__(self) -> None:
        array = self.engine.array
        self.on_device: dict[str, Any] = {
            name: array(np.asarray(value, self.dtype))
            for name, value in vars(self).items()
            if isinstance(value, np.ndarray)
        }
        self.vectors, self.mean = array(self.basis.vectors.astype(self.dtype)), array(self.basis.mean)

    def __call__(self, gradients: list[Array]) -> list[Array]:
        """Return the inverse times mean gradients (K, P + 1) float64, times the fold's weight: steps of the weights."""
        return [self.one(gradient) for gradient in gradients]

    def one(self, gradient: Array) -> Array:
        """Return the inverse Hessian times one gradient."""
        xp, P = self.engine.xp, self.basis.vectors.shape[0]
        single, double = self.engine.dtype(np.dtype(self.dtype).name), self.engine.dtype("float64")
        size = xp.max(xp.abs(gradient)) + 1e-300
        gradient = gradient / size
        edge, features = gradient[:, P:], gradient[:, :P]
        features = features - edge * self.mean if edge.shape[1] else features
        features = xp.astype(features, single)
        v, e = features @ self.vectors, xp.astype(edge, single)
        z, e = self.solve(v, e)
        W = z @ self.vectors.T
        if self.basis.vectors.shape[1] < P:
            outside = features - v @ self.vectors.T
            W = W + self.on_device["rest"][:, None] * outside
        W = xp.astype(W, double)
        if edge.shape[1]:
            W = xp.concat([W, xp.astype(e, double) - (W @ self.mean)[:, None]], axis=1)
        if W.shape[0] > 1:
            W = W - xp.mean(W, axis=0)  # a common shift of all classes changes nothing but the penalty
        return W * size

    def solve(self, v: Array, e: Array) -> tuple[Array, Array]:
        """Return the step's coordinates (K, V) and intercepts (K, 1) from the gradient's."""
        xp, d = self.engine.xp, self.on_device
        if self.classes is not None:
            E = d["classes"]
            return E @ ((E.T @ v) * d["diagonal"]), E @ ((E.T @ e) * d["edge"][:, None])
        dense, K = d["dense"], v.shape[0]
        Q = dense.shape[-1] // (K if dense.ndim == 2 else 1) - e.shape[1]
        both = xp.concat([v[:, :Q], e], axis=1)
        both = (
            (dense @ both.reshape(-1)).reshape(K, -1)
            if dense.ndim == 2
            else (dense @ both[:, :, None])[:, :, 0]
        )
        return xp.concat([both[:, :Q], d["diagonal"][:, Q:] * v[:, Q:]], axis=1), both[:, Q:]
