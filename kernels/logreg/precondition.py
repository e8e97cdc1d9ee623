"""The metric of the iteration: an inverse Hessian that follows p (1 - p).

Per class, the Hessian of the mean objective is (sum_i h_i x_i x_i' + l2 I) / n with curvatures
h_i = w_i p_i (1 - p_i). One eigendecomposition of X'X serves every problem: at W = 0 the
curvatures are equal, so that in the eigenbasis the Hessian is diagonal for every rate (for
multinomial gradients, which sum to zero over the classes, exactly so). Later most h_i are tiny.
Then each class gets a dense block on the leading eigenvectors, from a few thousand samples drawn
in proportion to h, and keeps a diagonal on the others.

Böhning, "Multinomial logistic regression algorithm" (1992), for the curvature at W = 0;
Xu, Yang, Roosta-Khorasani, Ré, Mahoney, "Sub-sampled Newton methods with non-uniform sampling"
(2016), section 3, for the sampling.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np

from kernels.logreg.losses import Array, probabilities
from kernels.logreg.products import Candidates, FloatEngine

LEADING = 256  # eigenvectors that get dense blocks
CANDIDATES = 20_000  # samples that blocks are drawn from
SAMPLED_ROWS = 4096  # drawn for one block
GRAM_ROWS = 8192  # drawn for the eigendecomposition
LARGEST_GRAM = 2048  # features beyond which only the leading eigenvectors are computed
LARGEST_METRIC_BYTES = 64 << 20  # of one problem's blocks; beyond it the classes share one
SMALLEST = 1e-14  # of the largest eigenvalue: less is rounding
SMALLEST_CURVATURE = 1e-20  # whose inverse times a gradient float32 still holds
JITTER = 1e-9  # on a unit diagonal: keeps duplicate and constant features invertible


@dataclass
class Basis:
    """Eigenvectors of X'X that all problems share.

    Attributes
    ----------
    vectors : (P + 1, V) float64, V = P + 1 or LEADING, by falling eigenvalue.
    narrow : the same in float32.
    values : (V,) eigenvalues of the weighted mean of x x'.
    rest : mean eigenvalue of the directions that ``vectors`` leaves out.
    step : every so manieth sample is a candidate for the blocks.
    """

    vectors: Array
    narrow: Array
    values: Array
    rest: float
    step: int

    def penalty(self, xp: ModuleType, ridge: Array) -> Penalty:
        """Return the penalty diag(``ridge``), ridge (P + 1,), in these coordinates."""
        leading = self.vectors[:, :LEADING]
        return Penalty((leading.T * ridge) @ leading, ridge @ self.vectors**2, float(xp.mean(ridge)))


@dataclass
class Penalty:
    """The Hessian of one problem's penalty: (Q, Q) on the leading coordinates, diagonal (V,), mean of the rest."""

    leading: Array
    diagonal: Array
    rest: float


@dataclass
class Metric:
    """Inverse Hessians of A problems in the basis; B is K, or 1 where the classes share a block.

    Attributes
    ----------
    basis : the coordinates.
    diagonal : (A, B, V) float32.
    rest : (A, B) float32, for the directions outside the basis.
    leading : (A, B, Q, Q) float32 that takes the place of the first Q of the diagonal, or None.
    """

    basis: Basis
    diagonal: Array
    rest: Array
    leading: Array | None = None

    def __getitem__(self, index: np.ndarray | slice) -> Metric:
        leading = None if self.leading is None else self.leading[index]
        return Metric(self.basis, self.diagonal[index], self.rest[index], leading)

    def times(self, engine: FloatEngine, gradient: Array) -> Array:
        """Return the metric times ``gradient`` (A, K, P + 1), a share of the problems on each thread."""
        A, threads = gradient.shape[0], min(engine.threads, gradient.shape[0])
        shares = [slice(A * i // threads, A * (i + 1) // threads) for i in range(threads)]
        parts = engine.map(lambda share: self[share].apply(engine.xp, gradient[share]), shares)
        return engine.xp.concat(list(parts))

    def apply(self, xp: ModuleType, gradient: Array) -> Array:
        """Return the same on one thread, computed in float32."""
        vectors, g = self.basis.narrow, xp.astype(gradient, xp.float32)
        v = g @ vectors
        z = self.diagonal * v
        if self.leading is not None:
            Q = self.leading.shape[-1]
            z[..., :Q] = (self.leading @ v[..., :Q, None])[..., 0]
        if vectors.shape[0] > vectors.shape[1]:
            z -= self.rest[..., None] * v
            return xp.astype(z @ vectors.T + self.rest[..., None] * g, xp.float64)
        return xp.astype(z @ vectors.T, xp.float64)


def draw(curvature: np.ndarray, count: int) -> np.ndarray:
    """Return ``count`` row numbers in proportion to ``curvature`` (N,), by systematic sampling.

    Equally spaced marks on the cumulative curvature: no random numbers, little variance, rows of
    large curvature more than once.
    """
    edges = np.cumsum(curvature)
    marks = (np.arange(count) + 0.5) * (edges[-1] / count)
    return np.searchsorted(edges, marks).clip(max=curvature.size - 1)


def make_basis(engine: FloatEngine) -> Basis:
    """Return the eigenbasis of the weighted mean of x x', from at most GRAM_ROWS drawn samples."""
    xp = engine.xp
    weight = engine.samples.weight.sum(axis=0)
    index = (
        draw(weight, min(GRAM_ROWS, weight.size))
        if weight.size > GRAM_ROWS or np.ptp(weight)
        else slice(None)
    )
    if engine.width <= LARGEST_GRAM:
        gram, count = engine.gram(index)
        values, vectors = xp.linalg.eigh(gram / count)
        rest = 0.0
    else:
        values, vectors, rest = leading_eigenvectors(engine, draw(weight, min(LARGEST_GRAM, weight.size)))
    values, vectors = xp.flip(values, axis=0), xp.flip(vectors, axis=1)
    values = xp.clip(values, float(values[0]) * SMALLEST, None)
    return Basis(vectors, xp.astype(vectors, xp.float32), values, rest, max(1, weight.size // CANDIDATES))


def leading_eigenvectors(engine: FloatEngine, index: np.ndarray) -> tuple[Array, Array, float]:
    """Return eigenvalues (rising), eigenvectors and mean remaining eigenvalue from few samples of many features."""
    xp = engine.xp
    X = engine.constant_too(index)
    values, dual = xp.linalg.eigh(X @ X.T / X.shape[0])
    width = min(LEADING, X.shape[0])
    total, values, dual = float(xp.sum(values)), values[-width:], dual[:, -width:]
    values = xp.clip(values, float(values[-1]) * SMALLEST, None)
    vectors = X.T @ dual / xp.sqrt(values * X.shape[0])
    return values, vectors, max(total - float(xp.sum(values)), 0.0) / (engine.width - width)


def first_metric(engine: FloatEngine, ridge: Array) -> Metric:
    """Return the metric at W = 0: a diagonal that all classes of a problem share."""
    xp, basis = engine.xp, make_basis(engine)
    share = 1 / engine.samples.n_classes if engine.samples.loss == "multinomial" else 1 / 4
    in_basis = ridge @ basis.vectors**2
    rest = xp.mean(ridge, axis=1)[:, None]
    return Metric(
        basis, inverse(xp, share * basis.values + in_basis)[:, None], inverse(xp, share * basis.rest + rest)
    )


def metric_at(engine: FloatEngine, basis: Basis, theta: Array, fold: np.ndarray, ridge: Array) -> Metric:
    """Return the metric at ``theta`` (A, K, P + 1)."""
    xp, Q = engine.xp, min(LEADING, basis.vectors.shape[1])
    candidates = engine.candidates(basis.vectors[:, :Q], basis.step)
    shared = blocks_per_problem(engine) == 1
    jobs = []
    for a, f in enumerate(fold.tolist()):
        h, penalty = curvatures(engine, theta[a], f, basis.step), basis.penalty(xp, ridge[a])
        jobs += [(column, penalty) for column in (h.mean(axis=0, keepdims=True) if shared else h)]
    parts = list(engine.map(lambda job: block(engine, basis, candidates, *job), jobs))
    leading, diagonal, rest = (xp.stack(list(part)) for part in zip(*parts, strict=True))
    A, Q = fold.size, leading.shape[-1]
    return Metric(basis, diagonal.reshape(A, -1, diagonal.shape[-1]), rest.reshape(A, -1),
                  leading.reshape(A, -1, Q, Q))  # fmt: skip


def curvatures(engine: FloatEngine, theta: Array, fold: int, step: int) -> np.ndarray:
    """Return w p (1 - p) (K, n) of one problem for every ``step``-th sample, on the host, weights summing to one."""
    weight = engine.samples.weight[fold, ::step]
    p = probabilities(engine.xp, engine.project(theta.T, step), engine.samples.loss)
    return engine.to_host(p * (1 - p)).T * (weight / weight.sum())


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
    root = xp.sqrt(xp.clip(xp.linalg.diagonal(hessian), SMALLEST_CURVATURE, None))
    outer = root[:, None] * root
    unit = hessian / outer + JITTER * xp.eye(Q, dtype=xp.float64, **engine.on_device)
    leading = xp.astype(engine.inverse(unit) / outer, xp.float32)
    diagonal = inverse(xp, total * basis.values + penalty.diagonal)
    return leading, diagonal, inverse(xp, xp.asarray(total * basis.rest + penalty.rest))


def inverse(xp: ModuleType, curvature: Array) -> Array:
    """Return 1 / ``curvature`` in float32."""
    return xp.astype(1 / xp.clip(curvature, SMALLEST_CURVATURE, None), xp.float32)


def blocks_per_problem(engine: FloatEngine) -> int:
    """Return K, or 1 where K blocks would be too large."""
    K, Q = engine.samples.n_classes, min(LEADING, engine.width)
    return K if 4 * K * Q * Q <= LARGEST_METRIC_BYTES else 1


def metric_bytes(engine: FloatEngine) -> int:
    """Return the bytes of one problem's metric."""
    Q = min(LEADING, engine.width)
    return blocks_per_problem(engine) * (4 * Q * Q + 8 * engine.width)
