"""fit_path: a whole regularization path, every fold of it, as one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from papershell.kernels import backends
from papershell.kernels.logreg import newton, preconditioner, solver, validate
from papershell.kernels.logreg.coarse import coarse_starts
from papershell.kernels.logreg.cost import choose_backend
from papershell.kernels.logreg.distributed import is_alone, solve_on_ranks
from papershell.kernels.logreg.iteration import Result, Status
from papershell.kernels.logreg.preconditioner import Preconditioners
from papershell.kernels.logreg.problem import Identity, Problem, Samples, coordinates
from papershell.kernels.logreg.recomputed import LOGITS_BYTES, logits_bytes, rows_within
from papershell.kernels.logreg.solution import PathSolution
from papershell.kernels.logreg.solver import Minimizer
from papershell.kernels.placement import follow
from papershell.kernels.threads import one_blas_thread

DEFAULT_GAP, DEFAULT_TOL = 1e-4, 1e-4


@dataclass(frozen=True)
class Settings:
    """What `fit_path` does not decide by itself; the defaults serve every shape that was tried.

    Attributes
    ----------
    solver : of the iteration.
    preconditioner : its sizes.
    logits_bytes : of the logits that a batch of problems may keep; those of a single one that has more are recomputed.
    """

    solver: solver.Settings = field(default_factory=solver.Settings)
    preconditioner: preconditioner.Settings = field(default_factory=preconditioner.Settings)
    logits_bytes: int = LOGITS_BYTES


def fit_path(
    X: Any,
    y: Any,
    l2: Any,
    *,
    loss: str = "multinomial",
    fit_intercept: bool = True,
    penalize_intercept: bool = False,
    sample_weight: np.ndarray | None = None,
    folds: np.ndarray | None = None,
    scale: float | None = None,
    standardize: bool = False,
    tol: float | None = None,
    gap: float | None = None,
    max_iter: int = 1000,
    backend: str = "auto",
    warm_start: PathSolution | None = None,
    callback: Callable[[int, int, float], object] | None = None,
    on_step: Callable[[int, np.ndarray, np.ndarray], object] | None = None,
    settings: Settings | None = None,
) -> PathSolution:
    """Fit L2-regularized logistic regressions for every rate (and fold) at once.

    Minimizes ``sum_i w_i * loss_i + l2 / 2 * ||W||^2`` for each rate; ``l2 = 1 / C`` of
    scikit-learn. See `papershell.kernels.logreg.losses` for the losses and `papershell.kernels.logreg.solver` for the
    method. Neighbouring rates may share their first steps; each is proven by itself, so that its answer
    depends on its companions within what is proven only, and one that does not converge
    never harms the others: look at ``status``.

    Parameters
    ----------
    X : (N, P) uint8, int8, float16, bfloat16, float32 or float64: a NumPy, PyTorch, CuPy or JAX array, one of any
        library that knows DLPack or ``__array__``, a pandas or polars frame, a memory map. It stays where it lies and
        what it is: blocks of its rows are converted when they are multiplied. Other numbers become float64, in a copy.
    y : (N,) integer labels 0..K-1, each class present, of any of those libraries; the host gets a copy.
    l2 : (R,) or a number: penalties, finite and >= 0.
    loss : ``"multinomial"``, or ``"ovr"`` for K independent logistic regressions.
    fit_intercept : whether to fit (R, K) intercepts.
    penalize_intercept : whether the penalty takes in the intercept, as liblinear does.
    sample_weight : (N,) finite and >= 0; ones by default.
    folds : (F, N) masks or weights: row f says which samples fold f trains on.
    scale : factor of X, for example 1/255; the solution refers to ``X * scale``. Default 1.
    standardize : put the penalty on the weights of (x - mean) / deviation, over all rows. The solution refers to the
        features as they came, and no standardized copy is made. For floats.
    tol : bound on max |gradient| of the mean objective, as in scikit-learn.
    gap : bound on (loss - optimum) / loss, to be proven in float64. If both are given, both must hold; if
        neither is, ``gap=1e-4``. A rate whose gap cannot be proven (l2 = 0, or a fold without a class) is held
        to ``tol`` instead, 1e-4 if not given.
    max_iter : accepted steps that a rate may take.
    backend : a name of `available_backends`, or ``"auto"`` for the fastest present at this size. An X of a CUDA device
        is fitted there, by ``"torch"`` or ``"cupy"``; one of the host may be copied to a GPU by these two and by
        ``"auto"``. No X is copied from a device.
    warm_start : an earlier solution of the same shape to start from.
    callback : called after every pass over X with (passes, rates left, largest gradient).
    on_step : called before every step with (steps so far, coef, intercept), which have the shapes of the
        solution's. It costs a copy from the device and, for several rates, much memory: `callback` does without.
    settings : sizes and constants of the method, for tests and experiments.

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
    rates, settings = validate.rates(l2), settings or Settings()
    validate.limits(tol, gap, max_iter, settings.logits_bytes)
    X, name = follow(validate.features(X), backend)
    y = validate.labels(y, len(X))
    weight = validate.folds(folds, validate.weight(sample_weight, len(X)), len(X))
    unit = weight.max(axis=1)
    weight = weight / unit[:, None]  # float32 and fixed point see each fold's weights at their own scale
    raw = Samples(X, y, weight, int(y.max()) + 1, validate.scale(scale), bool(fit_intercept))
    magnitude = validate.magnitude(X)
    if name == "auto":
        N, P = X.shape
        name = choose_backend(N, P, raw.n_classes, len(weight) * rates.size, X.dtype)
    make = backends.implementation("logreg", name).Engine
    shape = (rates.size,) if folds is None else (len(weight), rates.size)
    validate.standardize(X, standardize)
    layout = Layout(
        raw, magnitude, rates, unit, validate.loss(loss), penalize_intercept, standardize, warm_start, shape
    )
    problems = layout.problems(tol, gap)

    largest_row = float(np.sqrt(layout.samples.X.shape[1])) * layout.largest_feature
    progress = Progress(layout, problems, callback, on_step)
    whole: dict[int, Result] = {}
    if backend == "auto" and isinstance(X, np.ndarray) and is_alone():
        whole = layout.minimize_whole(problems, name, largest_row, max_iter, progress)
    left = {number: problem for number, problem in problems.items() if number not in whole}

    def solve(engine: Any, rows: Any) -> dict[int, Result]:
        preconditioners = Preconditioners(
            make, layout.samples, settings.preconditioner, layout.variables.principal
        )
        minimizer = Minimizer(
            engine, rows, preconditioners, layout.variables,
            largest_row, max_iter, settings.solver,
        )  # fmt: skip
        found: dict[int, Result] = {}
        for batch in layout.batches(left, settings.logits_bytes):
            progress.begin(batch)
            report = progress.report if progress.is_wanted else None
            starts = layout.starts(batch)
            if layout.warm is None:
                starts = coarse_starts(
                    make, preconditioners, layout.variables, batch, starts, largest_row, settings.solver
                )
            found |= minimizer.minimize(batch, starts, report)
            progress.end(found)
        return found

    own_rows = partial(rows_within, settings.logits_bytes, make, layout.columns)
    found = whole | (solve_on_ranks(make, own_rows, layout.samples, solve) if left else {})
    return layout.pack(found, name)


class Layout:
    """Rates x folds, and for one-vs-rest classes, as problems in the coordinates in which they are solved, and back.

    Parameters
    ----------
    raw : the samples as they came.
    magnitude : of the largest entry of their X.
    rates : (R,).
    unit : (F,) what the folds' weights were divided by.
    loss : ``"multinomial"`` or ``"ovr"``.
    penalize_intercept : whether the penalty takes in the intercept.
    standardize : whether the penalty is on the weights of standardized features.
    warm_start : an earlier solution, or None.
    shape : of the solution's leading axes.
    """

    def __init__(
        self, raw: Samples, magnitude: float, rates: np.ndarray, unit: np.ndarray, loss: str, penalize_intercept: bool,
        standardize: bool, warm_start: PathSolution | None, shape: tuple[int, ...],
    ):  # fmt: skip
        self.shape = shape
        self.raw, self.rates, self.unit, self.loss = raw, rates, unit, loss
        self.penalize_intercept = penalize_intercept and raw.fit_intercept
        self.warm = None if warm_start is None else given_point(warm_start, unit.size * rates.size, raw)
        self.variables: Identity = coordinates(raw, rates, self.penalize_intercept, standardize)
        self.samples = self.variables.apply(raw)
        largest = magnitude * abs(raw.scale) if self.samples is raw else self.samples.largest()
        self.largest_feature = validate.no_larger(largest, validate.LARGEST_SOLVED)
        K = raw.n_classes
        self.classes: list[int | None] = (
            [1] if K == 2 else [None] if loss == "multinomial" else list(range(K))
        )
        self.columns = K if self.classes == [None] else 1

    def problems(self, tol: float | None, gap: float | None) -> dict[int, Problem]:
        """Return the problems by number: folds, in them rates, in them classes."""
        gap = DEFAULT_GAP if tol is None and gap is None else np.inf if gap is None else gap
        halved = 0.5 if self.raw.n_classes == 2 and self.loss == "multinomial" else 1.0
        found: list[Problem] = []
        for fold, weight in enumerate(self.raw.weight):
            counts = np.bincount(self.raw.y, weight, self.raw.n_classes)
            for rate in self.rates:
                l2 = halved * rate / self.unit[fold]
                edge = [l2 * self.penalize_intercept] if self.raw.fit_intercept else []
                ridge = np.append(self.variables.ridge(l2), edge)
                for k in self.classes:
                    own = counts if k is None else np.array([counts.sum() - counts[k], counts[k]])
                    free = self.raw.fit_intercept and not self.penalize_intercept
                    provable = rate > 0.0 and l2 > 0.0 and (not free or bool((own > 0).all()))
                    wanted = np.inf if tol is None and provable else DEFAULT_TOL if tol is None else tol
                    found.append(
                        Problem(fold, k, ridge, own, float(wanted), float(gap) if provable else np.inf)
                    )
        return dict(enumerate(found))

    def starts(self, problems: dict[int, Problem]) -> dict[int, np.ndarray]:
        """Return where the problems begin (K, P + 1)."""
        return {number: self.start(number, problem) for number, problem in problems.items()}

    def start(self, number: int, problem: Problem) -> np.ndarray:
        """Return the start of one problem: the classes' shares, or a point of the earlier solution."""
        if self.warm is None:
            return problem.start(self.samples.width, problem.free_intercept(self.samples))
        theta = self.warm[number // len(self.classes)]
        if problem.positive is None:
            theta = theta - theta.mean(axis=0)
        elif self.raw.n_classes == 2 and self.loss == "multinomial":
            theta = theta[1:] - theta[:1]
        else:
            theta = theta[problem.positive : problem.positive + 1]
        return self.variables.inverse(theta)

    def minimize_whole(
        self, problems: dict[int, Problem], backend: str, largest_row: float, max_iter: int, progress: Progress
    ) -> dict[int, Result]:  # fmt: skip
        """Return those problems that Newton's method with the whole Hessian brings to a proof, or to max_iter."""
        found: dict[int, Result] = {}
        trails: dict[int, list[tuple[np.ndarray, float]]] = {}
        minimize = newton.minimizer(len(self.raw.y), self.samples.width, self.columns, backend)
        if minimize is None:
            return found
        with one_blas_thread():
            for number, problem in problems.items():
                start, trail = self.start(number, problem), trails.setdefault(number, [])
                result = minimize(self.samples, problem, start, self.variables, largest_row, max_iter, trail)
                if result is not None:
                    found[number] = result
                    trail.append((result.theta, result.grad_norm))
        progress.replay({number: trails[number] for number in found})
        progress.end(found)
        return found

    def batches(self, problems: dict[int, Problem], most_bytes: int) -> list[dict[int, Problem]]:
        """Return the problems in batches whose logits, those of the directions too, fit ``most_bytes`` as float64."""
        numbers, size = list(problems), max(1, most_bytes // logits_bytes(len(self.raw.y), self.columns))
        return [{n: problems[n] for n in numbers[i : i + size]} for i in range(0, len(numbers), size)]

    def pack(self, found: dict[int, Result], name: str) -> PathSolution:
        """Shape the results as a path."""
        each = [
            self.join([found[n] for n in range(i, i + len(self.classes))], i)
            for i in range(0, len(found), len(self.classes))
        ]
        fields, shape = list(zip(*each, strict=True)), self.shape
        coef, intercept = self.parts(np.stack(fields[0]))
        status = np.empty(len(each), object)
        status[:] = fields[4]
        return PathSolution(
            coef=coef,
            intercept=intercept,
            loss=np.array(fields[1]).reshape(shape),
            grad_norm=np.array(fields[2]).reshape(shape),
            n_iter=np.array(fields[3]).reshape(shape),
            status=status.reshape(shape),
            backend=name,
            gap=np.array(fields[5]).reshape(shape),
            scale=self.raw.scale,
            objective=self.loss,
        )

    def join(self, results: list[Result], number: int) -> tuple:
        """Return theta (K, P + 1), loss, largest gradient, steps, status and gap of one rate of a fold."""
        fold, rate = divmod(number // len(self.classes), self.rates.size)
        theta = self.theta([result.theta for result in results])
        value = sum(result.value for result in results)
        distance = sum(result.gap * result.value if result.value else result.gap for result in results)
        status = min((result.status for result in results), key=WORST_FIRST.index)
        if self.raw.n_classes == 2 and self.loss == "ovr":
            value, distance = 2 * value, 2 * distance
        if status is Status.GRADIENT and self.rates[rate] == 0.0 and self.separates(theta, fold):
            status = Status.NO_OPTIMUM
        gap = distance / value if value > 0.0 else distance
        return (
            theta, value * self.unit[fold], max(result.grad_norm for result in results),
            max(result.n_iter for result in results), status, gap,
        )  # fmt: skip

    def theta(self, points: list[np.ndarray]) -> np.ndarray:
        """Return theta (K, P + 1) of one rate of a fold, by the features as they came."""
        theta = np.concatenate([self.variables.theta(point) for point in points])
        if self.raw.n_classes == 2:
            theta = np.concatenate([-theta, theta])
            return 0.5 * theta if self.loss == "multinomial" else theta
        return theta - theta.mean(axis=0) if self.loss == "multinomial" else theta

    def parts(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return coef and intercept in the solution's shape from all rates' theta (M, K, P + 1)."""
        K, P = self.raw.n_classes, self.raw.X.shape[1]
        intercept = theta[:, :, P] if self.raw.fit_intercept else np.zeros(theta.shape[:2])
        coef = np.ascontiguousarray(theta[:, :, :P])
        return coef.reshape(*self.shape, K, P), intercept.reshape(*self.shape, K)

    def separates(self, theta: np.ndarray, fold: int) -> bool:
        """Return whether ``theta`` (K, P + 1) tells all samples of a fold apart: then no finite one is optimal."""
        rows = np.flatnonzero(self.raw.weight[fold])
        W, y = theta[:, : self.raw.X.shape[1]] * self.raw.scale, self.raw.y[rows]
        for first in range(0, rows.size, 4096):
            part = rows[first : first + 4096]
            Z = self.raw.rows(part).astype(np.float64) @ W.T + (
                theta[:, -1] if self.raw.fit_intercept else 0.0
            )
            own = Z[np.arange(len(part)), y[first : first + 4096]]
            if self.loss == "ovr":
                Z[np.arange(len(part)), y[first : first + 4096]] = -own
                apart = Z.max(axis=1) < 0.0
            else:
                Z[np.arange(len(part)), y[first : first + 4096]] = -np.inf
                apart = own > Z.max(axis=1)
            if not apart.all():
                return False
        return True


class Progress:
    """Tells the callbacks of `fit_path` how far its problems are."""

    def __init__(
        self, layout: Layout, problems: dict[int, Problem], callback: Callable | None, on_step: Callable | None
    ):  # fmt: skip
        self.layout, self.callback, self.on_step = layout, callback, on_step
        self.is_wanted = callback is not None or on_step is not None
        self.waiting = set(problems)
        self.points = {} if on_step is None else layout.starts(problems)

    def begin(self, numbers: Iterable[int]) -> None:
        """Learn which problems run now."""
        self.waiting -= set(numbers)

    def report(
        self, passes: int, left: list[int], largest: float, points: Callable[[], dict[int, np.ndarray]]
    ) -> None:
        """Tell of one pass over the problems that run: those left, and what returns the points of all."""
        each = len(self.layout.classes)
        if self.callback is not None:
            self.callback(passes, len({n // each for n in (*left, *self.waiting)}), largest)
        if self.on_step is not None:
            self.points |= points()
            ordered = [self.points[n] for n in range(len(self.points))]
            rates = [self.layout.theta(ordered[i : i + each]) for i in range(0, len(ordered), each)]
            self.on_step(passes - 1, *self.layout.parts(np.stack(rates)))

    def replay(self, trails: dict[int, list[tuple[np.ndarray, float]]]) -> None:
        """Tell of all passes of problems that have ended: their points, each with its largest gradient."""
        if not self.is_wanted:
            return
        self.begin(trails)
        for step in range(max(map(len, trails.values()), default=1) - 1):
            points = {n: trail[min(step, len(trail) - 1)][0] for n, trail in trails.items()}
            left = [n for n, trail in trails.items() if step < len(trail) - 1]
            self.report(step + 1, left, max(trails[n][step][1] for n in left), partial(dict, points))

    def end(self, found: dict[int, Result]) -> None:
        """Learn where problems ended."""
        if self.on_step is not None:
            self.points |= {number: result.theta for number, result in found.items()}


WORST_FIRST = [Status.STALLED, Status.MAX_ITER, Status.GRADIENT, Status.NO_OPTIMUM, Status.PROVEN]


def given_point(warm_start: PathSolution, problems: int, samples: Samples) -> np.ndarray:
    """Return theta (M, K, P + 1) of an earlier solution, or raise ValueError."""
    K, P = samples.n_classes, samples.X.shape[1]
    if warm_start.coef.shape[-2:] != (K, P) or warm_start.coef.size != problems * K * P:
        raise ValueError(
            f"warm_start has coefficients of shape {warm_start.coef.shape}, but {problems} problems of {K} "
            f"classes and {P} features are to be fitted; pass a solution of the same rates and data"
        )
    theta = np.zeros((problems, K, samples.width))
    theta[:, :, :P] = warm_start.coef.reshape(problems, K, P)
    if samples.fit_intercept:
        theta[:, :, P] = warm_start.intercept.reshape(problems, K)
    return theta
