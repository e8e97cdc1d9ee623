"""An epoch of the Keras network on 5,000 MNIST images, a hundred steps of batch 50."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
import pytest

from papershell.benchmarks.measure import Measure, Work
from papershell.kernels import normalize

IMAGES = 5_000
FLOPS = IMAGES * 2 * (2 * 784 * 300 + 3 * (300 * 100 + 100 * 10))  # the pixels need no gradient
DEFAULTS, TUNED, OURS = "fit, defaults", "fit, jit_compile, 100 steps a call", "one compiled loop"


@pytest.mark.slow
@pytest.mark.parametrize("case", [DEFAULTS, TUNED, OURS])
def test_epoch(measure: Measure, images: np.ndarray, labels: np.ndarray, case: str) -> None:
    """The error is the relative difference of 40 steps' mean loss from that of `fit`."""
    if importlib.util.find_spec("keras") is None:
        pytest.skip("keras is not installed; pip install 'papershell[keras]' adds it")
    from papershell.benchmarks.keras_mnist import TOLERANCE, fitting, losses_differ, our_epoch

    X, y = normalize(images[:IMAGES]), labels[:IMAGES].astype(np.int32)
    calls: dict[str, Callable[[], object]] = {DEFAULTS: fitting(X, y)}
    if case == TUNED:
        calls[case] = fitting(X, y, jit_compile=True, steps_per_execution=100)
    elif case == OURS:
        calls[case] = our_epoch(X, y)
    measure(
        calls, case, group=f"Keras network, an epoch of {IMAGES:,} images", error=lambda _: losses_differ(X, y),
        tolerance=TOLERANCE, dtype="float32", backend="tensorflow", work=Work(flops=FLOPS, ceiling="GEMM, float32"),
    )  # fmt: skip
