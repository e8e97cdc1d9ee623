"""Regularization paths: every rate at its optimum, whoever its companions are, on every back end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from papershell.kernels import BackendError, PathSolution, Status, available_backends, fit_path
from papershell.kernels.backends import is_available
from papershell.kernels.logreg import vnni
from papershell.kernels.logreg.path import Settings
from tests.kernels.logreg_reference import (
    ITERATION_UNIT,
    ON_HOST,
    TIGHT,
    assert_same_optimum,
    blobs,
    check,
    in_bytes,
    value_and_gradient,
)

LOSSES = ["multinomial", "ovr"]
RATES = [0.1, 1.0, 30.0]
NEIGHBOURS = [0.1, 8.0, 20.0, 30.0]  # the last three share their first passes
INTERCEPTS = {
    "free": {},
    "none": {"fit_intercept": False},
    "penalized": {"penalize_intercept": True},
}
on_every_host = pytest.mark.parametrize("backend", ON_HOST)


@pytest.fixture(scope="module")
def data():
    return blobs()


@pytest.fixture(scope="module")
def pixels(data):
    return in_bytes(data[0]), data[1]


def points(solution: PathSolution):
    """Yield (coef, intercept) of every rate, folds first."""
    K, P = solution.coef.shape[-2:]
    yield from zip(solution.coef.reshape(-1, K, P), solution.intercept.reshape(-1, K), strict=True)


def assert_same_path(first: PathSolution, second: PathSolution, l2, total, tol=TIGHT) -> None:
    for one, other, rate in zip(points(first), points(second), np.atleast_1d(l2), strict=True):
        assert_same_optimum(one, other, rate, total, tol)


@pytest.mark.parametrize("weighted", [False, True], ids=["even", "weighted"])
@pytest.mark.parametrize("intercept", INTERCEPTS.values(), ids=INTERCEPTS)
@pytest.mark.parametrize("loss", LOSSES)
@on_every_host
@pytest.mark.parametrize("kind", ["floats", "bytes"])
def test_every_rate_is_optimal(data, pixels, kind, backend, loss, intercept, weighted):
    (X, y), scale = (data, 1.0) if kind == "floats" else (pixels, 1 / 255)
    weight = np.random.default_rng(1).uniform(0, 3, len(y)) if weighted else None
    solution = fit_path(
        X, y, RATES, loss=loss, sample_weight=weight, scale=scale, tol=1e-6, backend=backend, **intercept
    )
    check(solution, X * scale, y, RATES, tol=1e-6, weight=weight, loss=loss, **intercept)
    assert all(status.reached for status in solution.status)
    assert solution.coef.shape == (3, 3, X.shape[1]) and solution.intercept.shape == (3, 3)
    assert solution.backend == backend and solution.n_iter.dtype.kind == "i"
    assert intercept.get("fit_intercept", True) == bool(solution.intercept.any())


@on_every_host
def test_tol_is_the_largest_gradient_of_the_mean_objective(data, backend):
    X, y = data
    paths = [fit_path(X, y, RATES, tol=tol, backend=backend) for tol in (1e-2, 1e-4, 1e-8)]
    for solution, tol in zip(paths, (1e-2, 1e-4, 1e-8), strict=True):
        check(solution, X, y, RATES, tol=tol)
    assert (np.diff([solution.n_iter for solution in paths], axis=0) > 0).all()
    assert (np.diff([solution.loss for solution in paths], axis=0) <= 0).all()


@on_every_host
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_multinomial_agrees_with_scikit_learn(data, backend, fit_intercept):
    X, y = data
    weight = 1.0 + np.arange(len(y)) % 4
    solution = fit_path(
        X, y, RATES, fit_intercept=fit_intercept, sample_weight=weight, tol=TIGHT, backend=backend
    )
    for rate, point in zip(RATES, points(solution), strict=True):
        peer = LogisticRegression(
            C=1 / rate, solver="newton-cholesky", tol=1e-10, fit_intercept=fit_intercept
        ).fit(X, y, sample_weight=weight)
        assert_same_optimum(point, (peer.coef_, peer.intercept_), rate, weight.sum(), TIGHT)


@on_every_host
def test_one_vs_rest_with_penalized_intercept_agrees_with_liblinear(data, backend):
    X, y = data
    solution = fit_path(X, y, RATES, loss="ovr", penalize_intercept=True, tol=TIGHT, backend=backend)
    for rate, (coef, intercept) in zip(RATES, points(solution), strict=True):
        one = LogisticRegression(C=1 / rate, solver="liblinear", intercept_scaling=1, tol=1e-10)
        peers = OneVsRestClassifier(one).fit(X, y).estimators_
        peer = np.vstack([p.coef_ for p in peers]), np.concatenate([p.intercept_ for p in peers])
        options = {"loss": "ovr", "penalize_intercept": True}
        reached = max(value_and_gradient(X, y, *peer, rate, **options)[1], TIGHT)
        bound = np.append(coef - peer[0], intercept - peer[1])
        assert rate / len(y) * (bound**2).sum() <= 2 * reached * np.abs(bound).sum()


@on_every_host
def test_integer_weights_are_repeated_rows(data, backend):
    X, y = data
    times = np.arange(len(y)) % 4
    weighted = fit_path(X, y, RATES, sample_weight=times, tol=TIGHT, backend=backend)
    repeated = fit_path(np.repeat(X, times, 0), np.repeat(y, times), RATES, tol=TIGHT, backend=backend)
    assert_same_path(weighted, repeated, RATES, times.sum())
    np.testing.assert_allclose(weighted.loss, repeated.loss, rtol=ITERATION_UNIT)


@on_every_host
def test_rows_of_weight_zero_do_not_matter(data, pixels, backend):
    y, weight = data[1], (np.arange(len(data[1])) % 5 > 0).astype(float)
    for X, scale in ((data[0], 1.0), (pixels[0], 1 / 255)):
        garbled = X.copy()
        garbled[weight == 0] = 255 - garbled[weight == 0]
        options = {"sample_weight": weight, "scale": scale, "tol": TIGHT, "backend": backend}
        assert_same_path(
            fit_path(X, y, RATES, **options), fit_path(garbled, y, RATES, **options), RATES, weight.sum()
        )


@on_every_host
def test_the_order_of_the_rows_does_not_matter(data, backend):
    X, y = data
    order = np.random.default_rng(2).permutation(len(y))
    paths = [fit_path(a, b, RATES, tol=TIGHT, backend=backend) for a, b in ((X, y), (X[order], y[order]))]
    assert_same_path(*paths, RATES, len(y))


@on_every_host
def test_bytes_with_a_scale_are_the_floats_of_the_same_values(pixels, backend):
    X, y = pixels
    of_bytes = fit_path(X, y, RATES, scale=1 / 255, tol=TIGHT, backend=backend)
    of_floats = fit_path(X / 255, y, RATES, tol=TIGHT, backend=backend)
    assert_same_path(of_bytes, of_floats, RATES, len(y))


@pytest.mark.parametrize("kind", ["floats", "bytes"])
@on_every_host
def test_a_rate_alone_is_the_rate_in_company(data, pixels, kind, backend):
    """Also among folds, and by the same steps where products are float64 grade."""
    (X, y), scale = (data, 1.0) if kind == "floats" else (pixels, 1 / 255)
    folds = np.stack([np.arange(len(y)) % 2, np.ones(len(y))])
    for tol in (1e-4, TIGHT):
        options = {"scale": scale, "tol": tol, "backend": backend}
        company, among = (
            fit_path(X, y, NEIGHBOURS, **options),
            fit_path(X, y, NEIGHBOURS, folds=folds, **options),
        )
        for r, rate in enumerate(NEIGHBOURS):
            alone = fit_path(X, y, rate, **options)
            (point,) = points(alone)
            for other in (list(points(company))[r], (among.coef[1, r], among.intercept[1, r])):
                assert_same_optimum(point, other, rate, len(y), tol)
            if backend == "numpy" and tol > TIGHT:
                assert alone.n_iter[0] == company.n_iter[r]
                np.testing.assert_allclose(alone.coef[0], company.coef[r], rtol=0, atol=ITERATION_UNIT)


@pytest.mark.skipif(not vnni.is_available(), reason="no exact products of bytes: this processor has no VNNI")
def test_exact_products_give_the_same_rate_in_company_to_the_last_digits(pixels):
    X, y = pixels
    company = fit_path(X, y, NEIGHBOURS, scale=1 / 255, backend="numba")
    for r, rate in enumerate(NEIGHBOURS):
        alone = fit_path(X, y, rate, scale=1 / 255, backend="numba")
        assert alone.n_iter[0] == company.n_iter[r]
        np.testing.assert_allclose(alone.coef[0], company.coef[r], rtol=0, atol=ITERATION_UNIT)


@pytest.mark.parametrize("loss", LOSSES)
@on_every_host
def test_folds_are_fits_of_the_subsets(data, backend, loss):
    X, y = data
    folds = np.arange(len(y)) % 4 != np.arange(4)[:, None]
    options = {"loss": loss, "tol": TIGHT, "backend": backend}
    solution = fit_path(X, y, RATES, folds=folds, **options)
    assert solution.coef.shape == (4, 3, 3, X.shape[1]) and solution.status.shape == (4, 3)
    check(solution, X, y, RATES, folds=folds, tol=TIGHT, loss=loss)
    for f, mask in enumerate(folds):
        subset = fit_path(X[mask], y[mask], RATES, **options)
        for r, point in enumerate(points(subset)):
            fold = solution.coef[f, r], solution.intercept[f, r]
            assert_same_optimum(point, fold, RATES[r], mask.sum(), TIGHT)


@on_every_host
def test_folds_of_very_different_weight_are_each_solved(pixels, backend):
    X, y = pixels
    folds = np.array([1e20, 1.0, 1e-20])[:, None] * np.ones(len(y))
    solution = fit_path(X, y, 1.0, folds=folds, scale=1 / 255, tol=1e-6, backend=backend)
    check(solution, X / 255, y, 1.0, folds=folds, tol=1e-6)
    alone = fit_path(X, y, 1.0, scale=1 / 255, tol=1e-6, backend=backend)
    middle = solution.coef[1, 0], solution.intercept[1, 0]
    assert_same_optimum((alone.coef[0], alone.intercept[0]), middle, 1.0, len(y), 1e-6)


@on_every_host
def test_a_warm_start_at_the_solution_is_done_at_once(data, backend):
    X, y = data
    cold = fit_path(X, y, RATES, tol=1e-4, backend=backend)
    warm = fit_path(X, y, RATES, tol=1e-4, backend=backend, warm_start=cold)
    check(warm, X, y, RATES, tol=1e-4)
    assert (warm.n_iter <= 1).all() and (cold.n_iter > 2).all()
    elsewhere = replace(cold, coef=cold.coef + 1.0)
    check(fit_path(X, y, RATES, tol=1e-4, backend=backend, warm_start=elsewhere), X, y, RATES, tol=1e-4)


@on_every_host
def test_a_rate_that_runs_out_of_iterations_harms_no_other(data, backend):
    X, y = data
    weak, strong = 1e-3, 1e6
    solution = fit_path(X, y, [weak, strong], max_iter=2, backend=backend)
    assert solution.status.tolist() == [Status.MAX_ITER, Status.PROVEN]
    assert solution.n_iter[0] == 2
    check(solution, X, y, [weak, strong], tol=1e-4)
    alone = fit_path(X, y, strong, max_iter=2, backend=backend)
    np.testing.assert_allclose(solution.coef[1], alone.coef[0], rtol=0, atol=ITERATION_UNIT)


def test_a_tolerance_below_rounding_ends_as_stalled(data):
    X, y = data
    solution = fit_path(X, y, RATES, tol=0.0, max_iter=10_000, backend="numpy")
    assert all(status is Status.STALLED for status in solution.status)
    assert (solution.grad_norm <= TIGHT).all()


def test_every_status_says_what_to_know_in_a_sentence():
    messages = [status.message for status in Status]
    assert len(set(messages)) == len(Status) and all(len(message.split()) > 5 for message in messages)


@on_every_host
def test_the_callback_sees_every_pass(data, backend):
    X, y = data
    calls: list[tuple[int, int, float]] = []
    solution = fit_path(X, y, RATES, backend=backend, callback=lambda *call: calls.append(call))
    passes, left, norms = map(list, zip(*calls, strict=True))
    assert passes == list(range(1, passes[-1] + 1)) and passes[-1] >= solution.n_iter.max()
    assert left[0] == len(RATES) and left == sorted(left, reverse=True) and min(left) >= 1
    start = value_and_gradient(X, y, np.zeros((3, X.shape[1])), np.zeros(3), RATES[0])[
        1
    ]  # shares are nearly equal
    assert norms[0] == pytest.approx(start, rel=1e-2) and norms[-1] < norms[0] / 100


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("backend", [*ON_HOST, "auto"])
def test_every_step_shows_the_whole_path(data, backend, loss):
    X, y = data
    calls: list[tuple[int, np.ndarray, np.ndarray]] = []
    folds = np.arange(len(y)) % 2 != np.arange(2)[:, None]
    options = {"folds": folds, "loss": loss, "backend": backend}
    solution = fit_path(X, y, RATES, on_step=lambda *call: calls.append(call), **options)
    assert [steps for steps, _, _ in calls] == list(range(solution.n_iter.max()))
    points = [*((coef, intercept) for _, coef, intercept in calls), (solution.coef, solution.intercept)]
    assert {(coef.shape, intercept.shape) for coef, intercept in points} == {
        ((2, 3, 3, X.shape[1]), (2, 3, 3))
    }
    for f, r in np.ndindex(2, 3):
        rows = folds[f]
        values = [
            value_and_gradient(X[rows], y[rows], W[f, r], b[f, r], RATES[r], loss=loss)[0] for W, b in points
        ]
        assert (np.diff(values) <= 1e-6 * values[0]).all() and values[-1] < values[0]
    assert_same_path(solution, fit_path(X, y, RATES, **options), np.tile(RATES, 2), folds[0].sum(), tol=1e-12)


@on_every_host
def test_an_interrupt_returns_at_once(data, backend):
    def interrupt(passes: int, *_: object) -> None:
        seen.append(passes)
        if len(seen) == 3:
            raise KeyboardInterrupt

    seen: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        fit_path(*data, RATES, tol=TIGHT, backend=backend, callback=interrupt)
    assert len(seen) == 3


@pytest.mark.parametrize("name", [name for name in available_backends() if not is_available(name)])
def test_an_absent_back_end_says_why(data, name):
    with pytest.raises(BackendError) as caught:
        fit_path(*data, 1.0, backend=name)
    assert available_backends()[name] in str(caught.value)


def test_auto_takes_a_back_end_that_is_present(data):
    solution = fit_path(*data, RATES, tol=1e-4)
    assert is_available(solution.backend)
    check(solution, *data, RATES, tol=1e-4)


@pytest.mark.parametrize("kind", ["floats", "bytes"])
@on_every_host
def test_batches_that_must_be_split_give_the_same_path(data, pixels, backend, kind):
    (X, y), scale = (data, 1.0) if kind == "floats" else (pixels, 1 / 255)
    folds = np.arange(len(y)) % 3 != np.arange(3)[:, None]
    options = {"folds": folds, "scale": scale, "tol": TIGHT, "backend": backend}
    whole = fit_path(X, y, RATES, **options)
    left: list[int] = []
    split = fit_path(
        X, y, RATES, callback=lambda passes, rates, norm: left.append(rates),
        settings=Settings(logits_bytes=16 * len(y) * 3), **options,
    )  # fmt: skip
    assert left == sorted(left, reverse=True) and set(left) == set(range(1, 10))  # one after another
    check(split, X * scale, y, RATES, folds=folds, tol=TIGHT)
    assert_same_path(whole, split, np.tile(RATES, 3), folds[0].sum())


@pytest.mark.mnist
def test_mnist_reaches_the_known_figures(mnist_folder):
    from papershell.kernels import read_idx

    def images_and_labels(kind: str) -> tuple[np.ndarray, np.ndarray]:
        images, labels = (
            read_idx(next(mnist_folder.rglob(f"{kind}-{part}*"))) for part in ("images", "labels")
        )
        return images.reshape(len(images), -1), labels

    X, y = images_and_labels("train")
    X_test, y_test = images_and_labels("t10k")
    # The optimum has 9202 right; looser stopping leaves an image or two undecided.
    liblinear = fit_path(X, y, 1.0, loss="ovr", penalize_intercept=True, scale=1 / 255, tol=1e-8)
    assert liblinear.status[0] is Status.GRADIENT
    scores = X_test / 255 @ liblinear.coef[0].T + liblinear.intercept[0]
    assert (scores.argmax(axis=1) == y_test).sum() == 9202
    multinomial = fit_path(X, y, 1.0, scale=1 / 255)
    assert multinomial.status[0] is Status.PROVEN
    assert 13_927.06 <= multinomial.loss[0] <= 13_962.2  # the optimum; where scikit-learn's lbfgs stops
