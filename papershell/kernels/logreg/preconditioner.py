"""The preconditioners of the iteration: inverse Hessians from a few thousand rows in a few leading coordinates.

The Hessian of a problem is sum_i w_i (diag(p_i) - p_i p_i') (x) x_i x_i' + ridge. Three forms stand for it:

    kronecker    at the start p is one vector, so that with its M = diag(p) - p p' = E m E' and the covariance
                 U v U' the Hessian is diagonal in the coordinates E (x) U: exact, and it costs nothing
    coupled      one dense matrix over classes x (Q leading coordinates and the intercept), if its inverse is affordable
    by class     one dense matrix a class from p (1 - p) alone, for many classes

Beyond the Q leading coordinates the last two keep each class's curvature on the diagonal. The sum over pairs of classes
sum_{k<l} (e_k - e_l)(e_k - e_l)' (x) X' diag(w p_k p_l) X makes every estimate of the coupled form positive definite.

Böhning, "Multinomial logistic regression algorithm" (1992), for the curvature at the start; Xu, Yang,
Roosta-Khorasani, Ré, Mahoney, "Sub-sampled Newton methods with non-uniform sampling" (2016), section 3, for the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from papershell.kernels.logreg.engine import Engine
from papershell.kernels.logreg.inverse_hessian import TINY, Basis, Penalty, Preconditioner, inverse
from papershell.kernels.logreg.losses import probabilities
from papershell.kernels.logreg.problem import Problem, Samples

SMALLEST = 1e-8  # of the largest eigenvalue: less is the rounding of float32
JITTER = 1e-7  # on a unit diagonal: keeps duplicate and constant features invertible
JITTER_FLOAT64 = 1e-12


@dataclass(frozen=True)
class Settings:
    """Sizes of the preconditioner.

    Attributes
    ----------
    leading : Q, coordinates with dense blocks.
    largest_dense : classes x (Q + 1) up to which they are coupled.
    candidate_rows : that stand for all, more if the coordinates are few.
    gram_rows : rows that the coordinates are made from.
    largest_gram : features beyond which only the leading coordinates are computed.
    drawn_rows : of the candidates, for one coupled matrix.
    drawn_for_class : of the candidates, for one class's matrix.
    drawn_products : rows times squared coordinates that are cheap: few coordinates draw more rows.
    float64_elements : rows times features up to which the preconditioner is float64.
    pass_overhead : multiplications that take as long as what a pass does beside its products.
    """

    leading: int = 96
    largest_dense: int = 1400
    candidate_rows: int = 20_000
    gram_rows: int = 8192
    largest_gram: int = 4096
    drawn_rows: int = 3072
    drawn_for_class: int = 2048
    drawn_products: int = 8_000_000
    pass_overhead: float = 2e7
    float64_elements: int = 1_000_000


def stratified_rows(samples: Samples, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows that stand for all (n,) and how many each stands for; of every class half its share at least."""
    N = len(samples.y)
    if most >= N:
        return np.arange(N), np.ones(N)
    rng, chosen, times = np.random.default_rng(0), [], []
    for members in rows_by_class(samples.y, samples.n_classes):
        size = min(members.size, max(int(most * members.size / N), most // (2 * samples.n_classes)))
        edges = np.linspace(0, members.size, size + 1)
        chosen.append(members[(edges[:-1] + rng.random(size) * np.diff(edges)).astype(np.int64)])
        times.append(np.full(size, members.size / size))
    return np.concatenate(chosen), np.concatenate(times)


def rows_by_class(y: np.ndarray, K: int) -> list[np.ndarray]:
    """Return the row numbers of each class, rising."""
    if K == 2:  # a third of the time of sorting
        return [np.flatnonzero(y == 0), np.flatnonzero(y)]
    order = np.argsort(narrow(y, K), kind="stable")
    return np.split(order, np.cumsum(np.bincount(y, minlength=K))[:-1])


def narrow(y: np.ndarray, K: int) -> np.ndarray:
    """Return the labels in 16 bits, which sort in linear time, if they fit."""
    return y.astype(np.uint16) if K <= 1 << 16 else y


def draw(curvature: np.ndarray, count: int) -> np.ndarray:
    """Return ``count`` row numbers in proportion to ``curvature`` (n,), by systematic sampling.

    Equally spaced marks on the cumulative curvature: no random numbers, little variance, rows of
    large curvature more than once.
    """
    edges = np.cumsum(curvature)
    marks = (np.arange(count) + 0.5) * (edges[-1] / count)
    return np.minimum(np.searchsorted(edges, marks), len(curvature) - 1)


class Preconditioners:
    """Makes the preconditioners of all problems from candidate rows of the samples.

    Parameters
    ----------
    make : takes samples to an engine.
    samples : all rows.
    settings : sizes.
    principal : whether the features are uncorrelated and fall in variance.
    """

    def __init__(
        self, make: Callable[[Samples], Engine], samples: Samples, settings: Settings, principal: bool = False
    ):
        self.settings, P, self.n_rows = settings, samples.X.shape[1], len(samples.y)
        most = max(settings.candidate_rows, 2 * self.drawn(min(P, settings.leading) + 1))
        rows, times = stratified_rows(samples, most)
        whole = rows.size == len(samples.y)
        self.samples = samples if whole and samples.plain else samples.on_host(rows)
        self.times = times
        self.engine = make(self.samples)
        self.fit_intercept, self.principal = samples.fit_intercept, principal
        self.basis = self.make_basis()
        self.Q = min(settings.leading, self.basis.vectors.shape[1])
        self.exact = whole and settings.leading >= P and self.drawn(P + 1) * 2 >= len(samples.y)
        # Newton's method on small problems in float64: weights and repeated rows agree to the last digits
        self.dtype = (
            np.float64 if self.exact and len(samples.y) * P <= settings.float64_elements else np.float32
        )
        self.jitter = JITTER_FLOAT64 if self.dtype is np.float64 else JITTER
        self.lead = self.project()

    def make_basis(self) -> Basis:
        """Return the coordinates of the candidates."""
        samples, settings = self.samples, self.settings
        n, P = samples.X.shape
        weight = self.times * samples.weight.sum(axis=0)
        if not weight.any():
            weight = self.times
        index = np.arange(n) if n <= settings.gram_rows else draw(weight, settings.gram_rows)
        X, mean, rest = samples.rows(index), np.zeros(P), 0.0
        if samples.fit_intercept:
            mean = X.mean(axis=0, dtype=np.float64) * samples.scale
        if settings.leading >= P or self.principal:
            values = np.mean((X * np.float64(samples.scale) - mean) ** 2, axis=0)
            vectors = np.eye(P, dtype=np.float32)
        elif settings.largest_gram >= P:
            from scipy.linalg import eigh  # half of NumPy's time at 3,072 features

            covariance = self.engine.covariance(index, mean).astype(np.float32)
            values, vectors = eigh(covariance, driver="evd", overwrite_a=True, check_finite=False)
            values, vectors = values[::-1].astype(np.float64), vectors[:, ::-1]
        else:
            values, vectors, rest = self.few_eigenvectors(index[:: max(1, len(index) // 1024)], mean)
        values = np.maximum(values, max(float(values.max()) * SMALLEST, TINY))
        return Basis(mean, np.ascontiguousarray(vectors, np.float32), values, rest)

    def few_eigenvectors(self, index: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Return the leading eigenvalues and eigenvectors of the rows ``index``, and the mean of the others."""
        X = ((self.samples.rows(index) * np.float64(self.samples.scale)) - mean).astype(np.float32)
        values, dual = np.linalg.eigh((X @ X.T) / len(X))
        kept = np.flatnonzero(values > values[-1] * 1e-5)[::-1][: 2 * self.settings.leading]
        total, values = float(values.sum()), values[kept].astype(np.float64)
        vectors = np.linalg.qr(X.T @ dual[:, kept])[0]
        return values, vectors, max(total - float(values.sum()), 0.0) / max(1, X.shape[1] - kept.size)

    def project(self) -> np.ndarray:
        """Return the candidates in the leading coordinates, and ones for the intercept: (n, Q + 1) float32."""
        V, mean = self.basis.vectors[:, : self.Q].astype(np.float64).T, self.basis.mean
        columns = np.column_stack([V, -V @ mean]) if self.fit_intercept else V
        out = np.empty((len(self.samples.y), self.Q + self.fit_intercept), self.dtype)
        self.engine_product(columns[None], [out[:, : self.Q]])
        if self.fit_intercept:
            out[:, self.Q] = 1.0
        return out

    def engine_product(self, theta: np.ndarray, out: list[np.ndarray]) -> None:
        """Set ``out`` (n, K) on the host to the candidates times ``theta`` (A, K, P + 1)."""
        engine = self.engine
        precision = max(0, len(engine.precisions) - (1 if self.dtype is np.float64 else 2))
        dtype = engine.dtype(np.dtype(self.dtype).name)
        targets = [engine.xp.zeros(o.shape, dtype=dtype, **engine.on_device) for o in out]
        engine.product(engine.array(theta), targets, precision)
        for target, host in zip(targets, out, strict=True):
            host[:] = engine.to_host(target)

    def weight(self, problem: Problem) -> np.ndarray:
        """Return what the candidates (n,) weigh in a problem, in sum its total; equal if none is of its fold."""
        weight = self.samples.weight[problem.fold] * self.times
        total = weight.sum()
        return (
            weight * (problem.total / total)
            if total > 0.0
            else np.full(weight.size, problem.total / weight.size)
        )

    def first(self, problem: Problem) -> Preconditioner:
        """Return the preconditioner at W = 0 and the intercepts that tell the classes' shares."""
        total = problem.total
        if problem.free_intercept(self.samples):
            p = np.maximum(problem.counts, 1e-3) / np.maximum(problem.counts, 1e-3).sum()
        else:
            p = np.full(len(problem.counts), 1.0 / len(problem.counts))
        M = np.array([[p[0] * p[1]]]) if problem.columns == 1 else np.diag(p) - np.outer(p, p)
        m, E = np.linalg.eigh(M)
        m = total * np.maximum(m, 1e-3 * m[-1] / len(m))
        penalty = self.penalty(problem)
        diagonal = 1.0 / (m[:, None] * self.basis.values + penalty.diagonal)
        rest = 1.0 / np.maximum(m * self.basis.rest + penalty.rest, TINY)
        edge = 1.0 / (m + (problem.ridge[-1] if self.fit_intercept else 0.0))
        return Preconditioner(self.engine, self.basis, total, diagonal, rest, edge, E, None, self.dtype)

    def passes(self, problem: Problem) -> float:
        """Return what a refresh costs, in passes over all rows of one problem: multiplications of either."""
        n, K, size = len(self.samples.y), problem.columns, self.Q + self.fit_intercept
        if K * size <= self.settings.largest_dense:
            cost = min(n, 2 * self.drawn(size)) * size**2 * max(1, K * (K - 1) // 2) + 2 * (K * size) ** 3
        else:
            cost = K * (min(n, 2 * self.settings.drawn_for_class) * size**2 + 2 * size**3)
        return cost / (2.0 * self.n_rows * self.samples.X.shape[1] * K + self.settings.pass_overhead)

    def drawn(self, size: int) -> int:
        """Return how many rows make a coupled matrix of ``size`` coordinates a class."""
        return max(self.settings.drawn_rows, 16 * size, self.settings.drawn_products // size**2)

    def penalty(self, problem: Problem) -> Penalty:
        """Return the ridge in the coordinates."""
        P, V = self.basis.vectors.shape
        ridge = problem.ridge[:P]
        if (ridge == ridge[0]).all():
            return Penalty(np.full(V, ridge[0]), float(ridge[0]), None)
        vectors = self.basis.vectors.astype(np.float64)
        return Penalty(
            ridge @ vectors**2, float(ridge.mean()), (vectors[:, : self.Q].T * ridge) @ vectors[:, : self.Q]
        )

    def refresh(self, problems: list[Problem], thetas: list[np.ndarray]) -> list[Preconditioner]:
        """Return the preconditioners at ``thetas`` (K, P + 1)."""
        logits = [np.empty((len(self.samples.y), p.columns), self.dtype) for p in problems]
        for theta, Z in zip(thetas, logits, strict=True):
            self.engine_product(theta[None], [Z])
        pairs = list(zip(problems, logits, strict=True))
        if len(pairs) == 1:
            return [self.at(*pairs[0], self.engine.map)]
        return list(self.engine.map(lambda pair: self.at(pair[0], pair[1], map), pairs))

    def at(self, problem: Problem, Z: np.ndarray, each: Callable[..., Iterable]) -> Preconditioner:
        """Return the preconditioner for logits ``Z`` (n, K) of the candidates; ``each`` maps over classes."""
        p, w = probabilities(np, Z), self.weight(problem)
        own = p * (1 - p)
        totals = np.maximum(w.astype(self.dtype) @ own, TINY).astype(np.float64)
        penalty = self.penalty(problem)
        size = self.Q + self.fit_intercept
        ridge = np.diag(penalty.diagonal[: self.Q]) if penalty.leading is None else penalty.leading
        if self.fit_intercept:
            ridge = np.pad(ridge, ((0, 1), (0, 1)))
            ridge[-1, -1] = problem.ridge[-1]
        if problem.columns * size <= self.settings.largest_dense:
            dense = self.coupled(p, w, ridge, each)
        else:
            own *= w[:, None].astype(self.dtype)
            dense = np.stack(list(each(lambda h: self.of_class(h, ridge), np.ascontiguousarray(own.T))))
        diagonal = 1.0 / (totals[:, None] * self.basis.values + penalty.diagonal)
        rest = 1.0 / np.maximum(totals * self.basis.rest + penalty.rest, TINY)
        return Preconditioner(
            self.engine, self.basis, problem.total, diagonal, rest, 1.0 / totals, None, dense, self.dtype
        )

    def of_class(self, h: np.ndarray, ridge: np.ndarray) -> np.ndarray:
        """Return the inverse (Q + 1, Q + 1) of one class's matrix, from curvatures (n,)."""
        most = max(self.settings.drawn_for_class, 8 * len(ridge))
        if h.size <= 2 * most:
            gram = (self.lead.T * h.astype(self.dtype)) @ self.lead
        else:
            rows = self.lead[draw(h, most)]
            gram = (rows.T @ rows) * self.dtype(h.sum() / most)
        return inverse(gram.astype(np.float64) + ridge, self.jitter, self.dtype)

    def coupled(
        self, p: np.ndarray, w: np.ndarray, ridge: np.ndarray, each: Callable[..., Iterable]
    ) -> np.ndarray:
        """Return the inverse over classes x coordinates (n, n)."""
        K, size = p.shape[1], len(ridge)
        h = w * (p * (1 - p)).sum(axis=1)
        most, A = self.drawn(size), self.lead
        if h.size > 2 * most:
            index = draw(h, most)
            A, p, w = A[index], p[index], (w[index] / np.maximum(h[index], TINY)) * (h.sum() / most)
        w = w.astype(self.dtype)
        if K == 1:
            return inverse((A.T * (w * p[:, 0] * (1 - p[:, 0]))) @ A + ridge, self.jitter, self.dtype)
        H = np.zeros((K, size, K, size))
        pairs = [(p[:, k + 1 :] * p[:, k : k + 1]) * w[:, None] for k in range(K - 1)]
        for k, grams in enumerate(each(lambda weights: weighted_grams(A, weights), pairs)):
            H[k, :, k] += grams.sum(axis=0)
            for j, gram in enumerate(grams, k + 1):
                H[k, :, j] = H[j, :, k] = -gram
                H[j, :, j] += gram
        scale = np.einsum("kiki->ki", H).min(axis=0)  # of the common shift, which the softmax does not see
        for k in range(K):
            H[k, :, k] += ridge
            H[:, np.arange(size), k, np.arange(size)] += scale / K
        return inverse(H.reshape(K * size, -1), self.jitter, self.dtype)


def weighted_grams(A: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return A' diag(weights_j) A for every column j of ``weights`` (n, J): (J, Q, Q) float64, in blocks of rows."""
    n, Q = A.shape
    J = weights.shape[1]
    total = np.zeros((Q, J * Q))
    for first in range(0, n, 2048):
        rows, w = A[first : first + 2048], weights[first : first + 2048]
        total += rows.T @ (w[:, :, None] * rows[:, None, :]).reshape(len(rows), -1)
    return total.reshape(Q, J, Q).transpose(1, 0, 2)
