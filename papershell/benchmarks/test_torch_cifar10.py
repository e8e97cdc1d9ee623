"""Training steps of the CIFAR-10 network at batch 4, on the real images.

Expected beforehand: a step is 13 MFLOP, a tenth of a millisecond of this processor's arithmetic; a framework
spends ten times that on launching operations, and the walk-through's DataLoader as much again on moving
four images between processes. The compiled steps should be bound by arithmetic, so that N networks take
N / cores times as long as one: nothing is left over that they could share.

Found on 2 cores (AMD EPYC, AVX-512): the script 1.8 ms a step, eager PyTorch on a resident tensor 0.94, ours 0.23,
sixteen networks 1.8. The compiled steps reach a third of the processor's arithmetic, and sixteen networks on
two cores take eight times as long as one, not the six that were hoped for. Two output planes at a time in
the convolutions gained 3 % and were left out. On a busy machine the script loses least: it has three processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from papershell.benchmarks import problems  # noqa: E402
from papershell.benchmarks.case import Case, Work  # noqa: E402
from papershell.benchmarks.measure import Measure  # noqa: E402
from papershell.kernels.cifar10_net import IMAGE_SHAPE  # noqa: E402
from papershell.kernels.cifar10_net.on_torch import Net  # noqa: E402
from papershell.trainers.cifar10_recipe import Recipe  # noqa: E402
from papershell.trainers.cifar10_walkthrough import Training  # noqa: E402
from papershell.trainers.data_parallel import Processes  # noqa: E402
from papershell.trainers.datasets import DataError, Dataset  # noqa: E402

STEPS, CHECKED_STEPS, NETWORKS = 250, 100, 16
STEP_FLOPS = 13_000_000  # multiplications and additions of four images, forward and backward
TOLERANCE = 784 * float(np.finfo(np.float32).eps)  # of a loss, relative
DATALOADER, THREADS = "the walk-through's script: DataLoader, 2 workers", "the same, all of torch's threads"
EAGER, OURS, SEEDS = "eager, data resident", "compiled steps", f"{NETWORKS} networks at once"


class Images(torch.utils.data.Dataset):  # type: ignore[name-defined]
    """The walk-through's data set: ToTensor, then Normalize, image by image."""

    def __init__(self, data: Dataset):
        self.images, self.labels = data.X_train.reshape(-1, *IMAGE_SHAPE), data.y_train

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = torch.from_numpy(self.images[index]).to(torch.float32).div(255)
        return image.sub_(0.5).div_(0.5), int(self.labels[index])


class Eager:
    """The walk-through's loop, on batches from wherever they come."""

    def __init__(self, batches: Iterator[Any]):
        torch.manual_seed(0)
        self.net, self.batches = Net(), batches
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.001, momentum=0.9)

    def run(self, steps: int = STEPS, threads: int = 1) -> list[float]:
        """Train and return each step's loss."""
        torch.set_num_threads(threads)
        losses = []
        for _ in range(steps):
            x, y = next(self.batches)
            self.optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(self.net(x), y)
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return losses


def loaded(data: Dataset) -> Iterator[Any]:
    """Batches from two worker processes, without end; the workers start once."""
    loader = torch.utils.data.DataLoader(
        Images(data), batch_size=4, shuffle=True, num_workers=2, persistent_workers=True
    )
    while True:
        yield from loader


def resident(data: Dataset, rows: Iterator[np.ndarray]) -> Iterator[Any]:
    """Batches gathered from one normalized tensor."""
    images = torch.from_numpy(data.X_train.reshape(-1, *IMAGE_SHAPE)).float().div_(255).sub_(0.5).div_(0.5)
    labels = torch.from_numpy(data.y_train).long()
    for index in rows:
        yield images[index], labels[index]


def endless(seed: int, n: int) -> Iterator[np.ndarray]:
    """Rows of batches of four, without end."""
    rng = np.random.default_rng(seed)
    while True:
        yield rng.integers(0, n, 4)


def stepper(recipe: Recipe, data: Dataset) -> Callable[[], None]:
    """Return a call that trains our networks for `STEPS` steps."""
    training = Training(recipe, data, Processes(0, 1, "numba"))
    rng = np.random.default_rng(0)

    def run() -> None:
        training.networks.run(rng.integers(0, len(data.y_train), (recipe.seeds, STEPS, 4)))

    return run


def losses_differ(data: Dataset) -> float:
    """Return the largest relative difference of our losses from the eager loop's: same weights, same batches."""
    order = np.random.default_rng(3).integers(0, len(data.y_train), (CHECKED_STEPS, 4))
    ours = Training(Recipe(seed=0), data, Processes(0, 1, "numba")).networks.run(order[None])[0]
    theirs = np.array(Eager(resident(data, iter(order))).run(len(order)))
    return float(np.abs(ours / theirs - 1).max())


@pytest.fixture(scope="module")
def data() -> Dataset:
    """CIFAR-10's training images."""
    try:
        return problems.read_cifar10_images()
    except DataError as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.parametrize("case", [DATALOADER, THREADS, EAGER, OURS, SEEDS])
def test_steps(measure: Measure, data: Dataset, case: str) -> None:
    """The error is the largest relative difference of 100 losses from those of PyTorch's autograd."""
    threads, by_loader = torch.get_num_threads(), Eager(loaded(data))
    makers: dict[str, Callable[[], Callable[[], object]]] = {
        DATALOADER: lambda: by_loader.run,
        THREADS: lambda: lambda: by_loader.run(threads=threads),
        EAGER: lambda: Eager(resident(data, endless(1, len(data.y_train)))).run,
        OURS: lambda: stepper(Recipe(), data),
        SEEDS: lambda: stepper(Recipe(seeds=NETWORKS), data),
    }
    calls = {name: makers[name]() for name in dict.fromkeys([DATALOADER, case])}
    ours, networks = case in (OURS, SEEDS), NETWORKS if case == SEEDS else 1
    try:
        measure(
            Case.among(
                calls, case, group=f"CIFAR-10 network, {STEPS} steps", error=lambda _: losses_differ(data),
                tolerance=TOLERANCE, dtype="float32", backend="numba" if ours else "torch",
                work=Work(flops=networks * STEPS * STEP_FLOPS, ceiling="GEMM, float32"),
            )
        )  # fmt: skip
    finally:
        torch.set_num_threads(threads)
