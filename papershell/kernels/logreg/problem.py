"""Rates x folds as data: the samples, the problems on them, and the coordinates in which they are solved."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from papershell.kernels import arrays

STATISTICS_ROWS = 2_000  # that decide whether features are badly scaled
ABSENT = 1e-12  # share at which a class that a fold lacks begins; its optimum is zero
LARGEST_OFFSET, LARGEST_RATIO = 1e3, 1e4  # of a mean to its deviation, and of two deviations
LARGEST_DEVIATION = 1e9  # far below numbers whose products float32 does not hold
LARGEST_GRAM_PRODUCTS = 4e11  # N N P up to which the rows take the place of more features


@dataclass(frozen=True)
class Samples:
    """The data of problems that share their rows.

    Attributes
    ----------
    X : (N, P) of one of `arrays.KEPT`, on the host or a device.
    y : (N,) integer labels 0..K-1.
    weight : (F, N) float64, zero outside a fold, at most 1.
    n_classes : how many labels there are.
    scale : the factor that X is to be multiplied by.
    fit_intercept : whether theta has a last column that a constant feature of one multiplies.
    center, factor : (P,) float64 or None: the features are (X - center) * factor, made block by block.
    """

    X: Any
    y: Any
    weight: Any
    n_classes: int
    scale: float
    fit_intercept: bool
    center: np.ndarray | None = None
    factor: np.ndarray | None = None

    @property
    def width(self) -> int:
        """The columns of theta."""
        return self.X.shape[1] + self.fit_intercept

    @property
    def plain(self) -> bool:
        """Whether X lies on the host and holds the features themselves."""
        return self.center is None and isinstance(self.X, np.ndarray)

    def take(self, rows: slice | np.ndarray) -> Samples:
        """Return only these ``rows``."""
        return replace(self, X=self.X[rows], y=self.y[rows], weight=self.weight[:, rows])

    def rows(self, rows: slice | np.ndarray) -> np.ndarray:
        """Return the features (n, P) of ``rows``, not yet scaled, on the host; halves as float32."""
        X = arrays.host_rows(self.X, rows)
        return X if self.center is None else (X - self.center) * self.factor

    def columns(self, columns: slice) -> np.ndarray:
        """Return the features (N, p) of ``columns``, as `rows` does."""
        X = arrays.floats(arrays.on_host(self.X[:, columns]))
        if self.center is None or self.factor is None:
            return X
        return (X - self.center[columns]) * self.factor[columns]

    def on_host(self, rows: np.ndarray) -> Samples:
        """Return these ``rows`` as samples whose X lies on the host and holds the features."""
        if self.plain:
            return self.take(rows)
        y, weight = self.y[rows], self.weight[:, rows]
        return replace(self, X=self.rows(rows), y=y, weight=weight, center=None, factor=None)

    def largest(self) -> float:
        """Return the largest magnitude of a scaled feature."""
        each = (self.rows(block) for block in arrays.row_blocks(self.X))
        return max(map(arrays.largest_magnitude, each)) * abs(self.scale)


@dataclass(frozen=True)
class Problem:
    """One objective: a rate of a fold, and for one logit a column also the class that it tells from the others.

    Attributes
    ----------
    fold : the weights' row.
    positive : the class of a single column, or None for the softmax.
    ridge : (P + 1,) penalties in the coordinates of the samples; the last is the intercept's, absent without one.
    counts : (K,) or (2,) weight of each class in the fold.
    tol : bound on max |gradient| of the mean objective, infinite if not asked for.
    gap : bound on (loss - optimum) / loss, infinite if not asked for.
    """

    fold: int
    positive: int | None
    ridge: np.ndarray
    counts: np.ndarray
    tol: float
    gap: float

    @property
    def columns(self) -> int:
        """K, or 1 for the sigmoid."""
        return len(self.counts) if self.positive is None else 1

    @property
    def total(self) -> float:
        """The fold's weight."""
        return float(self.counts.sum())

    @property
    def family(self) -> tuple[int, int]:
        """What problems have in common that differ in their rate alone."""
        return self.fold, -1 if self.positive is None else self.positive

    @property
    def penalty(self) -> float:
        """A number that grows with the rate, and in proportion."""
        return float(self.ridge[0])

    def free_intercept(self, samples: Samples) -> bool:
        """Return whether there is an intercept without a penalty."""
        return samples.fit_intercept and self.ridge[-1] == 0.0

    def labels(self, y: np.ndarray) -> np.ndarray:
        """Return the classes, or 1 for the positive one and 0 for the others."""
        return y if self.positive is None else (y == self.positive).astype(np.int64)

    def start(self, width: int, free: bool) -> np.ndarray:
        """Return theta (K, P + 1) of zeros, with the intercepts that tell the classes' shares."""
        theta = np.zeros((self.columns, width))
        if free:
            logs = np.log(np.maximum(self.counts, ABSENT * self.total))
            theta[:, -1] = logs - logs.mean() if self.positive is None else logs[1] - logs[0]
        return theta


class Identity:
    """The coordinates are the features."""

    principal = False  # whether the coordinates are uncorrelated and fall in variance

    def __init__(self, P: int):
        self.P = P

    def apply(self, samples: Samples) -> Samples:
        """Return the samples in these coordinates."""
        return samples

    def ridge(self, l2: float) -> np.ndarray:
        """Return the penalties (P',) of the coordinates."""
        return np.full(self.P, l2)

    def theta(self, theta: np.ndarray) -> np.ndarray:
        """Return weights and intercepts (K, P + 1) of the features from those of the coordinates."""
        return theta

    def gradient(self, gradient: np.ndarray) -> np.ndarray:
        """Return the gradient (K, P + 1) by the features' weights from that by the coordinates'."""
        return gradient

    def inverse(self, theta: np.ndarray) -> np.ndarray:
        """Return weights and intercepts of the coordinates from those of the features."""
        return theta


class Standardized(Identity):
    """The coordinates are (x - mean) / deviation: features of very different scale, or far from the origin."""

    def __init__(self, mean: np.ndarray, deviation: np.ndarray, fit_intercept: bool):
        super().__init__(mean.size)
        self.mean, self.deviation, self.fit_intercept = mean, deviation, fit_intercept

    def apply(self, samples):
        scale = samples.scale
        return replace(samples, scale=1.0, center=self.mean / scale, factor=scale / self.deviation)

    def ridge(self, l2):
        return l2 / self.deviation**2

    def theta(self, theta):
        W = theta[:, : self.P] / self.deviation
        return (
            np.column_stack([W, theta[:, self.P :] - (W @ self.mean)[:, None]]) if self.fit_intercept else W
        )

    def gradient(self, gradient):
        W = gradient[:, : self.P] * self.deviation
        return (
            np.column_stack([W + gradient[:, self.P :] * self.mean, gradient[:, self.P :]])
            if self.fit_intercept
            else W
        )

    def inverse(self, theta):
        W = theta[:, : self.P]
        scaled = W * self.deviation
        return (
            np.column_stack([scaled, theta[:, self.P :] + (W @ self.mean)[:, None]])
            if self.fit_intercept
            else scaled
        )


class PenalizedStandardized(Standardized):
    """The same coordinates with the penalty taken in them: as if the features had come standardized."""

    def ridge(self, l2):
        return np.full(self.P, l2)


class RowSpace(Identity):
    """More features than rows: the optimum lies in the span of the (centred) rows, of which N directions are a basis.

    The Gram matrix (X - mean)(X - mean)' = U S U' gives coordinates U sqrt(S) (N, V) and the directions
    B = (X - mean)' U / sqrt(S), orthonormal, so that weights B c have the penalty of c.
    """

    principal = True

    def __init__(self, samples: Samples):
        self.samples, self.fit_intercept = samples, samples.fit_intercept
        N, P = samples.X.shape
        self.mean, gram = np.zeros(P), np.zeros((N, N))
        for first in range(0, P, 2048):
            part = samples.columns(slice(first, first + 2048)) * np.float64(samples.scale)
            if self.fit_intercept:
                self.mean[first : first + 2048] = part.mean(axis=0)
                part -= self.mean[first : first + 2048]
            gram += part @ part.T
        values, U = np.linalg.eigh(gram)
        kept = values > values[-1] * N * np.finfo(np.float64).eps
        values, U = values[kept][::-1], U[:, kept][:, ::-1]
        self.coordinates, self.rows = U * np.sqrt(values), U / np.sqrt(values)
        super().__init__(values.size)

    def scaled(self, rows: slice) -> np.ndarray:
        """Return features (n, P) of ``rows`` as float64."""
        return self.samples.rows(rows) * np.float64(self.samples.scale)

    def combine(self, c: np.ndarray) -> np.ndarray:
        """Return (B c)' of coordinates ``c`` (K, V), a combination of the centred rows: (K, P)."""
        of_rows = c @ self.rows.T
        total = np.zeros((len(c), len(self.mean)))
        for first in range(0, len(self.samples.X), 512):
            total += of_rows[:, first : first + 512] @ self.scaled(slice(first, first + 512))
        return total - of_rows.sum(axis=1)[:, None] * self.mean

    def apply(self, samples):
        return replace(samples, X=np.ascontiguousarray(self.coordinates), scale=1.0, center=None, factor=None)

    def theta(self, theta):
        W = self.combine(theta[:, : self.P])
        return (
            np.column_stack([W, theta[:, self.P :] - (W @ self.mean)[:, None]]) if self.fit_intercept else W
        )

    def gradient(self, gradient):
        W, edge = self.combine(gradient[:, : self.P]), gradient[:, self.P :]
        return np.column_stack([W + edge * self.mean, edge]) if self.fit_intercept else W

    def inverse(self, theta):
        W, edge = theta[:, : len(self.mean)], theta[:, len(self.mean) :]
        scores = np.concatenate(
            [
                (self.scaled(slice(first, first + 512)) - self.mean) @ W.T
                for first in range(0, len(self.samples.X), 512)
            ]
        )
        c = scores.T @ self.rows
        return np.column_stack([c, edge + (W @ self.mean)[:, None]]) if self.fit_intercept else c


class Nested(Identity):
    """Coordinates ``inner`` of the coordinates ``outer``."""

    def __init__(self, outer: Identity, inner: Identity):
        super().__init__(inner.P)
        self.outer, self.inner, self.principal = outer, inner, inner.principal

    def apply(self, samples):
        return self.inner.apply(self.outer.apply(samples))

    def ridge(self, l2):
        return self.inner.ridge(l2)

    def theta(self, theta):
        return self.outer.theta(self.inner.theta(theta))

    def gradient(self, gradient):
        return self.outer.gradient(self.inner.gradient(gradient))

    def inverse(self, theta):
        return self.inner.inverse(self.outer.inverse(theta))


def moments(samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation (P,) of the scaled features over all rows, block by block in float64.

    The deviation of a constant feature is 1; without an intercept, which alone could make up for it, the mean is 0.
    """
    N, P = samples.X.shape
    mean, square = np.zeros(P), np.zeros(P)
    for block in arrays.row_blocks(samples.X):
        mean += samples.rows(block).sum(axis=0, dtype=np.float64) * samples.scale / N
    for block in arrays.row_blocks(samples.X):
        square += ((samples.rows(block) * np.float64(samples.scale) - mean) ** 2).sum(axis=0) / N
    deviation = np.sqrt(square)
    constant = deviation <= 10 * np.finfo(np.float64).eps * np.abs(mean)
    return mean * samples.fit_intercept, np.where(constant, 1.0, deviation)


def by_rows(N: int, P: int) -> bool:
    """Return whether combinations of the rows may take the place of the features."""
    return P > N and N * N * P <= LARGEST_GRAM_PRODUCTS


def coordinates(
    samples: Samples, rates: np.ndarray, penalize_intercept: bool, standardize: bool = False
) -> Identity:
    """Return the coordinates to solve the problems in; ``standardize`` puts the penalty on the standardized weights."""
    N, P = samples.X.shape
    if standardize:
        outer = PenalizedStandardized(*moments(samples), samples.fit_intercept)
        rows = by_rows(N, P) and (rates > 0).all() and not penalize_intercept
        return Nested(outer, RowSpace(outer.apply(samples))) if rows else outer
    if penalize_intercept and samples.fit_intercept:
        return Identity(P)  # a penalized intercept is tied to the origin of the features
    if by_rows(N, P) and (rates > 0).all() and samples.X.any():
        return RowSpace(samples)
    if arrays.kind(samples.X) in ("uint8", "int8") or not samples.scale:
        return Identity(P)
    X = samples.rows(slice(None, None, max(1, N // STATISTICS_ROWS))) * np.float64(samples.scale)  # (n, P)
    mean = X.mean(axis=0) if samples.fit_intercept else np.zeros(P)
    deviation = np.sqrt(np.mean((X - mean) ** 2, axis=0))
    offset = np.abs(mean)
    constant = deviation <= 1e-9 * offset
    varying = deviation[~constant & (deviation > 0)]
    if not varying.size:
        return (
            Standardized(mean, np.where(offset > 0, offset, 1.0), samples.fit_intercept)
            if offset.any()
            else Identity(P)
        )
    middle = math.exp(np.log(varying).mean())
    deviation = np.where(deviation > 0, deviation, middle)
    far = offset > LARGEST_OFFSET * np.where(constant, middle, deviation)
    deviation = np.where(constant, np.maximum(offset, middle), deviation)
    poor = far.any() or varying.max() > min(LARGEST_RATIO * varying.min(), LARGEST_DEVIATION)
    return Standardized(mean, deviation, samples.fit_intercept) if poor else Identity(P)
