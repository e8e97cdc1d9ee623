"""An epoch of the Keras walk-through's network on MNIST, at batch 50.

Expected beforehand: an epoch is 68 GFLOP, 0.3 s of two cores; beyond that `fit` pays for the return to Python at
each step. Several steps a call save most of it, the whole epoch in one loop the rest.

Found on 2 cores (AMD EPYC, AVX-512), others at work beside it: `fit` 2.3 s, at its best 0.95, ours 0.64; in quiet
moments single epochs of ours take 0.32 to 0.48.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from papershell.benchmarks.case import Case, Work
from papershell.benchmarks.measure import Measure
from papershell.kernels import normalize
from papershell.trainers import keras_mnist

BATCH, CHECKED_STEPS = 50, 40  # the more steps, the more rounding grows
FLOPS_AN_IMAGE = 2 * (2 * 784 * 300 + 3 * (300 * 100 + 100 * 10))  # the pixels need no gradient
TOLERANCE = 784 * float(np.finfo(np.float32).eps)  # of a loss, relative
DEFAULTS, OURS = "fit, defaults", "one compiled loop"
TUNED: dict[str, dict[str, Any]] = {
    "fit, jit_compile": {"jit_compile": True},
    "fit, jit_compile, 100 steps a call": {"jit_compile": True, "steps_per_execution": 100},
    "fit, jit_compile, 400 steps a call": {"jit_compile": True, "steps_per_execution": 400},
    "fit, 100 steps a call": {"jit_compile": False, "steps_per_execution": 100},
}


def network(**settings: Any) -> Any:
    """Return the walk-through's network, compiled with these settings of Keras's."""
    built = keras_mnist.build(784, 10, keras_mnist.parser().parse_args([]))
    built.compile(built.optimizer, built.loss, metrics=["accuracy"], **settings)
    return built


def fitting(X: np.ndarray, y: np.ndarray, **settings: Any) -> Callable[[], object]:
    """Return a call that trains one epoch by `fit`."""
    built = network(**settings)
    return lambda: built.fit(X, y, batch_size=BATCH, verbose=0)


def our_epoch(X: np.ndarray, y: np.ndarray) -> Callable[[], object]:
    """Return a call that trains one epoch by the trainer's loop."""
    from papershell.trainers.keras_epoch import open_epoch

    epoch, rng = open_epoch(network(), X, y), np.random.default_rng(0)
    return lambda: epoch(rng.permutation(len(y)).astype(np.int32), BATCH)


def losses_differ(X: np.ndarray, y: np.ndarray) -> float:
    """Return the relative difference of our mean loss from that of `fit` in the same order of images."""
    from papershell.trainers.keras_epoch import open_epoch

    order = np.random.default_rng(1).permutation(len(y)).astype(np.int32)[: CHECKED_STEPS * BATCH]
    fitted, ours = network(), network()
    history = fitted.fit(X[order], y[order], batch_size=BATCH, shuffle=False, verbose=0).history
    return abs(float(open_epoch(ours, X, y)(order, BATCH)["loss"]) / history["loss"][0] - 1)


@pytest.mark.slow
@pytest.mark.parametrize("case", [DEFAULTS, *TUNED, OURS])
def test_epoch(measure: Measure, images: np.ndarray, labels: np.ndarray, case: str) -> None:
    """The error is the relative difference of 40 steps' mean loss from that of `fit`."""
    if importlib.util.find_spec("keras") is None:
        pytest.skip("keras is not installed; pip install 'papershell[keras]' adds it")
    backend = keras_mnist.load_keras().backend.backend()
    X, y = normalize(images), labels.astype(np.int32)
    calls: dict[str, Callable[[], object]] = {DEFAULTS: fitting(X, y)}
    if case in TUNED:
        calls[case] = fitting(X, y, **TUNED[case])
    elif case == OURS:
        calls[case] = our_epoch(X, y)
    measure(
        Case.among(
            calls, case, group=f"Keras network, an epoch of {len(y):,} images", error=lambda _: losses_differ(X, y),
            tolerance=TOLERANCE, dtype="float32", backend=backend,
            work=Work(flops=len(y) * FLOPS_AN_IMAGE, ceiling="GEMM, float32"),
        )
    )  # fmt: skip
