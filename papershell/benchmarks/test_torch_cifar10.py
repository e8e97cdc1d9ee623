"""Training steps of the CIFAR-10 network at batch 4, on the real images."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from papershell.benchmarks.measure import Measure, Work

pytest.importorskip("torch")
from papershell.benchmarks.torch_cifar10 import (
    STEP_FLOPS,
    STEPS,
    TOLERANCE,
    Eager,
    endless,
    loaded,
    losses_differ,
    resident,
    stepper,
)  # fmt: skip
from papershell.trainers.cifar10_recipe import Recipe
from papershell.trainers.datasets import Dataset, read_cifar10

EAGER, DATALOADER, OURS, SEEDS = (
    "eager, data resident",
    "DataLoader, 2 workers",
    "compiled steps",
    "16 networks at once",
)


@pytest.fixture(scope="module")
def data() -> Dataset:
    """CIFAR-10's training images."""
    root = Path(os.environ.get("PAPERSHELL_DATA", "data"))
    if found := next(root.rglob("data_batch_1.bin"), None):
        return read_cifar10(found.parent, name="cifar10")
    pytest.skip(f"no CIFAR-10 below {root} (set PAPERSHELL_DATA, or `papershell data fetch cifar10`)")


@pytest.mark.slow
@pytest.mark.parametrize("case", [EAGER, DATALOADER, OURS, SEEDS])
def test_steps(measure: Measure, data: Dataset, case: str) -> None:
    """The error is the largest relative difference of 100 losses from those of PyTorch's autograd."""
    calls: dict[str, Callable[[], object]] = {EAGER: Eager(resident(data, endless(1, len(data.y_train)))).run}
    if case == DATALOADER:
        calls[case] = Eager(loaded(data)).run
    elif case in (OURS, SEEDS):
        calls[case] = stepper(Recipe(seeds=16 if case == SEEDS else 1), data)
    networks = 16 if case == SEEDS else 1
    measure(
        calls, case, group=f"CIFAR-10 network, {STEPS} steps", error=lambda _: losses_differ(data),
        tolerance=TOLERANCE, dtype="float32", backend="numba" if case in (OURS, SEEDS) else "torch",
        work=Work(flops=networks * STEPS * STEP_FLOPS, ceiling="GEMM, float32"),
    )  # fmt: skip
