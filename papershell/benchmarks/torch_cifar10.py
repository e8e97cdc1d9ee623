"""The CIFAR-10 walk-through's steps at batch 4: ``python -m papershell.benchmarks.torch_cifar10 [FOLDER]``.

FOLDER holds CIFAR-10's .bin files (default: cifar10, found below PAPERSHELL_DATA or downloaded).

Expected beforehand: a step is 13 MFLOP, a tenth of a millisecond of this processor's arithmetic; a framework
spends ten times that on launching operations, and the walk-through's DataLoader as much again on moving
four images between processes. The compiled steps should be bound by arithmetic, so that N networks take
N / cores times as long as one: here nothing is left over that they could share.

Found on 2 cores (AMD EPYC, AVX-512): the script 1.8 ms a step, eager PyTorch on a resident tensor 0.94, ours 0.23,
sixteen networks 1.8. The compiled steps reach a third of the processor's arithmetic, and sixteen networks on
two cores take eight times as long as one, not the six that were hoped for. Two output planes at a time in
the convolutions gained 3 % and were left out. On a busy machine the script loses least: it has three processes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from papershell.benchmarks.interleave import interleave
from papershell.benchmarks.mnist import print_goals
from papershell.kernels.cifar10_net import IMAGE_SHAPE
from papershell.kernels.cifar10_net.on_torch import Net
from papershell.trainers.cifar10_recipe import Recipe
from papershell.trainers.cifar10_walkthrough import Training
from papershell.trainers.data_parallel import Processes
from papershell.trainers.datasets import Dataset, read_cifar10, resolve

STEPS, ROUNDS, NETWORKS = 250, 9, 16
TWO_EPOCHS = 25_000
STEP_FLOPS = 13_000_000  # multiplications and additions of four images, forward and backward
TOLERANCE = 784 * float(np.finfo(np.float32).eps)  # of a loss, relative


class Images(torch.utils.data.Dataset):
    """The walk-through's data set: ToTensor, then Normalize, image by image."""

    def __init__(self, data: Dataset):
        self.images, self.labels = data.X_train.reshape(-1, *IMAGE_SHAPE), data.y_train

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = torch.from_numpy(self.images[index]).to(torch.float32).div(255)
        return image.sub_(0.5).div_(0.5), int(self.labels[index])


class Eager:
    """The walk-through's loop, on batches from wherever they come."""

    def __init__(self, batches: Iterator[Any]):
        torch.manual_seed(0)
        self.net, self.batches = Net(), batches
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.001, momentum=0.9)

    def run(self, steps: int = STEPS, threads: int = 1) -> list[float]:
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
    """Batches from two worker processes, without end; they are started once."""
    loader = DataLoader(Images(data), batch_size=4, shuffle=True, num_workers=2, persistent_workers=True)
    while True:
        yield from loader


def resident(data: Dataset, rows: Iterator[np.ndarray]) -> Iterator[Any]:
    """Batches gathered from one normalized tensor."""
    images = torch.from_numpy(data.X_train.reshape(-1, *IMAGE_SHAPE)).float().div_(255).sub_(0.5).div_(0.5)
    labels = torch.from_numpy(data.y_train).long()
    for index in rows:
        yield images[index], labels[index]


def endless(seed: int, n: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    while True:
        yield rng.integers(0, n, 4)


def stepper(recipe: Recipe, data: Dataset) -> Callable[[], None]:
    """Our steps, without end."""
    training = Training(recipe, data, Processes(0, 1, "numba"))
    rng = np.random.default_rng(0)

    def run() -> None:
        training.networks.run(rng.integers(0, len(data.y_train), (recipe.seeds, STEPS, 4)))

    return run


def losses_differ(data: Dataset) -> float:
    """Return the largest relative difference of our losses from the eager loop's, same weights, same 100 batches."""
    order = np.stack([rows for rows, _ in zip(endless(3, len(data.y_train)), range(100), strict=False)])
    ours = Training(Recipe(seed=0), data, Processes(0, 1, "numba")).networks.run(order[None])[0]
    theirs = np.array(Eager(resident(data, iter(order))).run(len(order)))
    return float(np.abs(ours / theirs - 1).max())


def check(data: Dataset) -> None:
    """Stop unless our losses are those of the eager loop."""
    assert losses_differ(data) <= TOLERANCE


def main() -> None:
    """Check, time, check again, print."""
    source = sys.argv[1] if len(sys.argv) > 1 else "cifar10"
    data = read_cifar10(resolve(source), name=Path(source).name)
    default_threads, start = torch.get_num_threads(), time.perf_counter()
    check(data)
    first_s = time.perf_counter() - start
    by_loader, by_tensor = Eager(loaded(data)), Eager(resident(data, endless(1, len(data.y_train))))
    cases: dict[str, Callable[[], object]] = {
        "walk-through: DataLoader, 2 workers": by_loader.run,
        f"the same, {default_threads} torch threads": lambda: by_loader.run(threads=default_threads),
        "eager PyTorch, data resident": by_tensor.run,
        "ours": stepper(Recipe(), data),
        f"ours, {NETWORKS} networks at once": stepper(Recipe(seeds=NETWORKS), data),
    }
    seconds = interleave(cases, rounds=ROUNDS)
    check(data)
    print(f"batch 4, {STEPS} steps: median of {ROUNDS} interleaved rounds, losses checked before and after")
    for name, value in seconds.items():
        per_step_ms = value / STEPS * 1e3
        print(
            f"  {name:40s} {per_step_ms:7.3f} ms a step, two epochs {per_step_ms * TWO_EPOCHS / 1e3:6.1f} s"
        )
    print(f"  first call, with what Numba must compile or load: {first_s:.1f} s")
    ours = seconds["ours"]
    many = seconds[f"ours, {NETWORKS} networks at once"]
    print_goals(
        [
            (
                "two epochs, the walk-through's script over ours",
                seconds["walk-through: DataLoader, 2 workers"] / ours,
                2.0,
            ),
            ("eager PyTorch on resident data over ours", seconds["eager PyTorch, data resident"] / ours, 2.0),
            (
                f"one network's time x {NETWORKS} over that of {NETWORKS} at once",
                NETWORKS * ours / many,
                NETWORKS / 6,
            ),
        ]
    )


if __name__ == "__main__":
    main()
