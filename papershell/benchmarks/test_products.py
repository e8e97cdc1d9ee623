"""The solver's arithmetic on MNIST: products with bytes, Gram matrix, residual, and one pass of them all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from papershell.benchmarks.case import Case, Work, against
from papershell.benchmarks.measure import Measure, device_of, need
from papershell.kernels import backends
from papershell.kernels.logreg import on_bytes, vnni
from papershell.kernels.logreg.engine import FLOAT32, FLOAT64, Engine, Kept
from papershell.kernels.logreg.losses import loss_and_residual
from papershell.kernels.logreg.problem import Problem, Samples

COLUMNS, CLASSES = 160, 10
NUMPY = "NumPy, float32 products"
SGEMM, ROUTES = "NumPy sgemm", {f"int8, {count} digits a weight": count for count in (2, 3, 4)}
EPS = float(np.finfo(np.float32).eps)
LOGIT_FLOPS = 40  # of the residual: 30 of exp, the rest of joining, shifting, summing, dividing
REST_S = 0.1  # longer than OpenBLAS's threads spin after a call


def samples_of(X: np.ndarray, y: np.ndarray) -> Samples:
    """Bytes and labels as the engines take them."""
    return Samples(X, y, np.ones((1, len(X))), CLASSES, 1 / 255, True)


def engine_of(backend: str, samples: Samples) -> Engine:
    """The engine of a back end."""
    need(backend)
    return backends.implementation("logreg", backend).Engine(samples)


def product_routes(X: np.ndarray, W: np.ndarray, room: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Products of X (N, P) and W (P, C) by exact integer pieces, into ``room``: the routes that this machine has."""
    if not vnni.is_available():
        return {}
    samples = Samples(X, np.zeros(len(X), np.int64), np.ones((1, len(X))), 2, 1.0, False)
    engine, bias = on_bytes.Engine(samples, vnni), np.zeros(W.shape[1])

    def product(count: int) -> np.ndarray:
        engine.multiply(W, count, bias, [room])
        return room

    return {name: partial(product, count) for name, count in ROUTES.items()}


@pytest.mark.parametrize("case", [SGEMM, *ROUTES])
def test_product(measure: Measure, images: np.ndarray, case: str) -> None:
    W = np.random.default_rng(0).standard_normal((images.shape[1], COLUMNS)) * 0.1
    X32, W32 = images.astype(np.float32), W.astype(np.float32)
    room = np.empty((len(images), COLUMNS), np.float32)
    calls: dict[str, Callable[[], Any]] = {SGEMM: lambda: np.matmul(X32, W32, out=room)}
    if case in ROUTES:
        calls |= product_routes(images, W, room)
    if case not in calls:
        pytest.skip("this processor has no AVX-512 with VNNI")
    pieces = ROUTES.get(case, 1)
    work = Work(images.nbytes + len(images) * COLUMNS * 4, 2 * images.size * COLUMNS * pieces,
                "GEMM, int8" if case in ROUTES else "GEMM, float32")  # fmt: skip
    measure(
        Case.among(
            calls, case, group="product of bytes (60000, 784) and weights (784, 160)", error=against(images @ W),
            tolerance=1e-4 if pieces == 2 else 28 * EPS, dtype="float32", work=work, rest_s=REST_S,
        )
    )  # fmt: skip


@pytest.mark.parametrize("case", ["NumPy ssyrk", "vnni.gram"])
def test_gram(measure: Measure, images: np.ndarray, case: str) -> None:
    """Operations are those of half of the symmetric result with its diagonal, N P (P + 1)."""
    X32, X = images.astype(np.float32), images.astype(np.float64)
    calls: dict[str, Callable[[], Any]] = {"NumPy ssyrk": lambda: X32.T @ X32}
    ceiling, dtype = "GEMM, float32", "float32"
    if case == "vnni.gram":
        if not vnni.is_available():
            pytest.skip("this processor has no AVX-512 with VNNI")
        calls[case] = lambda: vnni.gram(images)
        ceiling, dtype = "GEMM, int8", "float64"
    measure(
        Case.among(
            calls, case, group="Gram matrix of bytes (60000, 784)", error=against(X.T @ X),
            tolerance=0 if dtype == "float64" else len(X) ** 0.5 * EPS, dtype=dtype,
            work=Work(images.nbytes, images.size * (images.shape[1] + 1), ceiling), rest_s=REST_S,
        )
    )  # fmt: skip


@pytest.mark.parametrize("case", ["NumPy formulas", "numba, fused"])
@pytest.mark.parametrize("rates", [1, 16])
def test_residual(measure: Measure, images: np.ndarray, labels: np.ndarray, case: str, rates: int) -> None:
    """Softmax, loss and residual of a block of logits that stays in the cache."""
    rows = 32_000 // rates
    samples = samples_of(images[:rows], labels[:rows])
    Z = np.random.default_rng(0).standard_normal((rates, rows, CLASSES)).astype(np.float32)
    fused, weight = engine_of("numba", samples), np.ones(rows)
    works = [Kept(samples.y, weight, z, np.zeros_like(z)) for z in Z]

    def formulas(dtype: type) -> np.ndarray:
        return np.stack([loss_and_residual(np, z.astype(dtype), samples.y, weight)[1] for z in Z])

    calls = {
        "NumPy formulas": lambda: formulas(np.float32),
        "numba, fused": lambda: np.stack([fused.residual(work, 0.0, slice(None))[1] for work in works]),
    }
    exact = formulas(np.float64)
    measure(
        Case.among(
            calls, case, group=f"residual of {rates} rate{'s' * (rates > 1)}", error=against(exact), tolerance=2 * EPS,
            dtype="float32", backend="numba" if "numba" in case else "numpy",
            work=Work(2 * Z.nbytes, LOGIT_FLOPS * Z.size, "GEMM, float64"),
        )
    )  # fmt: skip


@pytest.mark.parametrize("case", [NUMPY, "numba", "torch", "cupy"])
@pytest.mark.parametrize("rates", [1, 16])
def test_pass(measure: Measure, images: np.ndarray, labels: np.ndarray, case: str, rates: int) -> None:
    """One pass of the solver: losses and gradients of all rates, in single precision."""
    samples = samples_of(images, labels)
    theta = np.random.default_rng(0).standard_normal((rates, CLASSES, samples.width)) * 0.1
    problem, numbers = (
        Problem(0, None, np.ones(samples.width), np.ones(CLASSES), 1.0, 1.0),
        list(range(rates)),
    )

    def gradient(engine: Engine, precision: int) -> Callable[[], Any]:
        points = engine.array(theta)
        for number in numbers:
            engine.work_on(number, problem)

        def run() -> Any:
            with engine.limits():
                engine.set_logits(numbers, points, precision)
                return engine.gradient(numbers, np.zeros(rates), precision)[1]

        return run

    plain = Engine(samples, np)
    calls = {NUMPY: gradient(plain, plain.precisions.index(FLOAT32))}
    if case not in calls:
        engine = engine_of(case, samples)
        calls[case] = gradient(engine, len(engine.precisions) - 2)
    measure(
        Case.among(
            calls, case, group=f"one pass, {rates} rate{'s' * (rates > 1)}",
            error=against(gradient(Engine(samples, np), plain.precisions.index(FLOAT64))()),
            tolerance=28 * EPS, dtype="float32",
            backend="numpy" if case == NUMPY else case, device=device_of(case),
            work=Work(2 * images.nbytes, 4 * images.size * rates * CLASSES, "GEMM, float32"), rest_s=REST_S,
        )
    )  # fmt: skip
