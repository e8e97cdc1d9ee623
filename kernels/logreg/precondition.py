"""The metric of the iteration: an inverse Hessian that follows p (1 - p).

Per class, the Hessian of the mean objective is (sum_i h_i x_i x_i' + l2 I) / n with curvatures
h_i = w_i p_i (1 - p_i). At W = 0 they are equal and the Hessian is diagonal in the coordinates of
`kernels.logreg.coordinates` (for multinomial gradients, which sum to zero over the classes,
exactly so). Later most h_i are tiny. Then each class gets a dense block on the leading
coordinates, from a few thousand samples drawn in proportion to h, and keeps a diagonal on the others.

Böhning, "Multinomial logistic regression algorithm" (1992), for the curvature at W = 0;
Xu, Yang, Roosta-Khorasani, Ré, Mahoney, "Sub-sampled Newton methods with non-uniform sampling"
(2016), section 3, for the sampling.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np

from kernels.logreg.coordinates import LEADING, Basis, Penalty, draw, make_basis
from kernels.logreg.losses import Array, probabilities
from kernels.logreg.products import Candidates, FloatEngine

SAMPLED_ROWS = 4096  # drawn for one block
LARGEST_METRIC_BYTES = 64 << 20  # of one problem's blocks; beyond it the classes share one
SMALLEST_CURVATURE = 1e-20  # whose inverse times a gradient float32 still holds
JITTER = 1e-7  # on a unit diagonal: keeps duplicate and constant features invertible


@dataclass
class Metric:
    """Inverse Hessians of A problems in the basis; B is K, or 1 where the classes share a block.

    Attributes
    ----------
    basis : the coordinates.
    diagonal : (A, B, V) in the dtype of the basis.
    rest : (A, B), for the directions outside the basis.
    leading : (A, B, Q, Q) that takes the place of the first Q of the diagonal, or None.
    """

    basis: Basis
    diagonal: Array
    rest: Array
    leading: Array | None = None

    def __getitem__(self, index: np.ndarray | slice) -> Metric:
        leading = None if self.leading is None else self.leading[index]
        return Metric(self.basis, self.diagonal[index], self.rest[index], leading)

    def times(self, engine: FloatEngine, gradients: Array) -> Array:
        """Return the metric times ``gradients`` (A, S, K, P + 1), S a problem, a share on each thread."""
        A, threads = gradients.shape[0], min(engine.threads, gradients.shape[0])
        shares = [slice(A * i // threads, A * (i + 1) // threads) for i in range(threads)]
        parts = engine.map(lambda share: self[share].apply(engine.xp, gradients[share]), shares)
        return engine.xp.concat(list(parts))

    def apply(self, xp: ModuleType, gradients: Array) -> Array:
        """Return the same on one thread, computed in the dtype of the basis."""
        v, features = self.basis.forward(xp, gradients)
        z = self.diagonal[:, None] * v
        if self.leading is not None:
            Q = self.leading.shape[-1]
            z[..., :Q] = (self.leading[:, None] @ v[..., :Q, None])[..., 0]
        if features.shape[-1] == self.basis.vectors.shape[1]:
            return self.basis.back(xp, z, 0 * features[..., :1])
        first, rest = v.shape[-1] - self.basis.vectors.shape[1], self.rest[:, None, :, None]
        z[..., first:] -= rest * v[..., first:]
        return self.basis.back(xp, z, rest * features)


def first_metric(engine: FloatEngine, fold: np.ndarray, ridge: Array) -> Metric:
    """Return the metric at W = 0, which all classes of a problem share: dense for few features, else a diagonal."""
    xp, basis = engine.xp, make_basis(engine)
    share = 1 / engine.samples.n_classes if engine.samples.loss == "multinomial" else 1 / 4
    if engine.width <= LEADING:
        return make_metric(engine, basis, [share * shares(engine, int(f))[None] for f in fold], ridge)
    diagonal = share * basis.values + ridge @ basis.matrix(xp) ** 2
    return Metric(
        basis, inverse(xp, basis, diagonal)[:, None], inverse(xp, basis, share * basis.rest + ridge[:, :1])
    )


def metric_at(engine: FloatEngine, basis: Basis, theta: Array, fold: np.ndarray, ridge: Array) -> Metric:
    """Return the metric at ``theta`` (A, K, P + 1)."""
    found = [curvatures(engine, theta[a], int(f)) for a, f in enumerate(fold)]
    if blocks_per_problem(engine) == 1:
        found = [h.mean(axis=0, keepdims=True) for h in found]
    return make_metric(engine, basis, found, ridge)


def make_metric(engine: FloatEngine, basis: Basis, found: list[np.ndarray], ridge: Array) -> Metric:
    """Return the metric of A problems from the curvatures (B, n) ``found`` for each."""
    xp = engine.xp
    candidates = engine.candidates(basis.matrix(xp)[:, :LEADING])
    penalties = engine.map(lambda r: basis.penalty(xp, r), ridge)
    jobs = [(h, penalty) for curvature, penalty in zip(found, penalties, strict=True) for h in curvature]
    parts = list(engine.map(lambda job: block(engine, basis, candidates, *job), jobs))
    leading, diagonal, rest = (xp.stack(list(part)) for part in zip(*parts, strict=True))
    A, Q = len(found), leading.shape[-1]
    diagonal, leading = diagonal.reshape(A, -1, diagonal.shape[-1]), leading.reshape(A, -1, Q, Q)
    return Metric(basis, diagonal, rest.reshape(A, -1), leading)


def curvatures(engine: FloatEngine, theta: Array, fold: int) -> np.ndarray:
    """Return w p (1 - p) (K, n) of one problem on the host, weights summing to one."""
    p = probabilities(engine.xp, engine.project(theta.T), engine.samples.loss)
    return engine.to_host(p * (1 - p)).T * shares(engine, fold)


def shares(engine: FloatEngine, fold: int) -> np.ndarray:
    """Return a fold's weights (n,), summing to one; equal ones where the candidates hold no row of the fold."""
    weight = engine.samples.weight[fold]
    return weight / weight.sum() if weight.any() else np.full(weight.size, 1.0 / weight.size)


def block(
    engine: FloatEngine, basis: Basis, candidates: Candidates, curvature: np.ndarray, penalty: Penalty
) -> tuple[Array, Array, Array]:
    """Return one inverse, from ``candidates``: dense on the leading coordinates, diagonal, for the rest."""
    xp = engine.xp
    total = curvature.sum()
    if curvature.size > SAMPLED_ROWS:
        gram = candidates.gram(draw(curvature, SAMPLED_ROWS)) * (total / SAMPLED_ROWS)
    else:
        gram = candidates.weighted_gram(engine.array(curvature))
    Q = gram.shape[0]
    hessian = gram + penalty.leading
    diagonal = xp.linalg.diagonal(hessian)
    root = xp.sqrt(xp.where(diagonal > SMALLEST_CURVATURE + basis.noise[:Q], diagonal, np.inf))
    outer = root[:, None] * root
    unit = hessian / outer + JITTER * xp.eye(Q, dtype=xp.float64, **engine.on_device)
    leading = xp.astype(engine.inverse(unit) / outer, basis.vectors.dtype)
    diagonal = inverse(xp, basis, total * basis.values + penalty.diagonal)
    return leading, diagonal, inverse(xp, basis, total * basis.rest + penalty.rest)


def inverse(xp: ModuleType, basis: Basis, curvature: Array) -> Array:
    """Return 1 / ``curvature`` in the dtype of the basis."""
    return xp.astype(1 / xp.clip(curvature, SMALLEST_CURVATURE, None), basis.vectors.dtype)


def blocks_per_problem(engine: FloatEngine) -> int:
    """Return K, or 1 where K blocks would be too large."""
    K, Q = engine.samples.n_classes, min(LEADING, engine.width)
    return K if 4 * K * Q * Q <= LARGEST_METRIC_BYTES else 1


def metric_bytes(engine: FloatEngine) -> int:
    """Return the bytes of one problem's metric."""
    Q = min(LEADING, engine.width)
    return blocks_per_problem(engine) * 8 * (Q * Q + engine.width)
