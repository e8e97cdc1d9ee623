"""The products with X: digits of fixed point, exact integer products, and passes at every grade."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from papershell.kernels import BackendError, available_backends
from papershell.kernels.backends import is_available
from papershell.kernels.logreg.coordinates import draw
from papershell.kernels.logreg.products import (
    LARGEST_INTEGER_SUM,
    Samples,
    add_up,
    join_digits,
    largest_fixed_point,
    split_digits,
)
from papershell.kernels.logreg.reference import Engine as ReferenceEngine

FLOAT32, FLOAT64 = 2.0**-24, 2.0**-53  # halves of a unit in the last place
MATRICES = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 8), st.integers(1, 5)),
    elements=st.floats(-1e12, 1e12) | st.floats(-1e-9, 1e-9) | st.floats(-1e-300, 1e-300),
)


@pytest.fixture
def torch_engine():
    """The engine of exact integer products, where this processor has them."""
    if not is_available("torch"):
        pytest.skip(available_backends()["torch"])
    from papershell.kernels.logreg import on_torch

    if not on_torch.integer_products_are_exact():
        pytest.skip("no exact integer products: this processor has neither VNNI nor AMX")
    return on_torch


@given(W=MATRICES, pieces=st.integers(1, 6))
@example(W=np.zeros((3, 2)), pieces=3)
@example(W=np.array([[1.0], [-1.0]]), pieces=6)
def test_digits_round_trip_to_half_a_unit(W, pieces):
    digits, unit = split_digits(W, pieces)
    P, C = W.shape
    assert digits.dtype == np.int8 and digits.shape == (P, pieces * C)
    assert unit.shape == (C,) and (unit > 0).all()
    joined = join_digits(digits, pieces)
    assert np.abs(joined).max() <= largest_fixed_point(pieces)
    half = 0.5 + FLOAT64 * 2 * np.abs(joined)  # the quotient W / unit is itself rounded
    assert (np.abs(joined - W / unit) <= half).all()


@given(q=st.integers(), pieces=st.integers(1, 6))
def test_the_largest_fixed_point_is_all_digits_at_their_largest(q, pieces):
    largest = largest_fixed_point(pieces)
    assert largest == sum(127 * 256**s for s in range(pieces))
    q = q % (2 * largest + 1) - largest
    digits, unit = split_digits(np.array([[q], [largest]], np.float64), pieces)
    assert unit[0] == 1.0 and join_digits(digits, pieces)[0, 0] == q
    assert sum(int(d) * 256**s for s, d in enumerate(reversed(digits[0]))) == q


@given(
    curvature=arrays.arrays(np.float64, st.integers(1, 60), elements=st.just(0.0) | st.floats(1e-6, 1e6)),
    count=st.integers(1, 40),
)
def test_rows_are_drawn_in_proportion(curvature, count):
    curvature[-1] = max(curvature[-1], 1.0)
    drawn = draw(curvature, count)
    assert drawn.shape == (count,) and (np.diff(drawn) >= 0).all()
    assert (curvature[drawn] > 0).all()
    expected = curvature * (count / curvature.sum())
    assert (np.abs(np.bincount(drawn, minlength=len(curvature)) - expected) <= 1 + 1e-6).all()


def test_parts_are_added_member_by_member():
    assert add_up([(1, [2]), (3, [4]), (5, [6])]) == [9, [2, 4, 6]]


def samples(X: np.ndarray, *, K=3, loss="multinomial", scale=1 / 255, fit_intercept=True) -> Samples:
    n = len(X)
    weight = np.stack([np.ones(n), np.arange(n) % 3])
    return Samples(X, np.arange(n) % K, weight, K, loss, scale, fit_intercept)


def passes(engine, reference, theta: np.ndarray, fold: np.ndarray):
    """Yield of each grade its unit and the errors of loss and gradient relative to the sums' sizes."""
    exact, gradient = reference.loss_and_gradient(theta, fold, reference.grades[-1])
    for grade in engine.grades:
        if isinstance(grade.precision, str):
            unit = {"float32": FLOAT32, "float64": FLOAT64}[grade.precision]
        elif engine.X.dtype == np.uint8:
            unit = 0.5 / largest_fixed_point(grade.precision)
        else:  # bfloat16: a piece is 8 bits, and the last bit of a number may be lost to each of the float32 sums
            unit = 0.5 ** (8 * grade.precision)
        value, found = one_pass(engine, theta, fold, grade)
        yield grade, unit, np.abs(value - exact), np.abs(found - gradient)


def one_pass(engine, theta: np.ndarray, fold: np.ndarray, grade) -> list[np.ndarray]:
    """Return losses and gradients on the host."""
    return [engine.to_host(part) for part in engine.loss_and_gradient(engine.array(theta), fold, grade)]


BYTES = {
    "random": lambda rng, n, P: rng.integers(0, 256, (n, P)),
    "all 255": lambda rng, n, P: np.full((n, P), 255),
    "all zero": lambda rng, n, P: np.zeros((n, P)),
    "few bright": lambda rng, n, P: 255 * (rng.random((n, P)) < 0.02),
}


@settings(max_examples=25)
@given(
    n=st.integers(3, 90),
    P=st.integers(1, 70),
    A=st.sampled_from([1, 4, 9]),
    kind=st.sampled_from(list(BYTES)),
    loss=st.sampled_from(["multinomial", "ovr"]),
    fit_intercept=st.booleans(),
    magnitude=st.floats(1e-3, 3.0),
    seed=st.integers(0, 9),
)
@example(n=60, P=1, A=4, kind="random", loss="ovr", fit_intercept=True, magnitude=1.0, seed=0)
@example(n=90, P=64, A=9, kind="all 255", loss="multinomial", fit_intercept=True, magnitude=3.0, seed=0)
def test_every_grade_keeps_its_promise(n, P, A, kind, loss, fit_intercept, magnitude, seed):
    rng = np.random.default_rng(seed)
    data = samples(BYTES[kind](rng, n, P).astype(np.uint8), loss=loss, fit_intercept=fit_intercept)
    reference = ReferenceEngine(data)
    theta = magnitude * rng.normal(size=(A, 3, reference.width))
    for engine in engines(data):
        for grade, unit, of_value, of_gradient in passes(engine, reference, theta, np.arange(A) % 2):
            # A logit is P products with weights near the largest, each off by a unit; a row weighs up to 2.
            logit = unit * (P + 1) * np.abs(theta).max()
            assert (of_value <= 2 * n * 3 * (logit + FLOAT64 * 100)).all(), grade
            assert (of_gradient <= 2 * n * (logit + unit * n)).all(), grade


def engines(data: Samples):
    """Yield the engines of this host, but for the reference."""
    from papershell.kernels.logreg import on_numba

    yield on_numba.Engine(data)
    if is_available("torch"):
        from papershell.kernels.logreg import on_torch, on_torch_cuda

        yield on_torch_cuda.FloatsEngine(data, device="cpu")
        yield on_torch_cuda.BytesEngine(data, device="cpu")
        if on_torch.integer_products_are_exact():
            yield on_torch.IntegerEngine(data)


def test_digits_are_float64_and_float32_grade(torch_engine):
    """Six digits see what float64 sees, three what float32 does, on a problem of ordinary size."""
    rng = np.random.default_rng(0)
    data = samples(rng.integers(0, 256, (500, 123), dtype=np.uint8))
    theta = 0.3 * rng.normal(size=(2, 3, 124))
    reference = ReferenceEngine(data)
    engine = torch_engine.IntegerEngine(data)
    errors = {
        grade.precision: of_gradient.max() / data.weight.sum(axis=1).min()
        for grade, _, _, of_gradient in passes(engine, reference, theta, np.array([0, 1]))
    }
    assert errors[6] < 1e-12 and errors[3] < 1e-6 < errors[2] < 1e-2


def test_blocks_of_rows_add_up_to_the_whole(monkeypatch):
    rng = np.random.default_rng(0)
    data = samples(rng.integers(0, 256, (2000, 20), dtype=np.uint8))
    theta = rng.normal(size=(2, 3, 21))
    fold = np.array([0, 1])
    for engine in engines(data):
        whole = one_pass(engine, theta, fold, engine.grades[-1])
        monkeypatch.setattr(type(engine), "block_bytes", 1)
        blocks = engine.blocks(1)
        assert len(blocks) > 4 and sum(len(range(2000)[block]) for block in blocks) == 2000
        parts = one_pass(engine, theta, fold, engine.grades[-1])
        for a, b in zip(whole, parts, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=2000 * 2000 * FLOAT64)
        monkeypatch.undo()


@pytest.mark.parametrize(
    ("n", "P"),
    [(n, P) for n in (1, 7, 100) for P in (1, 2, 16, 33, 128, 300)]
    + [(LARGEST_INTEGER_SUM, 3), (LARGEST_INTEGER_SUM + 1, 1), (2 * LARGEST_INTEGER_SUM + 5, 3)],
)
def test_the_integer_gram_matrix_is_exact(torch_engine, n, P):
    rng = np.random.default_rng(n + P)
    for X in (rng.integers(0, 256, (n, P), dtype=np.uint8), np.full((n, P), 255, np.uint8)):
        wide = X.astype(np.int64)
        np.testing.assert_array_equal(torch_engine.integer_gram(X), wide.T @ wide)


@pytest.mark.skipif(not is_available("torch"), reason=available_backends()["torch"])
def test_a_processor_without_integer_products_refuses_them(monkeypatch):
    from papershell.kernels.logreg import on_torch

    monkeypatch.setattr(on_torch, "integer_products_are_exact", lambda: False)
    with pytest.raises(BackendError, match="no fast exact byte products"):
        on_torch.integer_gram(np.zeros((2, 2), np.uint8))
