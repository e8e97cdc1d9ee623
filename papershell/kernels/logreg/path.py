"""fit_path: a whole regularization path, every fold of it, as one batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from papershell.kernels import backends
from papershell.kernels.logreg import validate
from papershell.kernels.logreg.certificate import lower_bound
from papershell.kernels.logreg.coordinates import candidates
from papershell.kernels.logreg.precondition import metric_bytes
from papershell.kernels.logreg.products import FloatEngine, Samples
from papershell.kernels.logreg.ranks import solve_on_ranks
from papershell.kernels.logreg.solver import Goal, Objective, Rows, Solution, minimize

BATCH_BYTES = 2 << 30  # of metrics that one batch may hold; more problems are solved batch after batch
SMALL_LOGITS = 300_000  # logits a pass below which plain NumPy is done before Numba is loaded
LARGE_PRODUCTS = 100_000_000  # multiplications a pass above which matrix units repay loading PyTorch


@dataclass(frozen=True)
class PathSolution:
    """The fitted path; every field has leading axis R (F, R where folds were given).

    Attributes
    ----------
    coef : (R, K, P) float64, of scaled features.
    intercept : (R, K) float64; zeros without an intercept.
    loss : (R,) the objective, a sum over the samples plus the penalty, evaluated in float64.
    grad_norm : (R,) max |gradient| of the mean objective, evaluated in float64.
    n_iter : (R,) accepted steps.
    status : (R,) array of `Status`, whose ``message`` is a sentence.
    gap : (R,) certified upper bound of (loss - optimum) / loss in float64; infinite if it cannot be proven.
    backend : the name of the back end that ran.
    """

    coef: np.ndarray
    intercept: np.ndarray
    loss: np.ndarray
    grad_norm: np.ndarray
    n_iter: np.ndarray
    status: np.ndarray
    backend: str
    gap: np.ndarray | None = None


def fit_path(
    X: np.ndarray,
    y: np.ndarray,
    l2: Any,
    *,
    loss: str = "multinomial",
    fit_intercept: bool = True,
    penalize_intercept: bool = False,
    sample_weight: np.ndarray | None = None,
    folds: np.ndarray | None = None,
    scale: float | None = None,
    tol: float | None = None,
    gap: float | None = None,
    max_iter: int = 1000,
    backend: str = "auto",
    warm_start: PathSolution | None = None,
    callback: Callable[[int, int, float], object] | None = None,
) -> PathSolution:
    """Fit L2-regularized logistic regressions for every rate (and fold) at once.

    Minimizes ``sum_i w_i * loss_i + l2 / 2 * ||W||^2`` for each rate; ``l2 = 1 / C`` of
    scikit-learn. See `papershell.kernels.logreg.losses` for the losses and `papershell.kernels.logreg.solver` for the
    method. A rate's answer does not depend on its companions, and one that does not converge
    never harms the others: look at ``status``.

    Parameters
    ----------
    X : (N, P) uint8 or float, on the host. Bytes stay bytes: the normalized copy is never made.
    y : (N,) integer labels 0..K-1, each class present.
    l2 : (R,) or a number: penalties, finite and >= 0.
    loss : ``"multinomial"``, or ``"ovr"`` for K independent logistic regressions.
    fit_intercept : whether to fit (R, K) intercepts.
    penalize_intercept : whether the penalty takes in the intercept, as liblinear does.
    sample_weight : (N,) finite and >= 0; ones by default.
    folds : (F, N) masks or weights: row f says which samples fold f trains on.
    scale : factor of X, for example 1/255; the solution refers to ``X * scale``. Default 1.
    tol : bound on max |gradient| of the mean objective, as in scikit-learn.
    gap : bound on (loss - optimum) / loss, to be proven in float64. If both are given, both must hold; if
        neither is, ``gap=1e-4``. A rate whose gap cannot be proven (l2 = 0, or a fold without a class) is held
        to ``tol`` instead, 1e-4 if not given.
    max_iter : accepted steps that a rate may take.
    backend : a name of `available_backends`, or ``"auto"`` for the fastest present at this size.
    warm_start : an earlier solution of the same shape to start from.
    callback : called after every pass over X, on a device after every few, with (passes, rates left,
        largest gradient).

    Returns
    -------
    PathSolution

    Raises
    ------
    ValueError
        Input that cannot be fitted; one sentence says which and why.
    BackendError
        The back end is absent; the message gives the reason.
    """
    rates = validate.rates(l2)
    validate.limits(tol, gap, max_iter)
    X = validate.features(X)
    weight = validate.folds(folds, validate.weight(sample_weight, len(X)), len(X))
    unit = weight.max(axis=1)
    weight = weight / unit[:, None]  # float32 and fixed point see each fold's weights at their own scale
    samples = Samples(X, validate.labels(y, len(X)), weight, int(np.max(y)) + 1,
                      validate.loss(loss), validate.scale(scale), bool(fit_intercept))  # fmt: skip
    name = choose_backend(samples, weight.shape[0] * rates.size) if backend == "auto" else backend
    make = backends.implementation("logreg", name).Engine
    fold, rate = (axis.ravel() for axis in np.indices((weight.shape[0], rates.size)))
    start = starting_point(warm_start, fold.size, samples)
    ridge = np.repeat((rates[rate] / unit[fold])[:, None], samples.width, axis=1)
    if fit_intercept and not penalize_intercept:
        ridge[:, -1] = 0.0
    total = weight.sum(axis=1)[fold]
    alone = np.column_stack([np.arange(fold.size), np.ones(fold.size)])
    decade = decades(rates)[rate] if warm_start is None else alone

    provable = (rates[rate] > 0) & every_class_present(samples)[fold]
    goal = make_goal(samples, fold, ridge, total, provable, tol, gap, max_iter)

    def solve(rows: Rows) -> Solution:
        chosen = candidates(samples)
        engine = rows if chosen is samples and isinstance(rows, FloatEngine) else make(chosen)
        with engine.one_blas_thread():
            return solve_in_batches(engine, rows, start, fold, ridge, total, decade, goal, callback)

    solution = solve_on_ranks(make, samples, solve)
    shape = (rates.size,) if folds is None else (weight.shape[0], rates.size)
    return pack(solution, samples, unit[fold] * total, shape, name)


def solve_in_batches(
    engine: FloatEngine, rows: Rows, theta, fold, ridge, total, decade, goal, callback
) -> Solution:
    """Solve as many problems at once as the memory for their metrics allows."""
    size = max(1, BATCH_BYTES // metric_bytes(engine))
    parts = []
    for first in range(0, fold.size, size):
        who = slice(first, first + size)
        objective = with_heads(engine, rows, fold[who], ridge[who], total[who], decade[who])
        parts.append(
            minimize(objective, engine.array(theta[who]), goal=part_of(goal, first, size), callback=callback)
        )
    return Solution.join(parts)


def every_class_present(samples: Samples) -> np.ndarray:
    """Return of each fold (F,) whether every class has some weight in it."""
    counts = [np.bincount(samples.y, weight, samples.n_classes) for weight in samples.weight]
    return np.min(counts, axis=1) > 0


def make_goal(samples: Samples, fold, ridge, total, provable, tol, gap, max_iter) -> Goal:
    """Return what decides for each problem that it is done."""
    gap = 1e-4 if tol is None and gap is None else np.inf if gap is None else gap
    tols = np.where(provable, np.inf if tol is None else tol, 1e-4 if tol is None else tol)

    def bound(problem: int, theta: np.ndarray) -> float:
        return total[problem] ** -1 * lower_bound(
            samples.X, samples.y, samples.weight[fold[problem]], theta, ridge[problem],
            loss=samples.loss, scale=samples.scale, fit_intercept=samples.fit_intercept,
        )  # fmt: skip

    return Goal(tols, np.where(provable, gap, np.inf), bound, max_iter)


def part_of(goal: Goal, first: int, size: int) -> Goal:
    """Return the goal of ``size`` problems from ``first`` on."""
    rows = slice(first, first + size)
    return replace(
        goal,
        tol=goal.tol[rows],
        gap=goal.gap[rows],
        lower_bound=lambda m, theta: goal.lower_bound(first + m, theta),
    )


def with_heads(engine: FloatEngine, rows: Rows, fold, ridge, total, decade) -> Objective:
    """Return the problems, and after them a head for those of a fold whose rates are nearest to one power of ten.

    ``decade`` (M, 2) says for each problem which that is, and what its ridge must be multiplied by. A lone rate
    that is a power of ten heads itself.
    """
    power, factor = decade.T
    _, member, head, count = np.unique(
        fold + 1j * power, return_index=True, return_inverse=True, return_counts=True
    )
    head = np.where((count[head] == 1) & (factor == 1), np.arange(fold.size), fold.size + head)
    ridge = np.concatenate([ridge, ridge[member] * factor[member, None]])
    fold, total = np.append(fold, fold[member]), np.append(total, total[member])
    return Objective(engine, rows, fold, engine.array(ridge / total[:, None]), engine.array(total), head)


def decades(l2: np.ndarray) -> np.ndarray:
    """Return of each rate (M,) the nearest power of ten and what the rate must be multiplied by to be it (M, 2)."""
    some = l2 > 0
    power = np.rint(np.log10(l2, out=np.full_like(l2, -400.0), where=some))
    return np.column_stack([power, np.divide(10.0**power, l2, out=np.ones_like(l2), where=some)])


def pack(
    solution: Solution, samples: Samples, total: np.ndarray, shape: tuple[int, ...], name: str
) -> PathSolution:
    """Shape a solution of M problems as a path."""
    P = samples.X.shape[1]
    intercept = solution.theta[:, :, P] if samples.fit_intercept else np.zeros(solution.theta.shape[:2])
    return PathSolution(
        coef=solution.theta[:, :, :P].reshape(*shape, samples.n_classes, P),
        intercept=intercept.reshape(*shape, samples.n_classes),
        loss=(solution.value * total).reshape(shape),
        grad_norm=solution.grad_norm.reshape(shape),
        n_iter=solution.n_iter.reshape(shape),
        status=solution.status.reshape(shape),
        gap=solution.gap.reshape(shape),
        backend=name,
    )


def choose_backend(samples: Samples, problems: int) -> str:
    """Return the fastest back end present for data of this size."""
    N, P = samples.X.shape
    logits = N * problems * samples.n_classes
    if logits * P >= LARGE_PRODUCTS:
        if backends.has_cuda():
            return "torch" if backends.torch_has_cuda() else "cupy"
        if samples.X.dtype == np.uint8 and backends.has_matrix_units() and backends.is_available("torch"):
            return "torch"
    return "numpy" if logits < SMALL_LOGITS else "numba"


def starting_point(warm_start: PathSolution | None, problems: int, samples: Samples) -> np.ndarray:
    """Return theta (M, K, P + 1) of an earlier solution, or zeros."""
    K, P = samples.n_classes, samples.X.shape[1]
    theta = np.zeros((problems, K, samples.width))
    if warm_start is not None:
        if warm_start.coef.shape[-2:] != (K, P) or warm_start.coef.size != problems * K * P:
            raise ValueError(
                f"warm_start has coefficients of shape {warm_start.coef.shape}, but {problems} problems of {K} "
                f"classes and {P} features are to be fitted; pass a solution of the same rates and data"
            )
        theta[:, :, :P] = warm_start.coef.reshape(problems, K, P)
        if samples.fit_intercept:
            theta[:, :, P] = warm_start.intercept.reshape(problems, K)
    return theta
