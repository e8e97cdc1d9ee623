"""Preconditioned L-BFGS on M problems at once: every pass over X serves all of them.

Each pass evaluates one trial point a problem. A problem whose trial is accepted takes its next
direction, one whose trial is rejected shortens its step, and neither waits for the other; a
problem that is done leaves the batch. Nothing in a problem's iteration refers to another, so its
answer does not depend on its companions.

The first passes hardly know the rate. Rates nearest to one power of ten therefore share those of a
head, which has that power for its rate: a rate's head is the same whoever else shares it, and what
its L-BFGS learnt holds for the rate after adding the difference of the ridges.

The line search accepts by the Armijo rule, or where differences of the objective drown in
rounding, by the slope (Hager and Zhang, "A new conjugate gradient method with guaranteed
descent", 2005, section 3). Passes begin at the engine's
coarsest grade. A problem whose gradient comes near what that grade can see, whose search fails or
that seems done goes on at a finer one, and none is called done before the last, which is float64.

On a device the passes are queued, and nothing in them asks for a number: the iteration looks at its state
only every few passes, at whose end a problem may have taken a few steps more than it had to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

import numpy as np

from papershell.kernels.logreg.losses import Array
from papershell.kernels.logreg.precondition import Metric, first_metric, metric_at
from papershell.kernels.logreg.products import FloatEngine, Grade

HISTORY = 12  # pairs (s, y) kept
FIRST_REFRESH = 9  # passes until the metric is first taken at the current point
REFRESH_GROWTH = 4  # each later refresh after so many times the passes of the one before
ARMIJO = 1e-4
SHORTEST_STEP = 1e-10


class Status(Enum):
    """How the iteration of one rate ended; ``message`` says it in a sentence."""

    PROVEN = "the loss is proven to lie within the given gap of its optimum, and tol holds if given"
    GRADIENT = (
        "the largest gradient of the mean objective is at most tol; the field gap says what that proves"
    )
    MAX_ITER = "max_iter iterations were not enough; raise max_iter, tol or gap"
    STALLED = "no step lowers the objective any more: the precision of float64 is reached before tol or gap"

    @property
    def reached(self) -> bool:
        """Whether everything that was asked for (gap, tol) holds."""
        return self in (Status.PROVEN, Status.GRADIENT)

    @property
    def message(self) -> str:
        """The sentence."""
        return self.value


class Rows(Protocol):
    """What sums over the rows of the data, wherever they lie; every `FloatEngine` does."""

    def loss_and_gradient(self, theta: Array, fold: np.ndarray, grade: Grade) -> tuple[Array, Array]:
        """See `FloatEngine.loss_and_gradient`."""


@dataclass
class Objective:
    """The mean objectives of A problems and their gradients.

    Attributes
    ----------
    engine : arithmetic, and the rows that the metric is made from.
    rows : all rows: sums losses and gradients over them.
    fold : (A,) the weights' row of each problem.
    ridge : (A, P + 1) penalty of each coefficient, already divided by the problem's total weight.
    total : (A,) sums of the weights.
    head : (M,) for each of the first M problems, which are to be solved, the one whose first passes it shares: one of
        those from M on, with the same weights and a ridge near its own, or itself.
    """

    engine: FloatEngine
    rows: Rows
    fold: np.ndarray
    ridge: Array
    total: Array
    head: np.ndarray

    def __call__(self, theta: Array, who: np.ndarray, grade: int) -> tuple[Array, Array]:
        """Return values (A,) and gradients (A, K, P + 1) of the problems ``who`` at ``theta``."""
        xp, at = self.engine.xp, self.engine.constant(who)
        value, gradient = self.rows.loss_and_gradient(theta, self.fold[who], self.engine.grades[grade])
        total, ridge = self.total[at], self.ridge[at][:, None, :]
        penalty = 0.5 * xp.sum(ridge * theta**2, axis=(1, 2))
        return value / total + penalty, gradient / total[:, None, None] + ridge * theta


@dataclass
class Solution:
    """What `minimize` returns, every field with leading axis M, on the host."""

    theta: np.ndarray
    value: np.ndarray
    grad_norm: np.ndarray
    n_iter: np.ndarray
    status: np.ndarray
    gap: np.ndarray

    @property
    def left(self) -> int:
        """How many problems are not yet done."""
        return sum(status is None for status in self.status)

    @staticmethod
    def empty(shape: tuple[int, ...]) -> Solution:
        """Return room for the solution of problems with theta of ``shape`` (M, K, P + 1)."""
        M = shape[0]
        return Solution(
            np.zeros(shape),
            np.zeros(M),
            np.zeros(M),
            np.zeros(M, np.int64),
            np.empty(M, object),
            np.full(M, np.inf),
        )

    @staticmethod
    def join(parts: list[Solution]) -> Solution:
        """Return the solution of all problems from those of consecutive batches."""
        return Solution(
            *(np.concatenate(field) for field in zip(*(vars(p).values() for p in parts), strict=True))
        )


@dataclass
class State:
    """The problems still in the batch; every array's leading axis (second of the pairs) is A."""

    who: np.ndarray
    grade: np.ndarray
    n_iter: Array
    theta: Array
    value: Array
    gradient: Array
    direction: Array
    slope: Array
    step: Array
    metric: Metric
    steps: list[Array]
    changes: list[Array]
    curvatures: list[Array]

    def keep(self, engine: FloatEngine, index: np.ndarray) -> None:
        """Go on with the problems ``index`` of the batch only, in this order."""
        self.who, self.grade = self.who[index], self.grade[index]
        at = engine.constant(index)
        for name, values in vars(self).items():
            if name not in ("who", "grade"):
                kept = [pair[at] for pair in values] if isinstance(values, list) else values[at]
                setattr(self, name, kept)


@dataclass
class Goal:
    """When M problems are done.

    Attributes
    ----------
    tol : (M,) bounds on max |gradient| of each mean objective; infinite if not asked for.
    gap : (M,) bounds on (loss - optimum) / loss; infinite if not asked for.
    lower_bound : called as ``lower_bound(problem, theta)``: a proven lower bound of the mean objective.
    max_iter : accepted steps a problem may take.
    """

    tol: np.ndarray
    gap: np.ndarray
    lower_bound: Callable[[int, np.ndarray], float]
    max_iter: int

    def of(self, who: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return tol and gap of the problems ``who``; a leader, whose number is M or more, is never done."""
        M = self.tol.size
        inside = np.minimum(who, M - 1)
        return np.where(who < M, self.tol[inside], -1.0), self.gap[inside]


def minimize(
    objective: Objective,
    theta: Array,
    *,
    goal: Goal,
    callback: Callable[[int, int, float], object] | None = None,
) -> Solution:
    """Minimize M objectives at once.

    Parameters
    ----------
    objective : the M problems.
    theta : (M, K, P + 1) float64 on the engine's device, where to start.
    goal : when they are done.
    callback : called after every pass, on a device after every few, as
        ``callback(passes, problems left, largest gradient)``.

    Returns
    -------
    Solution with values and gradient norms evaluated in float64.
    """
    engine = objective.engine
    solution = Solution.empty(tuple(theta.shape))
    state = start(objective, theta)
    passes, refresh_at = 1, FIRST_REFRESH
    while True:
        if (passes - 1) % engine.look_every == 0:
            norm = settle(objective, state, solution, goal)
            if not norm.size:
                return solution
            if callback is not None:
                callback(passes, solution.left, float(norm.max()))
        if passes >= refresh_at:
            refresh_at = passes * REFRESH_GROWTH
            fold, ridge = objective.fold[state.who], objective.ridge[engine.constant(state.who)]
            state.metric = metric_at(engine, state.metric.basis, state.theta, fold, ridge)
            part(objective, state, state.who >= objective.head.size)
            aim(engine, state, state.n_iter >= 0)
        advance(objective, state, goal.max_iter)
        passes += 1


def start(objective: Objective, theta: Array) -> State:
    """Return the state before the first step: evaluated at ``theta``, aimed along the first metric."""
    engine, (who, first) = objective.engine, np.unique(objective.head, return_index=True)
    xp, theta = engine.xp, theta[engine.constant(first)]
    metric = first_metric(engine, objective.fold[who], objective.ridge[engine.constant(who)])
    value, gradient = objective(theta, who, grade=0)
    state = State(
        who, np.zeros(who.size, np.int64), xp.zeros_like(value), theta, value, gradient,
        xp.zeros_like(theta), xp.zeros_like(value), xp.ones_like(value), metric, [], [], [],
    )  # fmt: skip
    aim(engine, state, state.n_iter >= 0)
    return state


def advance(objective: Objective, state: State, max_iter: int) -> None:
    """Evaluate every problem's trial point; accept it and aim anew, or shorten the step."""
    engine, xp = objective.engine, objective.engine.xp
    trial = state.theta + state.step[:, None, None] * state.direction
    value, gradient = evaluate(objective, state, trial)
    slope = dot(xp, gradient, state.direction)
    change = value - state.value
    armijo = change <= ARMIJO * state.step * state.slope
    noise = engine.constant(np.array([grade.noise for grade in engine.grades])[state.grade])
    flat = (change <= noise * xp.abs(state.value)) & (xp.abs(slope) <= -0.8 * state.slope)
    accepted = (armijo | flat) & (state.n_iter < max_iter)
    state.steps.append(trial - state.theta)
    state.changes.append(gradient - state.gradient)
    product = dot(xp, state.steps[-1], state.changes[-1])
    state.curvatures.append(inverse(xp, product, accepted & (product > 0)))
    for pairs in (state.steps, state.changes, state.curvatures):
        del pairs[:-HISTORY]
    interpolated = -state.slope * state.step**2 / (2.0 * (change - state.slope * state.step))
    shorter = xp.where(xp.isfinite(interpolated), interpolated, 0.0)
    shorter = xp.minimum(xp.maximum(shorter, 0.1 * state.step), 0.5 * state.step)
    state.theta = xp.where(accepted[:, None, None], trial, state.theta)
    state.gradient = xp.where(accepted[:, None, None], gradient, state.gradient)
    state.value = xp.where(accepted, value, state.value)
    state.step = xp.where(accepted, 1.0, shorter)
    state.n_iter = state.n_iter + accepted
    aim(engine, state, accepted)


def part(objective: Objective, state: State, which: np.ndarray) -> None:
    """Put in the place of the heads ``which`` (A,) the problems that shared their passes, behind all others.

    All that is known of a head is known of them: another ridge adds its share to values, gradients and changes.
    """
    engine, others, rows = objective.engine, np.flatnonzero(~which), np.flatnonzero(which)
    if not rows.size:
        return
    xp, ridge = engine.xp, objective.ridge
    members = [np.flatnonzero(objective.head == head) for head in state.who[rows]]
    source = np.concatenate([others, np.repeat(rows, [m.size for m in members])])
    who = np.concatenate([state.who[others], *members])
    shift = (ridge[engine.constant(who)] - ridge[engine.constant(state.who[source])])[:, None]
    state.keep(engine, source)
    state.who, state.step = who, xp.ones_like(state.step)
    state.value = state.value + 0.5 * xp.sum(shift * state.theta**2, axis=(1, 2))
    state.gradient = state.gradient + shift * state.theta
    state.changes = [y + shift * s for s, y in zip(state.steps, state.changes, strict=True)]
    products = [dot(xp, s, y) for s, y in zip(state.steps, state.changes, strict=True)]
    state.curvatures = [
        inverse(xp, product, (rho > 0) & (product > 0))
        for product, rho in zip(products, state.curvatures, strict=True)
    ]


def evaluate(objective: Objective, state: State, theta: Array) -> tuple[Array, Array]:
    """Return values and gradients of the batch at ``theta``, each problem at its own grade."""
    grades = np.unique(state.grade)
    if grades.size == 1:
        return objective(theta, state.who, grades[0])
    value, gradient = state.value + 0, 0 * theta
    for grade in grades:
        index = np.flatnonzero(state.grade == grade)
        at = objective.engine.constant(index)
        value[at], gradient[at] = objective(theta[at], state.who[index], grade)
    return value, gradient


def aim(engine: FloatEngine, state: State, which: Array) -> None:
    """Set direction and slope of the problems ``which`` (A,) by the two-loop recursion around the metric.

    Nocedal and Wright, "Numerical optimization" (2006), algorithm 7.4. A pair of weight zero takes no part.
    """
    xp, q, weights = engine.xp, state.gradient, []
    for s, y, rho in zip(state.steps[::-1], state.changes[::-1], state.curvatures[::-1], strict=True):
        weights.append(rho * dot(xp, s, q))
        q = q - weights[-1][:, None, None] * y
    z = state.metric.times(engine, xp.stack([q, *state.changes[-1:]], axis=1))
    z, images = z[:, 0], z[:, 1:]
    if state.curvatures:
        measured = state.curvatures[-1] * dot(xp, state.changes[-1], images)
        z = z * xp.where(measured > 0, 1.0 / xp.where(measured > 0, measured, 1.0), 1.0)[:, None, None]
    for s, y, rho in zip(state.steps, state.changes, state.curvatures, strict=True):
        z = z + (weights.pop() - rho * dot(xp, y, z))[:, None, None] * s
    uphill = which & ~(dot(xp, state.gradient, z) > 0)
    # float32 lost the small eigenvalues of a block; a diagonal has none to lose. To ask would wait for a device.
    if engine.look_every > 1 or bool(xp.any(uphill)):
        downhill = replace(state.metric, leading=None).times(engine, state.gradient[:, None])
        z = xp.where(uphill[:, None, None], downhill[:, 0], z)
    state.direction = xp.where(which[:, None, None], -z, state.direction)
    state.slope = xp.where(which, dot(xp, state.gradient, state.direction), state.slope)


def settle(objective: Objective, state: State, solution: Solution, goal: Goal) -> np.ndarray:
    """Raise the grade of problems that need it; move those that are done into ``solution``, aim the others anew.

    Returns the largest gradients of those that are left.
    """
    engine, last = objective.engine, len(objective.engine.grades) - 1
    seen = engine.xp.stack([grad_norm(engine, state.gradient), state.step, state.n_iter])
    norm, step, n_iter = engine.to_host(seen)
    stalled, spent = step < SHORTEST_STEP, n_iter >= goal.max_iter
    floor = np.array([grade.floor for grade in engine.grades])[state.grade]
    tol, gap = goal.of(state.who)
    near = (norm <= tol) & (expected_gap(objective, state) <= gap)
    finished = near | spent
    ripe = finished | stalled | (norm <= floor)
    heads = ripe & (state.who >= objective.head.size)
    if heads.any():
        part(objective, state, heads)
        aim(engine, state, engine.array(np.arange(state.who.size) >= np.count_nonzero(~heads)))
        return settle(objective, state, solution, goal)
    rising = np.flatnonzero(ripe & (state.grade < last))
    if rising.size:
        state.grade[rising] = np.where(finished[rising], last, state.grade[rising] + 1)
        look_again(objective, state, rising)
        norm[rising] = engine.to_host(grad_norm(engine, state.gradient))[rising]
        stalled[rising] = False
        near = (norm <= tol) & (expected_gap(objective, state) <= gap)
    ended: list[int] = []
    for a in np.flatnonzero((near | spent | stalled) & (state.grade == last)):
        proven = certified_gap(engine, state, goal, a)
        reached = norm[a] <= tol[a] and proven <= gap[a]
        if reached or spent[a] or stalled[a]:
            ending = Status.PROVEN if np.isfinite(gap[a]) else Status.GRADIENT
            solution.status[state.who[a]] = (
                ending if reached else (Status.MAX_ITER if spent[a] else Status.STALLED)
            )
            solution.gap[state.who[a]] = proven
            ended.append(a)
    done = np.array(ended, np.int64)
    left, anew = np.setdiff1d(np.arange(state.who.size), done), np.zeros(state.who.size, bool)
    anew[rising] = True
    if done.size:
        who, at = state.who[done], engine.constant(done)
        solution.theta[who] = engine.to_host(state.theta[at])
        solution.value[who] = engine.to_host(state.value[at])
        solution.grad_norm[who], solution.n_iter[who] = norm[done], n_iter[done]
        state.keep(engine, left)
    if anew[left].any():
        aim(engine, state, engine.array(anew[left]))
    return norm[left]


def expected_gap(objective: Objective, state: State) -> np.ndarray:
    """Estimate (A,) what can be proven at the present points, from the gradients by centred features."""
    engine, xp = objective.engine, objective.engine.xp
    mean, ridge = state.metric.basis.mean, objective.ridge[engine.constant(state.who)]
    P, gradient = mean.shape[0], state.gradient
    features = gradient[..., :P] - gradient[..., P:] * mean if gradient.shape[-1] > P else gradient
    squares = xp.sum(features**2, axis=1) / xp.clip(ridge[:, :P], 1e-300, None)
    return engine.to_host(0.5 * xp.sum(squares, axis=1) / xp.clip(xp.abs(state.value), 1e-300, None))


def certified_gap(engine: FloatEngine, state: State, goal: Goal, a: int) -> float:
    """Return a proven bound of (value - optimum) / value of the problem at ``a`` of the batch."""
    at = engine.constant(np.array([a]))
    value = float(engine.to_host(state.value[at])[0])
    lower = goal.lower_bound(int(state.who[a]), engine.to_host(state.theta[at])[0])
    return max(value - lower, 0.0) / value if value > 0.0 else 0.0


def look_again(objective: Objective, state: State, index: np.ndarray) -> None:
    """Evaluate the problems ``index`` where they are, at their new grade."""
    for grade in np.unique(state.grade[index]):
        which = index[state.grade[index] == grade]
        at = objective.engine.constant(which)
        state.value[at], state.gradient[at] = objective(state.theta[at], state.who[which], grade)
        state.step[at] = 1.0


def inverse(xp, values: Array, useful: Array) -> Array:
    """Return 1 / ``values`` where they are ``useful``, else zero."""
    return xp.where(useful, 1.0 / xp.where(useful, values, 1.0), 0.0)


def dot(xp, a: Array, b: Array) -> Array:
    """Return the inner products (A,) of two arrays (A, K, P + 1), by BLAS, without a temporary."""
    A = a.shape[0]
    return (a.reshape(A, 1, -1) @ b.reshape(A, -1, 1))[:, 0, 0]


def grad_norm(engine: FloatEngine, gradient: Array) -> Array:
    """Return the largest magnitude (A,) of each problem's gradient."""
    return engine.xp.max(engine.xp.abs(gradient), axis=(1, 2))
