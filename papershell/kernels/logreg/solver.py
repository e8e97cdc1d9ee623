"""Preconditioned L-BFGS on many problems at once: every pass over X serves all of them.

A pass is two products with X: the logits of the directions, and X' times the residuals. Between them the length of
each step is found exactly, on the kept logits. A problem that is done leaves the batch. Nothing in an iteration refers
to another, but where preconditioners are costly one of several neighbouring rates takes the first steps for all.

Passes begin at the engine's coarsest precision. A problem whose gradient comes near what that can see, whose search
fails or that seems done goes on at a finer one, and none is called done before the last, which is float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from papershell.kernels.logreg.certificate import balance, distance, harmless_sum
from papershell.kernels.logreg.engine import Engine, Precision
from papershell.kernels.logreg.iteration import Iteration, Result, Status, leaders
from papershell.kernels.logreg.lbfgs import History, dot
from papershell.kernels.logreg.line_search import exact_lengths
from papershell.kernels.logreg.losses import Array
from papershell.kernels.logreg.preconditioner import Preconditioners
from papershell.kernels.logreg.problem import Identity, Problem


@dataclass(frozen=True)
class Settings:
    """Constants of the iteration.

    Attributes
    ----------
    history : pairs (s, y) kept.
    cheap : passes that a preconditioner may cost to be taken anew before every step.
    refresh : pass at which it is first taken at the current point, if that costs more.
    growth : each later one after so many times the passes of the one before.
    almost : times the gap or tolerance asked for from which on no costly one is taken anew.
    stall : steps without progress after which a problem is given up, at the last precision.
    together : passes that a leader takes for the rates near its own, where a preconditioner costs much.
    near : times its weakest that the strongest rate of such a group is at most.
    """

    history: int = 12
    cheap: float = 0.25
    refresh: int = 6
    growth: float = 2.5
    almost: float = 30.0
    stall: int = 3
    together: int = 13  # one after the second refresh, which then serves all
    near: float = 5.0


Report = Callable[[int, list[int], float, Callable[[], dict[int, np.ndarray]]], object]
"""Called with the passes so far, the numbers of the problems left, their largest gradient, a call for all points."""


class Rows(Protocol):
    """What sums over the rows of the data, wherever they lie; every `Engine` does."""

    precisions: tuple[Precision, ...]
    flat: float  # of `exact_lengths`

    def work_on(self, number: int, problem: Problem) -> None: ...
    def release(self, number: int) -> None: ...
    def set_logits(self, numbers: list[int], theta: Array, precision: int) -> None: ...
    def set_direction(self, numbers: list[int], direction: Array, precision: int) -> None: ...
    def slopes(self, numbers: list[int], lengths: np.ndarray) -> np.ndarray: ...
    def shift(self, number: int, shift: np.ndarray) -> None: ...
    def moments(self, number: int, shift: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]: ...
    def gradient(
        self, numbers: list[int], lengths: np.ndarray, precision: int
    ) -> tuple[np.ndarray, Array]: ...


class Minimizer:
    """Minimizes problems on the same rows.

    Parameters
    ----------
    engine : arithmetic of the device.
    rows : all rows, here or on other ranks.
    preconditioners : makes them.
    variables : the coordinates of the samples, in which the gradient is not measured but by the features.
    largest_row : a bound of ||x_i||.
    max_iter : steps that a problem may take.
    settings : constants.
    """

    def __init__(
        self, engine: Engine, rows: Rows, preconditioners: Preconditioners, variables: Identity,
        largest_row: float, max_iter: int, settings: Settings,
    ):  # fmt: skip
        self.engine, self.rows, self.preconditioners = engine, rows, preconditioners
        self.variables, self.largest_row = variables, largest_row
        self.max_iter, self.settings = max_iter, settings
        self.last, self.width = len(engine.precisions) - 1, engine.samples.X.shape[1]

    def minimize(
        self, problems: dict[int, Problem], starts: dict[int, np.ndarray],
        report: Report | None = None,
    ) -> dict[int, Result]:  # fmt: skip
        """Minimize ``problems`` from ``starts`` (K, P + 1)."""
        leaders = self.leaders(problems, starts)
        begun = [self.begin(number, problems[number], starts[number]) for number in leaders]
        active, passes = begun, 1
        self.evaluate(active, 0)
        while True:
            going = self.retire(active)
            ready = [(it, leaders.pop(it.number, [])) for it in active if self.has_led(it)]
            followers = [self.follow(it, n, problems[n], starts[n]) for it, group in ready for n in group]
            self.evaluate(followers, 0)
            begun, active = begun + followers, going + self.retire(followers)
            if not active:
                return {it.number: it.result for it in begun if it.result is not None}
            if report is not None:
                left = [it.number for it in active] + [n for group in leaders.values() for n in group]
                largest = max(self.largest(it) for it in active)
                report(passes, left, largest, partial(self.points, begun, leaders))
            self.refresh([it for it in active if self.is_due(it)])
            for precision in sorted({it.precision for it in active}):
                self.step([it for it in active if it.precision == precision], precision)
            passes += 1

    def points(self, its: list[Iteration], leaders: dict[int, list[int]]) -> dict[int, np.ndarray]:
        """Return theta (K, P + 1) of each problem on the host; of one that waits, its leader's."""
        return {
            n: self.engine.to_host(it.theta) for it in its for n in (it.number, *leaders.get(it.number, []))
        }

    def begin(self, number: int, problem: Problem, theta: np.ndarray) -> Iteration:
        """Return the problem before its first pass."""
        self.rows.work_on(number, problem)
        first = self.preconditioners.first(problem)
        array, history = self.engine.array, History(self.settings.history)
        it = Iteration(number, problem, array(theta), array(problem.ridge), history, first)
        it.refresh_at = self.next_refresh(it) if not theta[:, : self.width].any() else 1
        return it

    def leaders(self, problems: dict[int, Problem], starts: dict[int, np.ndarray]) -> dict[int, list[int]]:
        """Return the problems that begin, and of each those that follow it."""
        cheap = all(self.preconditioners.passes(p) <= self.settings.cheap for p in problems.values())
        if cheap or any(start[:, : self.width].any() for start in starts.values()):
            return {number: [] for number in problems}
        return leaders(problems, self.settings.near)

    def has_led(self, it: Iteration) -> bool:
        """Return whether a leader has come as far as it takes its followers."""
        return it.result is not None or it.passes >= self.settings.together

    def follow(self, leader: Iteration, number: int, problem: Problem, start: np.ndarray) -> Iteration:
        """Return a problem that goes on where its leader is, or at ``start`` if that has lost its way."""
        if not math.isfinite(leader.value):
            return self.begin(number, problem, start)
        self.rows.work_on(number, problem)
        return leader.follower(number, problem, self.engine.array(problem.ridge))

    def evaluate(self, its: list[Iteration], precision: int) -> None:
        """Compute logits, losses and gradients where the problems are."""
        for group in self.alike(its):
            numbers = [it.number for it in group]
            self.rows.set_logits(numbers, self.engine.xp.stack([it.theta for it in group]), precision)
            if precision == self.last:
                for it in (it for it in group if it.passes):  # a start has its intercepts from the shares
                    self.balance(it)
            losses, gradients = self.rows.gradient(numbers, np.zeros(len(group)), precision)
            for a, it in enumerate(group):
                it.passes += 1
                it.precision = precision
                it.arrive(float(losses[a]), gradients[a])

    def balance(self, it: Iteration) -> None:
        """Bring a free intercept to its optimum, on the kept logits."""
        it.balanced = True
        if not it.problem.free_intercept(self.engine.samples) or not (it.problem.counts > 0).all():
            return
        problem = it.problem
        enough = harmless_sum(
            it.value, problem.gap, self.engine.to_host(it.theta), problem.ridge, problem.counts,
            self.largest_row * problem.total,
        )  # fmt: skip
        shift = balance(lambda s: self.rows.moments(it.number, s), problem.columns, enough)
        if shift.any():
            self.rows.shift(it.number, shift)
            theta = it.theta + 0.0
            theta[:, -1] += self.engine.array(shift)
            it.theta = theta

    def step(self, its: list[Iteration], precision: int) -> None:
        """Take one step of each problem: direction, exact length, gradient, and a new pair of L-BFGS."""
        for group in self.alike(its):
            numbers = [it.number for it in group]
            list(self.engine.map(self.aim, group))
            self.rows.set_direction(numbers, self.engine.xp.stack([it.direction for it in group]), precision)
            lengths = self.search(group)
            losses, gradients = self.rows.gradient(numbers, lengths, precision)
            for a, it in enumerate(group):
                self.accept(it, float(lengths[a]), float(losses[a]), gradients[a])

    def aim(self, it: Iteration) -> None:
        """Set the direction and its slope."""
        it.direction = it.history.descent(it.gradient, it.preconditioner)
        it.slope = dot(it.gradient, it.direction)
        if not it.slope < 0.0:
            it.history.clear()
            it.direction = it.preconditioner([-it.gradient])[0]
            it.slope = dot(it.gradient, it.direction)

    def search(self, group: list[Iteration]) -> np.ndarray:
        """Return the lengths of the steps."""
        numbers = [it.number for it in group]
        first = np.array([dot(it.ridge * it.theta, it.direction) for it in group])
        second = np.array([dot(it.ridge * it.direction, it.direction) for it in group])

        def slopes(which: np.ndarray, t: np.ndarray) -> np.ndarray:
            found = self.rows.slopes([numbers[a] for a in which], t)
            return found + np.stack([first[which] + t * second[which], second[which]], axis=1)

        start = np.array([it.slope for it in group])
        return exact_lengths(slopes, start, np.array([it.length for it in group]), self.rows.flat)

    def accept(self, it: Iteration, length: float, loss: float, residual_gradient: Array) -> None:
        """Go to the new point."""
        before, gradient = it.value, it.gradient
        s = length * it.direction
        it.theta = it.theta + s
        it.arrive(loss, residual_gradient)
        it.history.append(s, it.gradient - gradient)
        it.balanced = False
        it.length = 1.0 if self.preconditioners.exact else min(max(length, 0.5), 2.0)
        it.n_iter += 1
        it.passes += 1
        noise = self.engine.precisions[it.precision].noise * abs(it.value)
        largest = self.largest_of_coordinates(it)
        progress = before - it.value > noise or largest < 0.7 * it.least
        it.fruitless, it.least = 0 if progress else it.fruitless + 1, min(largest, it.least)

    def refresh(self, its: list[Iteration]) -> None:
        """Take the preconditioners of the problems anew, at their points."""
        if not its:
            return
        found = self.preconditioners.refresh(
            [it.problem for it in its], [self.engine.to_host(it.theta) for it in its]
        )
        for it, preconditioner in zip(its, found, strict=True):
            it.preconditioner = preconditioner
            it.refresh_at = self.next_refresh(it)
            if self.preconditioners.exact:
                it.history.clear()

    def is_due(self, it: Iteration) -> bool:
        """Return whether the preconditioner is to be taken anew; no costly one for the last steps."""
        if it.passes < it.refresh_at:
            return False
        return self.preconditioners.passes(it.problem) <= self.settings.cheap or not self.near(
            it, self.settings.almost
        )

    def next_refresh(self, it: Iteration) -> int:
        """Return the pass at which the next preconditioner is due."""
        if self.preconditioners.passes(it.problem) <= self.settings.cheap:
            return it.passes + 1
        return max(self.settings.refresh, math.ceil(it.passes * self.settings.growth))

    def retire(self, its: list[Iteration]) -> list[Iteration]:
        """Raise the precision of problems that need it, end those that are done, and return the others."""
        while True:
            for it in its:
                self.judge(it)
            rising = [it for it in its if it.result is None and self.wants_more(it)]
            if not rising:
                break
            for precision in range(1, self.last + 1):
                self.evaluate([it for it in rising if self.next_precision(it) == precision], precision)
        for it in its:
            if it.result is not None:
                self.rows.release(it.number)
        return [it for it in its if it.result is None]

    def near(self, it: Iteration, times: float = 1.0) -> bool:
        """Return whether a problem seems done, or within so many ``times`` of what it is asked."""
        problem = it.problem
        if problem.gap < math.inf and not self.expected_gap(it) <= times * it.slack * problem.gap * it.value:
            return False
        return problem.tol == math.inf or self.largest(it) <= times * problem.tol

    def spent(self, it: Iteration) -> bool:
        """Return whether a problem can go no further."""
        return (
            it.n_iter >= self.max_iter or it.fruitless >= self.settings.stall or not math.isfinite(it.value)
        )

    def wants_more(self, it: Iteration) -> bool:
        """Return whether a problem needs a finer precision."""
        return it.precision < self.last and self.next_precision(it) > it.precision

    def next_precision(self, it: Iteration) -> int:
        """Return the precision at which a problem should go on."""
        if it.precision == self.last:
            return self.last
        if self.near(it) or it.n_iter >= self.max_iter:
            return self.last
        floor = self.engine.precisions[it.precision].floor
        fine = self.largest_of_coordinates(it) <= floor or it.fruitless > 0 or not math.isfinite(it.value)
        return it.precision + fine

    def judge(self, it: Iteration) -> None:
        """Set the result of a problem at the last precision if it is done."""
        if it.precision < self.last or not (self.near(it) or self.spent(it)):
            return
        theta, problem, gap = self.engine.to_host(it.theta), it.problem, self.proven_gap(it)
        if not it.balanced and problem.gap < math.inf and not gap <= problem.gap:
            self.balance(it)
            losses, gradients = self.rows.gradient([it.number], np.zeros(1), it.precision)
            it.arrive(float(losses[0]), gradients[0])
            theta, gap = self.engine.to_host(it.theta), self.proven_gap(it)
        norm = self.largest(it)
        reached = norm <= problem.tol and gap <= problem.gap
        if not reached and not self.spent(it):
            it.slack *= 0.5
            return
        ending = Status.PROVEN if problem.gap < math.inf else Status.GRADIENT
        if not reached:
            ending = Status.MAX_ITER if it.n_iter >= self.max_iter else Status.STALLED
        it.result = Result(theta, it.value, norm, it.n_iter, ending, gap)

    def proven_gap(self, it: Iteration) -> float:
        """Return a bound of (loss - optimum) / loss where the problem is."""
        problem = it.problem
        bound = distance(
            it.loss, self.engine.to_host(it.theta), self.engine.to_host(it.residual_gradient), problem.ridge,
            problem.counts, self.largest_row * problem.total, self.engine.samples.fit_intercept,
        )  # fmt: skip
        return bound / it.value if it.value > 0.0 else math.inf if bound else 0.0

    def largest(self, it: Iteration) -> float:
        """Return max |gradient| of the mean objective, by the features' weights."""
        gradient = self.variables.gradient(self.engine.to_host(it.gradient))
        return float(np.abs(gradient).max()) / it.problem.total

    def largest_of_coordinates(self, it: Iteration) -> float:
        """Return the same by the coordinates' weights."""
        return float(self.engine.xp.max(self.engine.xp.abs(it.gradient))) / it.problem.total

    def expected_gap(self, it: Iteration) -> float:
        """Return what the certificate will say once the intercepts have no gradient, about."""
        mean = self.preconditioners.basis.mean
        gradient, P = self.engine.to_host(it.gradient), len(mean)
        features = gradient[:, :P] - gradient[:, P:] * mean if gradient.shape[1] > P else gradient
        with np.errstate(divide="ignore", over="ignore"):
            return 0.5 * float((features**2 / it.problem.ridge[:P]).sum())

    def alike(self, its: list[Iteration]) -> list[list[Iteration]]:
        """Return the problems, those with equally many columns together."""
        columns = sorted({it.problem.columns for it in its})
        return [[it for it in its if it.problem.columns == K] for K in columns]
