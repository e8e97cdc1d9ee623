"""The rows of a problem whose logits do not fit: they are made anew, block by block, wherever it is evaluated.

One sweep over the blocks makes the logits of a point and from them loss and gradient g: two products with X, as many as
a step with kept logits. The slope along a direction d is g' d, and the secant of two slopes stands for the curvature,
so that the first trial of a length costs nothing more if it is taken. Hence a falling slope may end the search at a
larger share of the first one than on kept logits: the objective is convex and fell all the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from papershell.kernels import arrays
from papershell.kernels.logreg.engine import Engine, add_up
from papershell.kernels.logreg.lbfgs import dot
from papershell.kernels.logreg.losses import Array
from papershell.kernels.logreg.problem import Problem, Samples

LOGITS_BYTES = 2 << 30  # that are kept unless a caller says otherwise
FEWEST_ROWS = 256  # of a block
ENGINE_BLOCKS = 8  # of each thread: in one of ours


def logits_bytes(n_rows: int, columns: int) -> int:
    """Return the bytes of a problem's logits (N, K) and of those of its direction, as float64."""
    return 16 * n_rows * columns


class Trial(NamedTuple):
    """Summed loss and X' R (K, P + 1) at a length along the direction."""

    length: float
    loss: float
    gradient: Array


@dataclass
class Point:
    """Where a problem is: theta, direction and X' R (K, P + 1), and what the last trial of a length found."""

    problem: Problem
    theta: Array = None
    direction: Array = None
    gradient: Array = None
    trial: Trial | None = None
    precision: int = 0


def rows_within(
    most_bytes: int, make: Callable[[Samples], Engine], columns: int, engine: Engine
) -> Engine | RecomputedRows:
    """Return what sums over an engine's rows: itself, if logits (N, ``columns``) fit ``most_bytes``."""
    fits = logits_bytes(len(engine.samples.y), columns) <= most_bytes
    return engine if fits else RecomputedRows(engine, make, most_bytes)


class RecomputedRows:
    """The `papershell.kernels.logreg.solver.Rows` of an engine without kept logits.

    Parameters
    ----------
    engine : holds the samples.
    make : takes the samples of a block to an engine, whose logits live as long as it works on the block.
    most_bytes : of a block's logits, those of a direction too; no fewer than `FEWEST_ROWS` rows.
    """

    flat = 0.6  # 56, 37, 16 sweeps on three problems; 91, 48, 19 with 0.1 and 48, 35, 21 with 0.9

    def __init__(self, engine: Engine, make: Callable[[Samples], Engine], most_bytes: int):
        self.engine, self.make, self.precisions = engine, make, engine.precisions
        self.samples = replace(engine.samples, X=engine.X)
        blocks = ENGINE_BLOCKS * engine.threads
        self.most_bytes = min(most_bytes, blocks * engine.block_bytes)
        self.most_converted = blocks * engine.converted_bytes  # an X of the host passes through a device too
        self.points: dict[int, Point] = {}

    def work_on(self, number: int, problem: Problem) -> None:
        """Prepare the problem ``number``."""
        self.points[number] = Point(problem)

    def release(self, number: int) -> None:
        """Forget the problem ``number``."""
        del self.points[number]

    def set_logits(self, numbers: list[int], theta: Array, precision: int) -> None:
        """Go to the points ``theta`` (A, K, P + 1)."""
        for a, number in enumerate(numbers):
            problem = self.points[number].problem
            self.points[number] = Point(problem, theta[a], precision=precision)

    def set_direction(self, numbers: list[int], direction: Array, precision: int) -> None:
        """Remember the directions (A, K, P + 1)."""
        for a, number in enumerate(numbers):
            point = self.points[number]
            point.direction, point.trial, point.precision = direction[a], None, precision

    def slopes(self, numbers: list[int], lengths: np.ndarray) -> np.ndarray:
        """Return slopes and their secants from length zero (A, 2) at ``lengths`` (A,) along the directions."""
        return np.array([self.slope(self.points[n], float(t)) for n, t in zip(numbers, lengths, strict=True)])

    def gradient(self, numbers: list[int], lengths: np.ndarray, precision: int) -> tuple[np.ndarray, Array]:
        """Go ``lengths`` (A,) along the directions; return the summed losses (A,) and X' R (A, K, P + 1)."""
        losses = []
        for number, t in zip(numbers, map(float, lengths), strict=True):
            point = self.points[number]
            trial = point.trial if point.trial and point.trial.length == t else self.at(point, t)
            point.theta, point.gradient, point.trial = self.along(point, t), trial.gradient, None
            losses.append(trial.loss)
        return np.array(losses), self.engine.xp.stack([self.points[n].gradient for n in numbers])

    def moments(self, number: int, shift: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """See `Engine.moments`; one product with X."""
        point = self.points[number]
        loss, sums, curvature = self.total(point, point.theta, lambda block: block.moments(0, shift))
        return float(loss), sums, curvature

    def shift(self, number: int, shift: np.ndarray) -> None:
        """Add ``shift`` (K,) to the intercepts."""
        point = self.points[number]
        point.theta, point.trial = point.theta + 0.0, None
        point.theta[:, -1] += self.engine.array(shift)

    def slope(self, point: Point, t: float) -> tuple[float, float]:
        """Return the slope at the length ``t``, which becomes the trial, and its secant from length zero."""
        point.trial = self.at(point, t)
        first = dot(point.trial.gradient, point.direction)
        return first, (first - dot(point.gradient, point.direction)) / t

    def at(self, point: Point, t: float) -> Trial:
        """Return loss and X' R at the length ``t``."""
        loss, gradient = self.total(
            point, self.along(point, t), lambda block: block.gradient([0], np.zeros(1), point.precision)
        )
        return Trial(t, float(loss[0]), gradient[0])

    def along(self, point: Point, t: float) -> Array:
        """Return theta at the length ``t``."""
        return point.theta + t * point.direction if t else point.theta

    def total(self, point: Point, theta: Array, evaluate: Callable[[Engine], tuple]) -> list:
        """Return the sums of what ``evaluate`` returns for the problem 0 of each block's engine, at ``theta``."""

        def parts() -> Iterator[tuple]:
            for block in self.blocks(point.problem.columns):
                block.work_on(0, point.problem)
                block.set_logits([0], theta[None], point.precision)
                yield evaluate(block)

        return add_up(parts())

    def blocks(self, columns: int) -> Iterator[Engine]:
        """Return the engines of the blocks, one after another."""
        N, P = self.samples.X.shape
        size = max(
            FEWEST_ROWS, min(self.most_bytes // logits_bytes(1, columns), self.most_converted // (8 * P))
        )
        for rows in arrays.blocks(N, 1, size):
            block = self.make(self.samples.take(rows))
            block.most_products = max(1, self.engine.most_products * (rows.stop - rows.start) // N)
            yield block
