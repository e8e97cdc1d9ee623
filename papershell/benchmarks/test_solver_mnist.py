"""Whole solves on MNIST beside scikit-learn, scikit-learn-intelex, PyTorch and liblinear."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from papershell.benchmarks import peers, problems, referee, solves
from papershell.benchmarks.case import Case, Reference
from papershell.benchmarks.measure import Measure, device_of, need
from papershell.benchmarks.plugin import MeasureSession
from papershell.benchmarks.problems import Problem

RATES = tuple(np.logspace(-1, 4, 16))
FEW_ROWS, FOLD_ROWS = 10_000, 1_000
SMOKE_SHARE = 0.01


@pytest.fixture(scope="module")
def mnist(measure_session: MeasureSession, images_path: object) -> Problem:
    """All of MNIST's training images, few of them in a smoke run."""
    return problems.mnist(SMOKE_SHARE if measure_session.is_smoke else 1.0)


@pytest.mark.parametrize("peer", [peers.LBFGS, peers.NEWTON_CG, peers.INTELEX, peers.TORCH])
def test_one_rate(measure: Measure, mnist: Problem, peer: str) -> None:
    measure(solves.at_objective_of(peer, mnist, 1.0, measure.budget_s))


def test_one_rate_proven(measure: Measure, mnist: Problem) -> None:
    measure(solves.proven(1e-4, peers.LBFGS, mnist, 1.0, measure.budget_s))


@pytest.mark.parametrize("gap", [1e-4, 1e-6])
def test_passes(measure: Measure, mnist: Problem, gap: float) -> None:
    measure(solves.true_gap(gap, mnist, 1.0))


@pytest.mark.slow
def test_sixteen_rates(measure: Measure, mnist: Problem) -> None:
    measure(solves.many_rates(1e-4, peers.LBFGS, mnist, RATES))


@pytest.mark.parametrize("case", ["one rate", "sixteen rates"])
def test_batch(measure: Measure, mnist: Problem, case: str) -> None:
    fits = {"one rate": solves.Fit(mnist, (1.0,)), "sixteen rates": solves.Fit(mnist, RATES)}
    measure(
        Case.among(
            fits, case, group=f"{mnist.name}, one batch, proven to 1e-4", error=fits[case].distance, tolerance=1e-4,
            dtype="uint8", facts=fits[case].facts,
        )
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", ["numpy", "numba", "torch", "cupy"])
def test_back_ends(measure: Measure, images_path: object, case: str) -> None:
    need(case)
    problem = problems.mnist(FEW_ROWS / 60_000)
    fits = {
        name: solves.Fit(problem, (1.0,), {"backend": name, "gap": 1e-4})
        for name in ("numpy", "numba", "torch", "cupy")
    }
    measure(
        Case.among(
            fits, case, group=f"back ends, {problem.name}, proven to 1e-4", error=fits[case].distance, tolerance=1e-4,
            dtype="uint8", backend=case, device=device_of(case), facts=fits[case].facts,
        )
    )  # fmt: skip


@pytest.mark.slow
def test_sixteen_rates_on_a_gpu(measure: Measure, mnist: Problem) -> None:
    """Beside PyTorch's L-BFGS on the same device, one rate after another."""
    if device_of("torch") != "cuda":
        pytest.skip("PyTorch sees no CUDA device here")

    def peer() -> None:
        for l2 in RATES:
            peers.torch_solver(mnist, l2, device="cuda")

    fit = solves.Fit(mnist, RATES, {"backend": "torch"})
    measure(
        Case(
            group=f"{mnist.name}, 16 rates on a GPU", name="fit_path, one batch, each proven to 1e-04", call=fit,
            reference=Reference(f"{peers.TORCH}, one after another", peer), error=fit.distance, tolerance=1e-4,
            dtype="uint8", backend="torch", device="cuda", facts=fit.facts,
        )
    )  # fmt: skip


@pytest.mark.slow
def test_one_against_rest(measure: Measure, mnist: Problem) -> None:
    """As the walk-through's liblinear, intercepts penalized: at its objective."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    def liblinear() -> peers.Coefficients:
        model = OneVsRestClassifier(LogisticRegression(solver="liblinear", max_iter=1000))
        model.fit(mnist.as_floats(), mnist.y)
        parts = [(part.coef_[0], part.intercept_[0]) for part in model.estimators_]
        return tuple(map(np.array, zip(*parts, strict=True)))  # type: ignore[return-value]

    peer = peers.timed_answer(liblinear, mnist, 1.0)
    target = referee.objective(mnist, peer.coef, peer.intercept, 1.0, "ovr")
    options = {"loss": "ovr", "penalize_intercept": True}
    best, fit = (solves.Fit(mnist, (1.0,), {**options, "gap": gap}) for gap in (solves.OPTIMUM_GAP, 1e-4))

    def reached(path: Any) -> float:
        return referee.objective(mnist, path.coef[0], path.intercept[0], 1.0, "ovr")

    optimum = reached(best())
    measure(
        Case(
            group=f"{mnist.name}, one against the rest, l2 = 1", name="fit_path, proven to 1e-04", call=fit,
            reference=Reference("scikit-learn liblinear", liblinear, peer.seconds), dtype="uint8",
            error=lambda path: reached(path) / optimum - 1, tolerance=max(1e-4, target / optimum - 1),
            facts=lambda path: {**fit.facts(path), "reference_gap": target / optimum - 1},
        )
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", ["LogisticRegressionCV(max_iter=1000)", "folds as masks"])
def test_folds(measure: Measure, images: np.ndarray, labels: np.ndarray, case: str) -> None:
    """Five folds times ten rates; the error is the difference of the mean accuracy on the folds left out."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import StratifiedKFold

    from papershell.trainers.logreg import LogisticRegressionCV as Ours

    X, y = images[:FOLD_ROWS] * problems.PIXEL, labels[:FOLD_ROWS]
    splits, Cs = list(StratifiedKFold(5).split(X, y)), np.logspace(-3, 1, 10)

    def scores(make: Callable[[], Any]) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = make().fit(X, y)
        return float(np.mean(np.array(model.scores_)))

    theirs = partial(LogisticRegressionCV, Cs=Cs, cv=splits, max_iter=1000, use_legacy_attributes=False)
    calls = {
        "LogisticRegressionCV(max_iter=1000)": partial(scores, theirs),
        "folds as masks": partial(scores, partial(Ours, Cs=Cs, cv=splits)),
    }
    right = calls["LogisticRegressionCV(max_iter=1000)"]()
    measure(
        Case.among(
            calls, case, group=f"5 folds x 10 rates, {FOLD_ROWS:,} images", error=lambda found: found - right,
            tolerance=1e-2, dtype="float64",
        )
    )  # fmt: skip
