"""The coordinates of the metric: centred features, or the eigenvectors of their covariance.

At W = 0 all curvatures are equal, so that in the eigenvectors the Hessian is diagonal for every
rate, and centred features uncouple it from the intercept. One eigendecomposition serves every
problem. Few features need none: they get dense blocks as they are, at any scale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from papershell.kernels.logreg.losses import Array
from papershell.kernels.logreg.products import FloatEngine, Samples

LEADING = 256  # coordinates that get dense blocks
CANDIDATES = 20_000  # samples that the metric is made from; less than twice as many are all taken
GRAM_ROWS = 8192  # drawn for the eigendecomposition
LARGEST_GRAM = 2048  # features beyond which only the leading eigenvectors are computed
SMALLEST = 1e-8  # of the largest eigenvalue: less is the rounding of float32
CENTRING_ERROR = 1e-14  # of a mean, in float64
TINY = 1e-300


@dataclass
class Penalty:
    """The Hessian of one problem's penalty: (Q, Q) on the leading coordinates, diagonal (V,), and outside of all."""

    leading: Array
    diagonal: Array
    rest: Array


@dataclass
class Basis:
    """Coordinates that all problems share; the first is the intercept at the features' mean, if there is one.

    Attributes
    ----------
    mean : (P,) float64, zero without an intercept.
    vectors : (P, V) orthonormal: float32 eigenvectors by falling eigenvalue, all or the leading ones;
        float64 unit vectors where the features are few. The metric is applied in their dtype.
    values : (V,) the covariance in these directions, after a one for the intercept.
    noise : (V,) variances below which a coordinate is the rounding of a constant.
    rest : mean eigenvalue of the directions that ``vectors`` leaves out.
    """

    mean: Array
    vectors: Array
    values: Array
    noise: Array
    rest: float

    def matrix(self, xp: ModuleType) -> Array:
        """Return the change of coordinates (P + 1, V) in float64: theta = matrix @ coordinates."""
        features = xp.astype(self.vectors, xp.float64)
        if self.values.shape[0] == self.vectors.shape[1]:
            return features
        upper = xp.concat([xp.zeros_like(features[:, :1]), features], axis=1)
        lower = -(self.mean @ upper)
        lower[0] = 1.0
        return xp.concat([upper, lower[None]])

    def forward(self, xp: ModuleType, gradients: Array) -> tuple[Array, Array]:
        """Return gradients (A, S, K, P + 1) in coordinates (A, S, K, V), and by centred features (A, S, K, P)."""
        P = self.mean.shape[0]
        edge = gradients[..., P:]
        features = gradients[..., :P] - edge * self.mean if edge.shape[-1] else gradients
        dtype = self.vectors.dtype
        features = xp.astype(features, dtype)
        return xp.concat([xp.astype(edge, dtype), each(features, self.vectors)], axis=-1), features

    def back(self, xp: ModuleType, z: Array, features: Array) -> Array:
        """Return theta (A, S, K, P + 1) from coordinates ``z`` and what lies outside of them, by centred features."""
        first = z.shape[-1] - self.vectors.shape[1]
        W = xp.astype(each(z[..., first:], self.vectors.T) + features, xp.float64)
        if not first:
            return W
        return xp.concat([W, xp.astype(z[..., :1], xp.float64) - (W @ self.mean)[..., None]], axis=-1)

    def penalty(self, xp: ModuleType, ridge: Array) -> Penalty:
        """Return the penalty diag(``ridge``), ridge (P + 1,), in these coordinates."""
        matrix = self.matrix(xp)
        leading = matrix[:, :LEADING]
        return Penalty((leading.T * ridge) @ leading, ridge @ matrix**2, ridge[0])


def each(rows: Array, matrix: Array) -> Array:
    """Return rows (A, S, K, P) times a matrix, one product a problem: it is the same in any company."""
    return (rows.reshape(rows.shape[0], -1, rows.shape[-1]) @ matrix).reshape(*rows.shape[:-1], -1)


def candidates(samples: Samples) -> Samples:
    """Return the rows that the metric is made from: all where they are few, else one of every so many.

    Which one is left to chance (always the same), for folds are often every k-th row.
    """
    step = len(samples.y) // CANDIDATES
    if step < 2:
        return samples
    first = np.arange(0, len(samples.y) - step + 1, step)
    return samples.part(first + np.random.default_rng(0).integers(step, size=first.size))


def draw(
    curvature: Array, count: int, xp: ModuleType = np, constant: Callable[[np.ndarray], Array] = np.asarray
) -> Array:
    """Return ``count`` row numbers in proportion to ``curvature`` (N,), or to each of (G, N), by systematic sampling.

    Equally spaced marks on the cumulative curvature: no random numbers, little variance, rows of
    large curvature more than once. Those of g lie between g and g + 1, so that one search finds all.
    """
    N, edges = curvature.shape[-1], xp.cumsum(curvature, axis=-1).reshape(-1, curvature.shape[-1])
    shift = np.arange(edges.shape[0])[:, None]
    edges = edges / xp.where(edges[:, -1:] > 0, edges[:, -1:], 1.0) + constant(shift)
    marks = constant((np.arange(count) + 0.5) / count) + constant(shift)
    found = xp.searchsorted(edges.reshape(-1), marks.reshape(-1)).reshape(marks.shape) - constant(N * shift)
    return xp.clip(found, 0, N - 1).reshape(*curvature.shape[:-1], count)


def representatives(weight: np.ndarray, most: int) -> tuple[slice | np.ndarray, np.ndarray]:
    """Return rows that stand for all, and the share of each: every row, or ``most`` drawn by weight (N,)."""
    if weight.size <= most:
        return slice(None), weight / weight.sum()
    return draw(weight, most), np.full(most, 1.0 / most)


def make_basis(engine: FloatEngine) -> Basis:
    """Return the basis of the samples, from at most GRAM_ROWS drawn ones."""
    xp, weight = engine.xp, engine.samples.weight.sum(axis=0)
    P, rest = engine.samples.X.shape[1], 0.0
    index, share = representatives(weight, GRAM_ROWS if P <= LARGEST_GRAM else LARGEST_GRAM)
    if engine.width <= LEADING:
        X, mean = engine.centred(index, share)
        values, vectors = engine.array(share) @ X**2, xp.eye(P, dtype=xp.float64, **engine.on_device)
    elif P <= LARGEST_GRAM:
        covariance, mean = engine.covariance(index, share)
        values, vectors = xp.linalg.eigh(covariance)
    else:
        X, mean = engine.centred(index, share)
        values, vectors, rest = leading_eigenvectors(xp, X * xp.sqrt(engine.array(share))[:, None])
    values, vectors = xp.flip(values, axis=0), xp.flip(vectors, axis=1)
    values = xp.clip(values, max(float(values[0]) * SMALLEST, TINY), None)
    noise = (CENTRING_ERROR * (xp.abs(mean) @ xp.abs(vectors))) ** 2
    if engine.samples.fit_intercept:
        values, noise = (
            xp.concat([xp.full_like(part[:1], first), part]) for first, part in ((1.0, values), (0.0, noise))
        )
    if engine.width > LEADING:
        vectors = xp.astype(vectors, xp.float32)
    return Basis(mean, vectors, values, noise, rest)


def leading_eigenvectors(xp: ModuleType, X: Array) -> tuple[Array, Array, float]:
    """Return eigenvalues (rising), eigenvectors and mean remaining eigenvalue of few centred samples (n, P)."""
    values, dual = xp.linalg.eigh(X @ X.T)
    total, width = float(xp.sum(values)), min(LEADING, X.shape[0])
    values = xp.clip(values[-width:], max(float(values[-1]) * SMALLEST, TINY), None)
    vectors = X.T @ dual[:, -width:] / xp.sqrt(values)
    return values, vectors, max(total - float(xp.sum(values)), 0.0) / (X.shape[1] - width)
