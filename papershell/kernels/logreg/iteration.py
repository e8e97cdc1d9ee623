"""One problem on its way: point, gradient, history and preconditioner; how it ends; and who takes its first steps."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from papershell.kernels.logreg.inverse_hessian import Preconditioner
from papershell.kernels.logreg.lbfgs import History, dot
from papershell.kernels.logreg.losses import Array
from papershell.kernels.logreg.problem import Problem


class Status(Enum):
    """How the iteration of one rate ended; ``message`` says it in a sentence."""

    PROVEN = "the loss is proven to lie within the given gap of its optimum, and tol holds if given"
    GRADIENT = (
        "the largest gradient of the mean objective is at most tol; the field gap says what that proves"
    )
    NO_OPTIMUM = (
        "the classes are separable and l2 = 0: the loss has no minimum, and tol holds on the way to infinity"
    )
    MAX_ITER = "max_iter iterations were not enough; raise max_iter, tol or gap"
    STALLED = "no step lowers the objective any more: the precision of float64 is reached before tol or gap"

    @property
    def message(self) -> str:
        """The sentence."""
        return self.value

    @property
    def reached(self) -> bool:
        """Whether everything that was asked for (gap, tol) holds."""
        return self in (Status.PROVEN, Status.GRADIENT, Status.NO_OPTIMUM)


@dataclass
class Result:
    """The end of one problem, on the host; theta in the coordinates of the samples."""

    theta: np.ndarray
    value: float
    grad_norm: float
    n_iter: int
    status: Status
    gap: float


@dataclass
class Iteration:
    """One problem on its way.

    Attributes
    ----------
    number : what the engine knows it by.
    theta, gradient, direction : (K, P + 1) float64 on the device; the gradient of the summed objective.
    loss : summed loss without the penalty.
    expected : the decrease that the last direction promised.
    """

    number: int
    problem: Problem
    theta: Array
    ridge: Array
    history: History
    preconditioner: Preconditioner
    loss: float = math.nan
    value: float = math.inf
    gradient: Array = None
    residual_gradient: Array = None
    direction: Array = None
    slope: float = -math.inf
    length: float = 1.0
    precision: int = 0
    n_iter: int = 0
    passes: int = 0
    refresh_at: int = 1
    fruitless: int = 0
    least: float = math.inf
    slack: float = 1.0
    balanced: bool = False
    result: Result | None = field(default=None)

    def arrive(self, loss: float, residual_gradient: Array) -> None:
        """Take loss and X' R at theta."""
        self.loss, self.residual_gradient = loss, residual_gradient
        weighted = self.ridge * self.theta
        self.value = loss + 0.5 * dot(weighted, self.theta)
        self.gradient = residual_gradient + weighted

    def follower(self, number: int, problem: Problem, ridge: Array) -> Iteration:
        """Return a problem that differs in its penalty alone, where this one is; its logits are to be computed.

        Loss and logits along the steps are the same, so that the changes of its gradient are known too.
        """
        history = History(self.history.most)
        for s, y, _ in self.history.pairs:
            history.append(s, y + (ridge - self.ridge) * s)
        return Iteration(
            number, problem, self.theta, ridge, history, self.preconditioner,
            n_iter=self.n_iter, passes=self.passes, length=self.length, refresh_at=self.refresh_at,
        )  # fmt: skip


def leaders(problems: dict[int, Problem], near: float) -> dict[int, list[int]]:
    """Return some of the problems, and of each those that begin where it is after its first passes.

    Neighbours among the rates of a fold (and class) make a group, the strongest at most ``near`` times the
    weakest. The first steps of all of them are much alike; the one in the middle leads.
    """
    groups: list[list[int]] = []
    for number in sorted(problems, key=lambda n: (problems[n].family, problems[n].penalty)):
        problem, first = problems[number], problems[groups[-1][0]] if groups else None
        if first and first.family == problem.family and problem.penalty <= near * first.penalty:
            groups[-1].append(number)
        else:
            groups.append([number])
    return {group[len(group) // 2]: [n for n in group if n != group[len(group) // 2]] for group in groups}
