"""The GPU comparison: ``python -m papershell.benchmarks.solver gpu``. Not yet run on a GPU.

Prints the products of every route with error and time, the parts of a pass, then 32 rates on MNIST, each to a
gradient of 1e-6, and what scikit-learn's and PyTorch's L-BFGS on the same device take for four of them.
Device times are medians between CUDA events; seconds of a fit are the host's. They take in the copy of X to the
device and of the answers from it; the peers find float32 pixels there.
Every gradient is taken again by plain float64 NumPy.

Expected beforehand, on an H200: 3 pieces at a third of the 790 TFLOP/s that one bfloat16 product reaches, 4 times
the speed of float32; a pass of 32 rates in 0.6 ms of the device, but 1 to 2 ms of the host's launches; so 0.5 s.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from papershell.benchmarks.mnist import print_goals
from papershell.benchmarks.solver import SCALE, load, torch_lbfgs
from papershell.kernels import available_backends, fit_path
from papershell.kernels.backends import is_available
from papershell.kernels.logreg.problem import Problem, Samples

RATES = np.logspace(-1, 4, 32)
GRADIENT = 1e-6
ASKED_MS, AIM_MS = 500.0, 50.0


def main() -> None:
    """Run the comparison on the GPU, or say that there is none."""
    os.environ["SCIPY_ARRAY_API"] = "1"  # before SciPy is loaded: scikit-learn takes device arrays only then
    if not is_available("torch"):
        raise SystemExit(f"no GPU comparison without PyTorch: {available_backends()['torch']}")
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("PyTorch sees no CUDA device here; run this on a machine with a GPU and its driver")
    for name, line in available_backends().items():
        print(f"  {name:12s} {line}")
    compare(*load("train"), "cuda")


def compare(X: np.ndarray, y: np.ndarray, device: str, rates: np.ndarray = RATES) -> None:
    """Print the whole comparison for bytes ``X`` (N, P) and labels ``y`` (N,) on ``device``, cuda or cpu."""
    import torch

    products(X, y, device, rates.size)
    seconds = min(fits(X, y, rates, name) for name in ("torch", "cupy") if is_available(name))
    goals = [
        (f"{ms:.0f} ms over papershell, {rates.size} rates", ms / 1e3 / seconds, 1)
        for ms in (ASKED_MS, AIM_MS)
    ]
    chosen = rates[:: max(1, rates.size // 4)]
    data = torch.tensor(X, device=device).float() * SCALE, torch.tensor(y, device=device)
    peers: dict[str, Callable[..., Any]] = {"scikit-learn lbfgs": sklearn_lbfgs, "PyTorch LBFGS": torch_lbfgs}
    for name, call in peers.items():
        if total := peer(X, y, chosen, name, partial(call, *data, device=device)):
            goals.append((f"{name}, {chosen.size} rates, over papershell, all", total / seconds, 1))
    print_goals(goals)


def device_ms(call: Callable[[], Any], device: str, rounds: int = 20) -> float:
    """Return the median milliseconds of ``call`` on ``device``."""
    import torch

    found = []
    for _ in range(rounds + 3):
        if device == "cuda":
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            call()
            last.record()
            last.synchronize()
            found.append(first.elapsed_time(last))
        else:
            start = time.perf_counter()
            call()
            found.append(1e3 * (time.perf_counter() - start))
    return median(found[3:])


def products(X: np.ndarray, y: np.ndarray, device: str, R: int) -> None:
    """Print error and time of X times the weights of ``R`` rates and of its transpose, for every route."""
    import torch

    from papershell.kernels.logreg.on_torch_cuda import BytesEngine, FloatsEngine

    K = int(y.max()) + 1
    samples = Samples(X, y, np.ones((1, len(y))), K, 1.0, True)
    engine, floats = BytesEngine(samples, device), FloatsEngine(samples, device)
    rng = np.random.default_rng(0)
    W = 0.1 * torch.tensor(rng.standard_normal((K * R, X.shape[1])), device=device)
    D = 0.1 * torch.tensor(rng.standard_normal((K * R, len(y))), device=device)
    theta = 1e-3 * torch.tensor(rng.standard_normal((R, K, X.shape[1] + 1)), device=device)
    wide = floats.X.double()
    exact = wide @ W.T, D @ wide
    flops = 2 * W.numel() * len(y)
    print(
        f"  bytes {X.shape} times {W.shape[0]} columns, and the transpose: ms, Tflop/s, error of the largest"
    )
    routes = [(floats, 0), (engine, 0), (engine, 1), (floats, 1)]
    for route, precision in routes:
        right, left = route.operand(W, precision), route.operand(D, precision)
        rows = engine.X if route is engine else wide.to(right.dtype)
        name = route.precisions[precision].product
        line = f"    {f'bfloat16, {name} slices' if route is engine else name!s:20s}"
        for A, B, truth in ((right, rows.T, exact[0].T), (left, rows, exact[1])):
            ms = device_ms(partial(route.matmul, A, B), device)
            error = float((route.joined_slices(route.matmul(A, B).double(), len(W)) - truth).abs().max())
            line += f" {ms:8.3f} {flops / ms / 1e9:7.1f} {error / float(truth.abs().max()):8.1e} "
        print(line)
    numbers = list(range(R))
    for number in numbers:
        engine.work_on(number, Problem(0, None, np.ones(X.shape[1] + 1), np.ones(K), 1.0, 1.0))
    for precision, each in enumerate(engine.precisions):

        def whole(precision: int = precision) -> None:
            engine.set_direction(numbers, theta, precision)
            engine.gradient(numbers, np.ones(R), precision)

        engine.set_logits(numbers, theta, precision)
        print(
            f"    whole pass of {R} rates, {each.product} slices or type: {device_ms(whole, device):.3f} ms"
        )


def fits(X: np.ndarray, y: np.ndarray, rates: np.ndarray, backend: str) -> float:
    """Print what all rates take on ``backend`` and reach; return the seconds, after a first call."""
    found, passes = [], []
    for _ in range(6):
        start = time.perf_counter()
        path = fit_path(
            X, y, rates, scale=SCALE, tol=GRADIENT, backend=backend, callback=lambda *c: passes.append(c[0])
        )
        found.append(time.perf_counter() - start)
    reached = max(map(partial(gradient, X * SCALE, y), path.coef, path.intercept, rates))
    seconds = median(found[1:])
    print(
        f"  papershell on {backend}, {rates.size} rates: {1e3 * seconds:.0f} ms after a first call of {found[0]:.1f} s,"
        f" {passes[-1]} passes, largest gradient {reached:.1e}, {sorted({s.name for s in path.status})}"
    )
    return seconds


def gradient(pixels: np.ndarray, y: np.ndarray, coef: np.ndarray, intercept: np.ndarray, l2: float) -> float:
    """Return max |gradient| of the mean multinomial objective, in plain float64 NumPy."""
    p = np.exp((Z := pixels @ coef.T + intercept) - Z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(y)), y] -= 1.0
    return max(np.abs(p.T @ pixels + l2 * coef).max(), np.abs(p.sum(axis=0)).max()) / len(y)


def peer(X: np.ndarray, y: np.ndarray, rates: np.ndarray, name: str, call: Callable[[float], Any]) -> float:
    """Print what ``call`` takes for each rate and reaches; return the seconds of all after a first call, or zero."""
    total = 0.0
    try:
        call(rates[-1])
        for l2 in rates:
            start = time.perf_counter()
            coef, intercept = call(l2)
            total += (seconds := time.perf_counter() - start)
            reached = gradient(X * SCALE, y, coef, intercept, l2)
            print(f"  {name}, l2={l2:<8.3g}: {seconds:6.2f} s, gradient {reached:.1e}", flush=True)
    except Exception as error:  # a peer that this machine's versions cannot run is part of the answer
        print(f"  {name} did not run: {type(error).__name__}: {error}")
        return 0.0
    return total


def sklearn_lbfgs(X: Any, y: Any, l2: float, device: str) -> tuple[np.ndarray, np.ndarray]:
    """Fit scikit-learn's estimator to float32 tensors ``X`` (N, P) and ``y`` (N,) that are on ``device``."""
    import sklearn
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings(), sklearn.config_context(array_api_dispatch=True):
        warnings.simplefilter("ignore")
        model = LogisticRegression(C=1 / l2, tol=GRADIENT, max_iter=1000).fit(X, y)
        return tuple(part.double().cpu().numpy() for part in (model.coef_, model.intercept_))
