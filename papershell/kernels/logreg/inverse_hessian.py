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
    (potri,) = lapack.get_lapack_funcs(("potri",), dtype=dtype)
    full = potri(factor.astype(dtype, copy=False), lower=True, overwrite_c=True)[0].T
    root = root.astype(dtype)
    full *= root
    full *= root[:, None]
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

    def __call__(self, gradients: list[Array]) -> Array:
        """Return the inverse Hessian times each of the mean gradients (K, P + 1) float64: (B, K, P + 1)."""
        xp, P = self.engine.xp, self.basis.vectors.shape[0]
        single, double = self.engine.dtype(np.dtype(self.dtype).name), self.engine.dtype("float64")
        gradient = xp.stack(gradients)
        size = xp.max(xp.abs(gradient), axis=(1, 2), keepdims=True) + 1e-300
        gradient = gradient / size
        edge, features = gradient[:, :, P:], gradient[:, :, :P]
        features = features - edge * self.mean if edge.shape[2] else features
        features = xp.astype(features, single)
        v, e = self.times(features, self.vectors), xp.astype(edge, single)
        z, e = self.solve(v, e)
        W = self.times(z, self.vectors.T)
        if self.basis.vectors.shape[1] < P:
            outside = features - self.times(v, self.vectors.T)
            W = W + self.on_device["rest"][:, None] * outside
        W = xp.astype(W, double)
        if edge.shape[2]:
            W = xp.concat([W, xp.astype(e, double) - (W @ self.mean)[:, :, None]], axis=2)
        if W.shape[1] > 1:  # a common shift of all classes changes nothing but the penalty
            W = W - xp.mean(W, axis=1, keepdims=True)
        return W * size

    def times(self, A: Array, B: Array) -> Array:
        """Return A (B, K, P) @ B (P, V) as one product, which reads B once."""
        return (A.reshape(-1, A.shape[2]) @ B).reshape(*A.shape[:2], -1)

    def solve(self, v: Array, e: Array) -> tuple[Array, Array]:
        """Return the steps' coordinates (B, K, V) and intercepts (B, K, 1) from the gradients'."""
        xp, d = self.engine.xp, self.on_device
        if self.classes is not None:
            E = d["classes"]
            return E @ ((E.T @ v) * d["diagonal"]), E @ ((E.T @ e) * d["edge"][:, None])
        dense, K = d["dense"], v.shape[1]
        Q = dense.shape[-1] // (K if dense.ndim == 2 else 1) - e.shape[2]
        both = xp.concat([v[:, :, :Q], e], axis=2)
        if dense.ndim == 2:
            each = [dense @ one.reshape(-1) for one in both]  # BLAS takes longer for two at once
            both = xp.stack(each).reshape(both.shape)
        else:
            both = (dense @ both[:, :, :, None])[:, :, :, 0]
        return xp.concat([both[:, :, :Q], d["diagonal"][:, Q:] * v[:, :, Q:]], axis=2), both[:, :, Q:]
