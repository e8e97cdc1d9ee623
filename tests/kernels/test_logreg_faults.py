"""Hard and bad input of `fit_path`: solved to a stated gradient or refused in one sentence, never silently wrong."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from papershell.kernels import BackendError, Status, fit_path
from papershell.kernels.logreg import preconditioner
from papershell.kernels.logreg.path import Settings
from tests.kernels.logreg_reference import (
    ITERATION_UNIT,
    ON_HOST,
    assert_same_optimum,
    blobs,
    check,
    in_bytes,
)

RATES = [0.0, 1e-3, 1.0]
X, Y = blobs()
WIDE, WIDE_Y = blobs(40, preconditioner.Settings().largest_gram + 10, 2, seed=1)
MANY, MANY_Y = blobs(600, 8, 200, seed=2)
SCALES = np.repeat([1.0, 1e8, 1e-8], (4, 3, 3))
SEPARABLE = np.c_[0.01 * X, 5 * np.eye(3)[Y]]
FEW, FEW_Y = blobs(20, 60)
LOUD, LOUD_Y = blobs(6, 60, 2, seed=11)

HARD = {
    "separable": (SEPARABLE, Y, [0.0], {}),
    "one column separates": (np.array([[-1.0], [1.0], [-2.0], [2.0]]), np.array([0, 1, 0, 1]), [0.0], {}),
    "constant and duplicate columns": (np.c_[X, X[:, :2], np.ones(len(X)), np.full(len(X), 7)], Y, RATES, {}),
    "nothing but zeros": (np.zeros((6, 3)), np.arange(6) % 2, RATES, {}),
    "columns of very different scale": (X * SCALES, Y, RATES, {}),
    "far from the origin": (X + 1e6, Y, [0.0, 1.0], {}),
    "more features than rows": (FEW, FEW_Y, RATES, {}),
    "large features, few rows": (1e3 * LOUD, LOUD_Y, [1e-5, 1e-3, 1e-2], {}),
    "features beyond the eigenvectors": (WIDE, WIDE_Y, [1e-3, 100.0], {}),
    "two rows": (np.array([[0.0, 1.0], [1.0, 3.0]]), np.array([0, 1]), RATES, {}),
    "200 classes": (MANY, MANY_Y, [1e-3, 1.0], {}),
    "extreme rates": (X, Y, [1e-12, 1e12], {}),
    "a class absent from a fold": (X, Y, RATES[1:], {"folds": np.stack([Y != 2, Y != 0, Y >= 0])}),
    "a fold of one class": (X, Y, [1.0], {"folds": np.stack([Y == 1, Y >= 0])}),
    "wildly varying weights": (
        X, Y, RATES[1:], {"sample_weight": 10.0 ** np.random.default_rng(3).uniform(-12, 12, len(Y))},
    ),
}  # fmt: skip


def solve(X, y, rates, *, backend, scale=1.0, tol=1e-6, **options):
    """Fit, check every rate against the reference, and return the solution."""
    solution = fit_path(X, y, rates, scale=scale, tol=tol, max_iter=300, backend=backend, **options)
    X = np.asarray(X, np.float64) * scale
    options.pop("settings", None)
    options["weight"] = options.pop("sample_weight", None)
    check(solution, X, y, rates, tol=tol, **options)
    return solution


# What float64 itself cannot resolve to the last digits.
UNRESOLVED = ("columns of very different scale", "far from the origin")
ENGINES = [(name, "floats") for name in ON_HOST] + [("torch", "bytes")] * ("torch" in ON_HOST)


@pytest.mark.parametrize("loss", ["multinomial", "ovr"])
@pytest.mark.parametrize(("backend", "kind"), ENGINES)
@pytest.mark.parametrize("case", HARD)
def test_hard_input_is_solved_or_its_status_says_so(case, backend, kind, loss):
    X, y, rates, options = HARD[case]
    X, scale = (X, 1.0) if kind == "floats" else (in_bytes(X), 1 / 255)
    solution = solve(X, y, rates, backend=backend, loss=loss, scale=scale, **options)
    if backend == "numpy" and case not in UNRESOLVED:
        assert all(status.reached for status in solution.status.ravel())


def test_features_that_tell_nothing_leave_the_shares_of_the_classes():
    y = np.repeat([0, 1, 2], (10, 20, 70))
    solution = fit_path(np.zeros((100, 2)), y, 1.0, tol=1e-9)
    expected = np.log([0.1, 0.2, 0.7])
    zeros = np.zeros((3, 2))
    assert_same_optimum((solution.coef[0], solution.intercept[0]), (zeros, expected), 1.0, 100, 1e-9)
    shares = np.exp(solution.intercept[0]) / np.exp(solution.intercept[0]).sum()
    np.testing.assert_allclose(shares, np.exp(expected), rtol=0, atol=2e-9)  # their error is the gradient
    assert not solution.coef.any()


LAYOUTS = {
    "Fortran order": np.asfortranarray,
    "every other column of a wider array": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "rows backwards": lambda X: X[::-1].copy()[::-1],
    "read-only": lambda X: np.frombuffer(X.tobytes(), X.dtype).reshape(X.shape),
    "nested lists": lambda X: X.tolist(),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int32", "uint8", "bool"])
@pytest.mark.parametrize("backend", ON_HOST)
def test_any_layout_of_any_real_type_is_the_same_data(backend, dtype):
    values = (X > 0 if dtype == "bool" else in_bytes(X) // 16).astype(dtype)
    expected = solve(values, Y, [1.0], backend=backend, tol=1e-4)
    for name, layout in LAYOUTS.items():
        if name != "nested lists" or dtype != "float32":  # a list has forgotten that it was float32
            solution = solve(layout(values), Y, [1.0], backend=backend, tol=1e-4)
            points = [(s.coef[0], s.intercept[0]) for s in (solution, expected)]
            assert_same_optimum(*points, 1.0, len(Y), 1e-4)
    assert values.dtype == dtype


def test_the_arrays_of_the_caller_stay_as_they_were():
    given = {"X": X.copy(), "y": Y.copy(), "sample_weight": np.ones(len(Y)), "folds": np.ones((2, len(Y)))}
    kept = {name: array.copy() for name, array in given.items()}
    fit_path(**given, l2=RATES)
    for name, array in given.items():
        np.testing.assert_array_equal(array, kept[name], err_msg=name)


SMALL = {
    "few rows": {
        "gram_rows": 64,
        "candidate_rows": 80,
        "leading": 6,
        "drawn_rows": 48,
        "drawn_for_class": 24,
    },
    "by class": {"largest_dense": 1},
    "by class, few coordinates": {"largest_dense": 1, "leading": 4},
    "coupled, few coordinates": {"leading": 4},
    "few eigenvectors": {"leading": 4, "largest_gram": 5},
}


@pytest.mark.parametrize("case", SMALL)
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("backend", ON_HOST)
def test_a_poor_preconditioner_changes_no_answer(backend, fit_intercept, case):
    """Samples of a few dozen rows, few coordinates, classes apart: every form, where each branch is cheap."""
    sizes = preconditioner.Settings(drawn_products=0, **SMALL[case])
    for values, scale in ((X, 1.0), (in_bytes(X), 1 / 255)):
        for loss in ("multinomial", "ovr"):
            solution = solve(
                values, Y, RATES[1:], backend=backend, scale=scale, loss=loss, fit_intercept=fit_intercept,
                settings=Settings(preconditioner=sizes),
            )  # fmt: skip
            assert all(status.reached for status in solution.status)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("backend", ON_HOST)
def test_folds_of_which_the_preconditioner_sees_every_kth_row_or_none(backend):
    """Every k-th row is how folds are often made; one row of weight is what chance seldom takes."""
    settings = Settings(
        preconditioner=preconditioner.Settings(candidate_rows=40, drawn_rows=8, drawn_products=0)
    )
    n, k = len(Y), len(Y) // 40
    folds = np.arange(n) % k == np.arange(k)[:, None]
    folds = np.vstack([folds, np.isin(np.arange(n), [0, 1])])
    solution = fit_path(X, Y, 1.0, tol=1e-4, backend=backend, folds=folds, settings=settings)
    assert all(status.reached for status in solution.status.ravel())
    check(solution, X, Y, 1.0, tol=1e-4, folds=folds)


@pytest.mark.parametrize("backend", ON_HOST)
def test_separable_classes_without_a_penalty_have_no_optimum(backend):
    for X, y in ((SEPARABLE, Y), (np.array([[-1.0], [1.0], [-2.0], [2.0]]), np.array([0, 1, 0, 1]))):
        for loss in ("multinomial", "ovr"):
            solution = fit_path(X, y, [0.0, 1.0], loss=loss, backend=backend)
            assert solution.status.tolist() == [Status.NO_OPTIMUM, Status.PROVEN]
    assert fit_path(*blobs(spread=4.0), 0.0, backend=backend).status[0] is Status.GRADIENT


@pytest.mark.parametrize("loss", ["multinomial", "ovr"])
@pytest.mark.parametrize("backend", ON_HOST)
def test_badly_scaled_features_need_no_company_to_be_solved(backend, loss):
    """A constant column of 1e8 once made the answer depend on the other rates."""
    A = np.c_[X, np.full(len(X), 1e8), 1e-6 * X[:, :1], 1e4 + X[:, 1:2]]
    together = fit_path(A, Y, [0.1, 10.0, 1000.0], loss=loss, backend=backend)
    for r, rate in enumerate([0.1, 10.0, 1000.0]):
        alone = fit_path(A, Y, rate, loss=loss, backend=backend)
        assert alone.status[0] is Status.PROVEN and together.status[r] is Status.PROVEN
        np.testing.assert_allclose(together.loss[r], alone.loss[0], rtol=ITERATION_UNIT)
        assert together.n_iter[r] == alone.n_iter[0]


@pytest.mark.parametrize("backend", [*ON_HOST, "auto"])
def test_huge_features_are_solved_or_refused(backend):
    """Squares of 1e50 are beyond float32, those of 1e200 beyond float64: the coefficients were NaN."""
    usual, huge = fit_path(X, Y, 1.0, backend=backend), fit_path(X * 1e50, Y, 1e100, backend=backend)
    assert huge.status[0] is Status.PROVEN
    np.testing.assert_allclose(huge.loss, usual.loss, rtol=2e-4)  # both are proven to 1e-4
    for features, options in (
        (X * 1e200, {}),
        (X * 1e50, {"fit_intercept": True, "penalize_intercept": True}),
    ):
        with pytest.raises(ValueError, match=r"X holds numbers up to .*; divide the features"):
            fit_path(features, Y, 1.0, backend=backend, **options)


@pytest.mark.parametrize("backend", ON_HOST)
def test_softmax_coefficients_sum_to_zero_over_the_classes(backend):
    """A common shift of all classes changes nothing but the penalty."""
    start = fit_path(X, Y, RATES[1:], tol=1e-2, backend=backend)
    shifted = replace(start, coef=start.coef + 3.0, intercept=start.intercept - 2.0)
    for warm_start in (None, shifted):
        solution = fit_path(X, Y, RATES[1:], backend=backend, warm_start=warm_start)
        largest = np.abs(solution.coef).max()
        assert np.abs(solution.coef.sum(axis=1)).max() <= 1e-12 * largest
        assert np.abs(solution.intercept.sum(axis=1)).max() <= 1e-12 * max(
            1.0, np.abs(solution.intercept).max()
        )


def changed(array: np.ndarray, value) -> np.ndarray:
    """Return a copy of ``array`` with ``value`` in its row 3."""
    array = array.astype(np.result_type(array, type(value)) if isinstance(value, float) else array.dtype)
    array[3] = value
    return array


BAD = {
    "rates that are words": ({"l2": ["a"]}, "l2 must be a number or a list of rates, got"),
    "sparse features": ({"X": csr_matrix(X)}, "X is sparse; pass a dense array"),
    "negative tol": ({"tol": -1.0}, "tol must be >= 0, got -1.0"),
    "tol not a number": ({"tol": float("nan")}, "tol must be >= 0, got nan"),
    "a gap that is negative": ({"gap": -1.0}, "gap must be >= 0, got -1.0"),
    "negative max_iter": ({"max_iter": -1}, "max_iter must be >= 0, got -1"),
    "fewer labels than rows": ({"y": Y[:-1]}, "X has 200 samples but y has shape .199,."),
    "labels in a column": ({"y": Y[:, None]}, "y has shape .200, 1.; pass one label a sample"),
    "a negative label": ({"y": changed(Y, -1)}, "integer labels 0..K-1"),
    "float labels": ({"y": Y.astype(float)}, "integer labels 0..K-1"),
    "labels that are strings": ({"y": Y.astype(str)}, "integer labels 0..K-1; map others"),
    "a gap in the labels": ({"y": np.where(Y == 1, 3, Y)}, "no sample has label 1 though label 3 occurs"),
    "a huge label": ({"y": changed(Y, 2**62)}, "no sample has label 3 though label 4611686018427387904"),
    "one class": ({"y": np.zeros(200, int)}, "one class only"),
    "NaN": ({"X": changed(X, np.nan)}, "NaN or infinity in 1 rows, the first is row 3"),
    "infinity": ({"X": changed(X, -np.inf)}, "NaN or infinity in 1 rows, the first is row 3"),
    "one row as a vector": ({"X": X[0]}, "X must be .samples, features.*got shape .10,."),
    "images not yet flat": ({"X": X[:, None]}, "X must be .samples, features.*got shape .200, 1, 10."),
    "no features": ({"X": X[:, :0]}, "at least one of each"),
    "no rows": ({"X": X[:0], "y": Y[:0]}, "at least one of each"),
    "complex features": ({"X": X + 0j}, "elements of type complex128"),
    "features that are strings": ({"X": X.astype(str)}, "pass bytes or real numbers"),
    "a negative rate": ({"l2": [1.0, -0.5]}, "l2 holds -0.5; a rate is a finite number >= 0"),
    "a rate that is NaN": ({"l2": np.nan}, "l2 holds nan"),
    "an infinite rate": ({"l2": [np.inf]}, "l2 holds inf"),
    "no rates": ({"l2": []}, "l2 must be a number or a list of rates, got shape .0,."),
    "a table of rates": ({"l2": np.ones((2, 2))}, "got shape .2, 2."),
    "too few weights": ({"sample_weight": np.ones(7)}, "sample_weight has shape .7,. but X has 200"),
    "a negative weight": ({"sample_weight": changed(np.ones(200), -1.0)}, "finite, >= 0 and not all zero"),
    "a weight that is NaN": ({"sample_weight": changed(np.ones(200), np.nan)}, "finite, >= 0"),
    "weights of zero": ({"sample_weight": np.zeros(200)}, "not all zero"),
    "one mask as a vector": ({"folds": np.ones(200)}, "folds must be masks of shape .folds, 200., got .200,."),
    "masks of other rows": ({"folds": np.ones((2, 7))}, "got .2, 7."),
    "no folds": ({"folds": np.ones((0, 200))}, "got .0, 200."),
    "an empty fold": ({"folds": np.eye(2)[:, [0] * 200]}, "fold 1 has no sample"),
    "a negative fold": ({"folds": -np.ones((1, 200))}, "fold 0 has no sample, or weights that"),
    "a fold whose rows weigh nothing": (
        {"folds": np.stack([Y == 0, Y > 0]), "sample_weight": (Y > 0).astype(float)}, "fold 0 has no sample",
    ),
    "an unknown loss": ({"loss": "hinge"}, "unknown loss 'hinge'; choose one of multinomial, ovr"),
    "a scale that is NaN": ({"scale": np.nan}, "scale is nan; it must be a finite number"),
    "a warm start of other rates": (
        {"warm_start": fit_path(X, Y, [1.0, 2.0], tol=1.0)}, "warm_start has coefficients of shape .2, 3, 10.",
    ),
    "a warm start of other features": (
        {"warm_start": fit_path(X[:, :5], Y, [1.0, 2.0], tol=1.0)}, "same rates and data",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_sentence(case):
    changes, message = BAD[case]
    with pytest.raises(ValueError, match=message) as caught:
        fit_path(**({"X": X, "y": Y, "l2": 1.0} | changes))
    assert "\n" not in str(caught.value)


def test_an_unknown_back_end_lists_the_known():
    with pytest.raises(BackendError, match="unknown back end 'abacus'; choose one of auto, numpy, numba"):
        fit_path(X, Y, 1.0, backend="abacus")


LARGER_THAN_MEMORY = """
import resource, sys
import numpy as np
from papershell.kernels import fit_path, map_idx

def data_bytes():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmData"))

X, y = map_idx("X.idx"), np.arange(1_000_000) % 2
fit_path(X[:50_000], y[:50_000], 1.0, scale=1 / 255, backend=sys.argv[1])
resource.setrlimit(resource.RLIMIT_DATA, (data_bytes() + X.nbytes * 2 // 3, -1))
try:
    np.empty(X.nbytes, np.uint8)
except MemoryError:
    print("X does not fit")
print(fit_path(X, y, 1.0, scale=1 / 255, backend=sys.argv[1], max_iter=3, tol=1e-6).n_iter[0] > 0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts an array's memory on Linux only")
@pytest.mark.parametrize("backend", [name for name in ON_HOST if name != "numpy"])
def test_mapped_bytes_that_memory_cannot_hold_are_fitted(backend, tmp_path):
    with open(tmp_path / "X.idx", "wb") as file:  # the rows behind the first are a hole in the file: zeros
        file.write(struct.pack(">HBB2I", 0, 0x08, 2, 1_000_000, 300))
        file.write(np.random.default_rng(0).integers(0, 256, (5_000, 300), dtype=np.uint8).tobytes())
        file.truncate(12 + 1_000_000 * 300)
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", LARGER_THAN_MEMORY, backend],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.stdout.split("\n")[:2], done.stderr) == (["X does not fit", "True"], "")
