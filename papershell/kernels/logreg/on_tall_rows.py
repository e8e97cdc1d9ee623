"""Newton's method for two classes on many rows of few features: a step reads X once.

The start is the optimum on few rows. A pass takes a block of rows through logits, residuals and gradient while a
core's cache holds it. The Hessian comes from the first rows of every block, as many as cost about a pass, and stays
while steps are short. It is no less than theirs, which proves the answer: `certificate.distance_by_curvature`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from papershell.kernels.logreg.certificate import distance, distance_by_curvature
from papershell.kernels.logreg.coarse import FEWEST_TIMES, MOST_STEPS, scaled
from papershell.kernels.logreg.iteration import Result, Status
from papershell.kernels.logreg.on_cpu import Engine, U, residuals
from papershell.kernels.logreg.preconditioner import stratified_rows
from papershell.kernels.logreg.problem import Identity, Problem, Samples
from papershell.kernels.logreg.vector_math import exp, jit

FEW_ROWS = 20_000  # that the start comes from
CURVATURE_ROWS = 131_072  # that the Hessian takes at least,
CURVATURE_FEATURES = 4  # and this number, divided by the features, of all
GRAM_ROWS = 512  # that a core's first cache holds
LONG = 0.3  # root mean square change of a logit after which the Hessian is taken anew,
SLOW = 0.1  # or if the decrement fell by less
STEPS, HALVINGS = 60, 30
EPSILON = float(np.finfo(np.float64).eps)


@jit
def curvatures(z, weight, out):
    """Set ``out`` (n,) to weight p (1 - p) of the logits ``z`` (n,)."""
    for i in range(U(z.size)):
        e = exp(-abs(z[i]))
        out[i] = weight[i] * e / ((1.0 + e) * (1.0 + e))


@dataclass
class Point:
    """Loss and X' R (1, P + 1) at a point, and by which factor curvatures may have fallen since they were taken."""

    loss: float
    residual_gradient: np.ndarray
    fallen: float


class Rows:
    """All rows of a problem in blocks, and the Hessian of the loss on some of them at an earlier point.

    Attributes
    ----------
    hessian : (n, n), n = P + 1, the sum over the rows taken.
    times : the weight of all rows by theirs.
    curvature : the sum of their second derivatives by the logit.
    """

    def __init__(self, samples: Samples, problem: Problem):
        self.engine, self.samples = Engine(samples), samples
        self.y, self.weight = problem.labels(samples.y), samples.weight[problem.fold]
        (N, P), n = samples.X.shape, samples.width
        self.every = max(1, min(n // CURVATURE_FEATURES, N // CURVATURE_ROWS))
        self.blocks = self.engine.blocks(4 * P)  # 4 MiB: of less, the threads wait for the interpreter
        self.kept, self.hessian, self.times, self.curvature = np.zeros(N), np.zeros((n, n)), 1.0, 0.0

    def at(self, theta: np.ndarray, anew: bool) -> Point:
        """Return what a pass tells at ``theta`` (1, P + 1), the Hessian taken ``anew`` or compared."""
        samples, P, moved = self.samples, self.samples.X.shape[1], []
        w, bias = theta[0, :P] * samples.scale, theta[0, P] if samples.fit_intercept else 0.0

        def block(index: slice) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
            X, weight = self.engine.rows(index, np.float64), self.weight[index]
            z = X @ w
            z += bias
            lead = -(-len(z) // self.every)
            kept, H, sums = self.kept[index][:lead], np.zeros(0), np.zeros(2)
            if anew:
                kept[:], h = z[:lead], np.empty(lead)
                curvatures(kept, weight, h)
                H, sums = self.gram(X[:lead], h), np.array([weight[:lead].sum(), h.sum()])
            else:
                moved.append(float(np.abs(z[:lead] - kept).max()))
            Z, total = z[:, None], np.zeros(1)
            loss = residuals(Z, Z, 0.0, self.y[index], weight, Z, 0, 1, 1, 0.0, total)
            return loss, np.append(z @ X * samples.scale, total[: samples.fit_intercept]), H, sums

        loss, gradient, H, sums = self.engine.total(block, self.blocks)
        if anew:
            self.hessian, self.curvature = H, float(sums[1])
            self.times = float(self.weight.sum()) / max(float(sums[0]), 1e-300)
        return Point(float(loss), gradient[None], math.exp(-max(moved, default=0.0)))

    def gram(self, X: np.ndarray, h: np.ndarray) -> np.ndarray:
        """Return the Hessian (n, n) of the loss of rows X of curvatures ``h``."""
        n, P = self.samples.width, X.shape[1]
        H = np.zeros((n, n))
        for first in range(0, len(h), GRAM_ROWS):
            rows = X[first : first + GRAM_ROWS]
            weighted = rows.T * h[first : first + GRAM_ROWS]
            H[:P, :P] += weighted @ rows
            if n > P:
                H[:P, P] += weighted.sum(axis=1)
        H[:P] *= self.samples.scale
        H[:P, :P] *= self.samples.scale
        if n > P:
            H[P, :P], H[P, P] = H[:P, P], h.sum()
        return H


def proof(rows: Rows, point: Point, problem: Problem, theta: np.ndarray, largest_row: float) -> float:
    """Return a bound of (objective - optimum) at ``theta`` (1, P + 1)."""
    ridge, fit_intercept = problem.ridge, rows.samples.fit_intercept
    one_row = math.hypot(largest_row, float(fit_intercept))
    block = rows.blocks[0].stop + len(rows.blocks)
    rounding = block * point.loss + problem.total * (8 + len(ridge) * one_row * float(np.linalg.norm(theta)))
    return min(
        distance(
            point.loss, theta, point.residual_gradient, ridge, problem.counts, largest_row * problem.total,
            fit_intercept,
        ),
        distance_by_curvature(
            (point.residual_gradient + ridge * theta)[0], point.fallen * rows.hessian + np.diag(ridge), one_row,
            EPSILON * one_row * rounding,
        ),
    )  # fmt: skip


def start_on_few_rows(
    samples: Samples, problem: Problem, theta: np.ndarray, variables: Identity, largest_row: float
) -> np.ndarray:
    """Return the optimum on few rows that stand for all, or ``theta`` (1, P + 1)."""
    index, times = stratified_rows(samples, FEW_ROWS)
    few, scale = samples.on_host(index), 1.0 / times.max()  # weights are at most 1
    few = replace(few, weight=few.weight * (times * scale))
    smaller = scaled(problem, few.weight[problem.fold], few.y, scale)
    if not (smaller.counts > 0.0).all():
        return theta
    found = minimize(few, smaller, theta, variables, largest_row, MOST_STEPS, [])
    return theta if found is None else found.theta


def minimize(
    samples: Samples, problem: Problem, theta: np.ndarray, variables: Identity, largest_row: float, max_iter: int,
    trail: list[tuple[np.ndarray, float]],
) -> Result | None:  # fmt: skip
    """See `papershell.kernels.logreg.newton.minimize`; the problem has one column."""
    if not problem.gap < np.inf:
        return None
    P, ridge = samples.X.shape[1], problem.ridge
    if len(samples.y) >= FEWEST_TIMES * FEW_ROWS and not theta[:, :P].any():
        theta = start_on_few_rows(samples, problem, theta, variables, largest_row)
    rows, before = Rows(samples, problem), math.inf
    point = rows.at(theta, True)
    for step in range(min(STEPS, max_iter) + 1):
        value = point.loss + 0.5 * float((ridge * theta * theta).sum())
        gradient = point.residual_gradient + ridge * theta
        if not math.isfinite(value):
            return None
        norm = float(np.abs(variables.gradient(gradient)).max()) / problem.total
        bound = proof(rows, point, problem, theta, largest_row)
        proven = norm <= problem.tol and bound <= problem.gap * value
        if proven or step == max_iter:
            ending = Status.PROVEN if proven else Status.MAX_ITER
            return Result(theta, value, norm, step, ending, bound / value if value else 0.0)
        trail.append((theta, norm))
        direction = -np.linalg.solve(rows.times * rows.hessian + np.diag(ridge), gradient[0])[None]
        decrement, length = -float((direction * gradient).sum()), 1.0
        moved = float(direction[0] @ rows.hessian @ direction[0]) / max(rows.curvature, 1e-300)
        anew = decrement > SLOW * before or moved > LONG**2
        for _ in range(HALVINGS):
            point = rows.at(theta + length * direction, anew)
            trial = theta + length * direction
            reached = point.loss + 0.5 * float((ridge * trial * trial).sum())
            if reached <= value - 1e-4 * length * decrement + 1e-14 * value:
                break
            length *= 0.5
        else:
            return None
        theta, before = trial, decrement
    return None
