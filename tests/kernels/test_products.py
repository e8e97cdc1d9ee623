"""The products with X: digits of fixed point, exact integer products, and passes at every precision."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from papershell.kernels import BackendError, available_backends
from papershell.kernels.backends import is_available
from papershell.kernels.logreg import on_bytes, on_cpu, on_numba, vnni
from papershell.kernels.logreg.engine import add_up
from papershell.kernels.logreg.preconditioner import draw
from papershell.kernels.logreg.problem import Problem, Samples
from papershell.kernels.logreg.products import (
    LARGEST_INTEGER_SUM,
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


def byte_products() -> list[ModuleType]:
    """The modules of exact products of bytes that this processor and what is installed have."""
    found: list[ModuleType] = [vnni] if vnni.is_available() else []
    if is_available("torch"):
        from papershell.kernels.logreg import onednn

        found += [onednn] if onednn.is_available() else []
    return found


@pytest.fixture(params=["vnni", "onednn"])
def exact(request) -> ModuleType:
    """A module of exact products of bytes."""
    for module in byte_products():
        if module.__name__.endswith(request.param):
            return module
    pytest.skip(f"{request.param}: no exact integer products here")


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


def samples(X: np.ndarray, *, K=3, scale=1 / 255, fit_intercept=True) -> Samples:
    n = len(X)
    weight = np.stack([np.ones(n), np.arange(n) % 3])
    return Samples(X, np.arange(n) % K, weight, K, scale, fit_intercept)


def one_pass(engine, theta: np.ndarray, precision: int) -> tuple[np.ndarray, np.ndarray]:
    """Return losses (A,) and gradients (A, K, P + 1) of problems in both folds: softmax, or sigmoids of class 1."""
    K = theta.shape[1]
    for number in range(len(theta)):
        problem = Problem(number % 2, 1 if K == 1 else None, np.ones(1), np.ones(max(2, K)), 1.0, 1.0)
        engine.work_on(number, problem)
    numbers = list(range(len(theta)))
    engine.set_logits(numbers, engine.array(theta), precision)
    loss, gradient = engine.gradient(numbers, np.zeros(len(theta)), precision)
    return loss, engine.to_host(gradient)


def passes(engine, reference, theta: np.ndarray):
    """Yield of each precision its unit and the errors of loss and gradient relative to the sums' sizes."""
    exact, gradient = one_pass(reference, theta, 0)
    for number, precision in enumerate(engine.precisions):
        if isinstance(precision.product, str):
            unit = {"float32": FLOAT32, "float64": FLOAT64}[precision.product]
        elif engine.X.dtype == np.uint8:
            unit = 0.5 / largest_fixed_point(precision.product)
        else:  # bfloat16: a slice is 8 bits, and the last bit of a number may be lost to each of the float32 sums
            unit = 0.5 ** (8 * precision.product)
        value, found = one_pass(engine, theta, number)
        yield precision, unit, np.abs(value - exact), np.abs(found - gradient)


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
    K=st.sampled_from([1, 3]),
    fit_intercept=st.booleans(),
    magnitude=st.floats(1e-3, 3.0),
    seed=st.integers(0, 9),
)
@example(n=60, P=1, A=4, kind="random", K=1, fit_intercept=True, magnitude=1.0, seed=0)
@example(n=90, P=64, A=9, kind="all 255", K=3, fit_intercept=True, magnitude=3.0, seed=0)
def test_every_precision_keeps_its_promise(n, P, A, kind, K, fit_intercept, magnitude, seed):
    rng = np.random.default_rng(seed)
    data = samples(BYTES[kind](rng, n, P).astype(np.uint8), fit_intercept=fit_intercept)
    theta = magnitude * rng.normal(size=(A, K, data.width))
    reference = ReferenceEngine(data)
    for engine in engines(data):
        for precision, unit, of_value, of_gradient in passes(engine, reference, theta):
            # A logit is P products with weights near the largest, each off by a unit, and itself stored in the
            # precision's type; a row weighs up to 2.
            stored = np.finfo(precision.logits).eps * (P + 1) * np.abs(theta).max()
            logit = unit * (P + 1) * np.abs(theta).max() + stored
            assert (of_value <= 2 * n * 3 * (logit + FLOAT64 * 100)).all(), precision
            assert (of_gradient <= 2 * n * (logit + unit * n)).all(), precision


@pytest.mark.parametrize("K", [1, 3, 20])
def test_slopes_and_moments_are_derivatives_of_the_loss(K):
    """Against differences of the loss along the kept direction, and along the intercepts."""
    rng = np.random.default_rng(K)
    data = samples(rng.integers(0, 256, (300, 12), dtype=np.uint8), K=max(2, K))
    theta, direction = 0.3 * rng.normal(size=(2, 1, K, 13))
    h, shift = 1e-4, 0.1 * rng.normal(size=K)
    for engine in engines(data):
        last = len(engine.precisions) - 1
        low, middle, high = (one_pass(engine, theta + t * direction, last)[0][0] for t in (-h, 0.0, h))
        one_pass(engine, theta, last)
        engine.set_direction([0], engine.array(direction), last)
        first, second = engine.slopes([0], np.zeros(1))[0]
        assert first == pytest.approx((high - low) / (2 * h), rel=1e-5, abs=1e-5 * abs(middle))
        assert second == pytest.approx((high - 2 * middle + low) / h**2, rel=1e-3, abs=1e-3 * abs(middle))
        shifted = theta + np.pad(shift[None, :, None], ((0, 0), (0, 0), (12, 0)))
        value, gradient = one_pass(engine, shifted, last)
        one_pass(engine, theta, last)
        total, sums, curvature = engine.moments(0, shift)
        assert total == pytest.approx(value[0], rel=1e-9)
        np.testing.assert_allclose(sums, gradient[0, :, -1], rtol=1e-6, atol=1e-6)
        nearby = engine.moments(0, shift + h * np.eye(K)[0])[1]
        np.testing.assert_allclose(
            curvature[0], (nearby - sums) / h, rtol=1e-2, atol=1e-3 * abs(curvature).max()
        )


def engines(data: Samples):
    """Yield the engines of this host, but for the reference."""
    yield on_cpu.Engine(data)
    if is_available("torch"):
        from papershell.kernels.logreg import on_torch_cuda

        yield on_torch_cuda.FloatsEngine(data, device="cpu")
        yield on_torch_cuda.BytesEngine(data, device="cpu")
    for products in byte_products():
        yield on_bytes.Engine(data, products)


def test_digits_are_float64_and_float32_grade(exact):
    """Six digits see what float64 sees, three what float32 does, on a problem of ordinary size."""
    rng = np.random.default_rng(0)
    data = samples(rng.integers(0, 256, (500, 123), dtype=np.uint8))
    theta = 0.3 * rng.normal(size=(2, 3, 124))
    engine = on_bytes.Engine(data, exact)
    errors = {
        precision.product: of_gradient.max() / data.weight.sum(axis=1).min()
        for precision, _, _, of_gradient in passes(engine, ReferenceEngine(data), theta)
    }
    assert errors[6] < 1e-12 and errors[3] < 1e-6 < errors[2] < 1e-2


def test_blocks_of_rows_add_up_to_the_whole():
    rng = np.random.default_rng(0)
    data = samples(rng.integers(0, 256, (2000, 20), dtype=np.uint8))
    theta = rng.normal(size=(2, 3, 21))
    for engine in engines(data):
        last = len(engine.precisions) - 1
        whole = one_pass(engine, theta, last)
        engine.block_bytes = 1
        blocks = engine.blocks(1)
        assert len(blocks) > 4 and sum(len(range(2000)[block]) for block in blocks) == 2000
        for a, b in zip(whole, one_pass(engine, theta, last), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=2000 * 2000 * FLOAT64)


@pytest.mark.parametrize(
    ("n", "P"),
    [(n, P) for n in (1, 7, 100) for P in (1, 2, 16, 33, 128, 300)]
    + [(LARGEST_INTEGER_SUM, 3), (LARGEST_INTEGER_SUM + 1, 1), (2 * LARGEST_INTEGER_SUM + 5, 3)],
)
def test_the_gram_matrix_is_exact(exact, n, P):
    rng = np.random.default_rng(n + P)
    for X in (rng.integers(0, 256, (n, P), dtype=np.uint8), np.full((n, P), 255, np.uint8)):
        wide = X.astype(np.int64)
        np.testing.assert_array_equal(exact.gram(X), wide.T @ wide)


@given(
    n=st.integers(1, 70) | st.sampled_from([255, 256, 257, 600]),
    P=st.integers(1, 70) | st.sampled_from([784]),
    C=st.integers(1, 70) | st.sampled_from([320]),
    kind=st.sampled_from(list(BYTES)),
    extreme=st.booleans(),
    seed=st.integers(0, 9),
)
@example(n=8, P=5, C=24, kind="all 255", extreme=True, seed=0)
@example(n=1, P=1, C=1, kind="random", extreme=False, seed=0)
def test_products_of_bytes_are_exact(n, P, C, kind, extreme, seed):
    """Also in the last rows of an array, whose features do not fill a word."""
    rng = np.random.default_rng(seed)
    X = BYTES[kind](rng, n, P).astype(np.uint8)
    W, D = (rng.integers(-128, -127 if extreme else 128, (size, C), np.int8) for size in (P, n))
    for products in byte_products():
        out = np.empty((n, products.columns(C)), np.int32)
        products.product(X, products.pack(W), out)
        np.testing.assert_array_equal(out[:, :C], X.astype(np.int64) @ W)
        sums = products.Sums(P, C, n)
        sums.digits[:, :C] = D
        for _ in range(2):
            sums.add(X)
        np.testing.assert_array_equal(sums.total(), 2 * (X.T.astype(np.int64) @ D))


@pytest.mark.skipif(not is_available("torch"), reason=available_backends()["torch"])
def test_a_processor_without_integer_products_refuses_them(monkeypatch):
    from papershell.kernels.logreg import onednn

    monkeypatch.setattr(onednn, "is_available", lambda: False)
    with pytest.raises(BackendError, match="no fast exact byte products"):
        onednn.gram(np.zeros((2, 2), np.uint8))


def test_a_processor_without_vnni_multiplies_floats(monkeypatch):
    data = samples(np.zeros((9, 4), np.uint8))
    monkeypatch.setattr(vnni, "is_available", lambda: False)
    assert isinstance(on_numba.Engine(data).precisions[0].product, str)
    monkeypatch.setattr(vnni, "is_available", lambda: True)
    assert isinstance(on_numba.Engine(data).precisions[0].product, int)
    assert isinstance(on_numba.Engine(samples(np.zeros((9, 4)))).precisions[0].product, str)
