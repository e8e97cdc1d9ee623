"""The metric of the iteration: an inverse Hessian that follows p (1 - p).

Per class, the Hessian of the mean objective is (sum_i h_i x_i x_i' + l2 I) / n with curvatures
h_i = w_i p_i (1 - p_i). At W = 0 they are equal and the Hessian is diagonal in the coordinates of
`papershell.kernels.logreg.coordinates` (for multinomial gradients, which sum to zero over the classes,
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

from papershell.kernels.logreg.coordinates import LEADING, Basis, draw, make_basis
from papershell.kernels.logreg.losses import Array, probabilities
from papershell.kernels.logreg.products import Candidates, FloatEngine

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
        found = [engine.xp.mean(h, axis=0, keepdims=True) for h in found]
    return make_metric(engine, basis, found, ridge)


def make_metric(engine: FloatEngine, basis: Basis, found: list[Array], ridge: Array) -> Metric:
    """Return the metric of A problems from the curvatures (B, n) ``found`` for each."""
    xp = engine.xp
    candidates = engine.candidates(basis.matrix(xp)[:, :LEADING])
    jobs, penalties = [], engine.map(lambda r: basis.penalty(xp, r), ridge)
    for curvature, penalty in zip(found, penalties, strict=True):
        jobs += [(h, penalty.leading, penalty.diagonal, penalty.rest) for h in curvature]
    parts = list(engine.map(lambda job: block(engine, basis, candidates, *job), engine.batches(jobs)))
    A, Q, V = len(found), parts[0][0].shape[-1], parts[0][1].shape[-1]
    leading, diagonal, rest = (
        xp.concat([part.reshape(-1, *shape) for part in member])
        for member, shape in zip(zip(*parts, strict=True), ((Q, Q), (V,), ()), strict=True)
    )
    return Metric(basis, diagonal.reshape(A, -1, V), rest.reshape(A, -1), leading.reshape(A, -1, Q, Q))


def curvatures(engine: FloatEngine, theta: Array, fold: int) -> Array:
    """Return w p (1 - p) (K, n) of one problem, weights summing to one."""
    p = probabilities(engine.xp, engine.project(theta.T), engine.samples.loss)
    return (p * (1 - p)).T * shares(engine, fold)


def shares(engine: FloatEngine, fold: int) -> Array:
    """Return a fold's weights (n,), summing to one; equal ones where the candidates hold no row of the fold."""
    weight = engine.samples.weight[fold]
    if total := weight.sum():
        return engine.weight[:, fold] / total
    return engine.array(np.full(weight.size, 1.0 / weight.size))


def block(
    engine: FloatEngine,
    basis: Basis,
    candidates: Candidates,
    curvature: Array,
    on_leading: Array,
    on_diagonal: Array,
    on_rest: Array,
) -> tuple[Array, Array, Array]:
    """Return one inverse, from ``candidates``: dense on the leading coordinates, diagonal, for the rest.

    The last three are the members of a `Penalty`. If they and ``curvature`` (n,) are stacks, so is the inverse.
    """
    xp = engine.xp
    total = xp.sum(curvature, axis=-1)[..., None]
    if curvature.shape[-1] > SAMPLED_ROWS:
        index = draw(curvature, SAMPLED_ROWS, xp, engine.constant)
        gram = candidates.gram(index) * (total / SAMPLED_ROWS)[..., None]
    else:
        gram = candidates.weighted_gram(curvature)
    Q = gram.shape[-1]
    hessian = gram + on_leading
    diagonal = xp.linalg.diagonal(hessian)
    root = xp.sqrt(xp.where(diagonal > SMALLEST_CURVATURE + basis.noise[:Q], diagonal, np.inf))
    outer = root[..., :, None] * root[..., None, :]
    unit = hessian / outer + JITTER * xp.eye(Q, dtype=xp.float64, **engine.on_device)
    leading = xp.astype(engine.inverse(unit) / outer, basis.vectors.dtype)
    diagonal = inverse(xp, basis, total * basis.values + on_diagonal)
    return leading, diagonal, inverse(xp, basis, total[..., 0] * basis.rest + on_rest)


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
