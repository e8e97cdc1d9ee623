"""The CIFAR-10 walk-through: a small convolutional network, SGD with momentum, batch 4, two epochs.

    python -m papershell.trainers.torch_cifar10                    # this machine
    torchrun --nproc-per-node 2 -m papershell.trainers.torch_cifar10   # data-parallel, batch 4 on each process
    python -m papershell.trainers.torch_cifar10 --recipe fast      # another network (`cifar10_fast`)

The mathematics is the walk-through's; `papershell.kernels.convnet` takes the steps, on the bytes as they lie in memory.
Pixels count as -1..1, which gives the losses that the walk-through prints; the code it shows scales to
0..1, and so does ``--zero-to-one``.
"""

from __future__ import annotations

import argparse
import time
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from papershell.kernels import normalize
from papershell.kernels.convnet import IMAGE_SHAPE, Sgd, named, sgd
from papershell.trainers import SEED
from papershell.trainers.arguments import add_training_flags, positive
from papershell.trainers.checkpoint import (
    CheckpointError,
    DivergenceError,
    read_state,
    write_state,
)
from papershell.trainers.cifar10 import CLASS_NAMES
from papershell.trainers.cifar10_fast import FastNet, FastTraining
from papershell.trainers.datasets import Dataset, read_cifar10, resolve
from papershell.trainers.data_parallel import Processes, open_processes
from papershell.trainers.output_files import write_atomic, write_json
from papershell.trainers.program import run
from papershell.trainers.progress import progress
from papershell.trainers.provenance import manifest
from papershell.trainers.tracking import start_run

EXPERIMENT = "day1-experiment-train"
MODEL_NAME = "cifar10-net"
MODEL_STEM = "cifar10_net"
STEPS_A_CALL = 500  # so often the progress bar moves
DEFAULTS: dict[str, tuple[float, float]] = {  # by flag: of the walk-through, of the fast recipe
    "epochs": (2, 4),
    "batch_size": (4, 256),
    "learning_rate": (0.001, 0.2),
    "print_every": (2000, 50),
    "checkpoint_every": (2000, 200),
}


class Net(nn.Module):
    """The walk-through's network: (B, 3, 32, 32) pixels to (B, 10) logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc3(F.relu(self.fc2(x)))


@dataclass(frozen=True)
class Recipe:
    """What decides the numbers. A checkpoint is continued under the same ones only."""

    learning_rate: float = 0.001
    momentum: float = 0.9
    batch_size: int = 4
    seed: int = SEED
    seeds: int = 1
    zero_to_one: bool = False

    def levels(self) -> np.ndarray:
        """What each byte of a pixel counts as: (256,) float32."""
        centre, width = (0.0, 1.0) if self.zero_to_one else (0.5, 0.5)
        return normalize(np.arange(256, dtype=np.uint8), mean=centre, std=width)


class Training:
    """S networks somewhere between the first step and the last.

    Attributes
    ----------
    losses : (S, steps taken) float32, each batch's loss.
    """

    def __init__(self, recipe: Recipe, data: Dataset, processes: Processes):
        self.recipe, self.processes = recipe, processes
        self.images, self.labels = data.X_train.reshape(-1, *IMAGE_SHAPE), data.y_train
        self._data = zlib.crc32(self.images.data)
        self.losses = np.empty((recipe.seeds, 0), np.float32)
        params = np.stack([_initial(recipe.seed + s) for s in range(recipe.seeds)])
        self._open(params, np.zeros_like(params))
        self._order_of = (-1, np.empty(0))

    def _open(self, params: np.ndarray, velocity: np.ndarray) -> None:
        rates = {"learning_rate": self.recipe.learning_rate, "momentum": self.recipe.momentum}
        average = self.processes.average if self.processes.count > 1 else None
        self.networks: Sgd = sgd(
            params, velocity, self.images, self.labels, self.recipe.levels(), reduce=average, **rates,
            backend=self.processes.backend,
        )  # fmt: skip

    @property
    def step(self) -> int:
        """How many steps each network has taken."""
        return self.losses.shape[1]

    @property
    def steps_an_epoch(self) -> int:
        """Batches in an epoch; on one process the last may be smaller, on several it is left out."""
        batch = self.recipe.batch_size * self.processes.count
        rest = len(self.labels) % batch if self.processes.count == 1 else 0
        return len(self.labels) // batch + (rest > 0)

    @property
    def settings(self) -> dict[str, Any]:
        """What a checkpoint must have been made with to be continued here."""
        facts = {"model": MODEL_NAME, "processes": self.processes.count, "data": self._data}
        return facts | asdict(self.recipe)

    def advance(self, stop: int) -> None:
        """Take the steps up to ``stop``, all of one epoch.

        Raises
        ------
        DivergenceError
            A loss is not finite.
        """
        epoch, first = divmod(self.step, self.steps_an_epoch)
        batch = self.recipe.batch_size
        order = self._order(epoch)
        full = order.shape[1] // batch - first
        taken = min(stop - self.step, full) or 1  # what is left after the full batches is one batch
        rows = order[:, first * batch : (first + taken) * batch]
        losses = self.networks.run(rows.reshape(len(rows), taken, -1))
        if self.processes.count > 1:
            self.processes.average(losses)
        if len(lost := np.argwhere(~np.isfinite(losses.T))):
            step, network = lost[0]
            raise DivergenceError(
                f"the training of seed {self.recipe.seed + network} diverged at epoch {epoch + 1}, batch "
                f"{first + step + 1}: its loss is {losses[network, step]}; lower --learning-rate "
                f"(it is {self.recipe.learning_rate:g}), the last good checkpoint is kept"
            )
        self.losses = np.concatenate([self.losses, losses], axis=1)
        if self.step < stop:
            self.advance(stop)

    def _order(self, epoch: int) -> np.ndarray:
        """The images of an epoch in the order in which this process trains on them: (S, n)."""
        if self._order_of[0] != epoch:
            seeds = [self.recipe.seed + s for s in range(self.recipe.seeds)]
            order = np.stack([np.random.default_rng([s, epoch]).permutation(len(self.labels)) for s in seeds])
            self._order_of = (epoch, self.processes.share(order, self.recipe.batch_size))
        return self._order_of[1]

    def save(self, path: Path) -> None:
        """Write a checkpoint; see `papershell.trainers.checkpoint.write_state`."""
        params, velocity = self.networks.state()
        arrays = {"params": params, "velocity": velocity, "losses": self.losses}
        write_state(path, arrays, self.settings)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint; see `papershell.trainers.checkpoint.read_state`."""
        arrays = read_state(path, self.settings)
        try:
            self._open(arrays["params"], arrays["velocity"])
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"{path} does not hold this network ({error}); remove it") from error
        self.losses = arrays["losses"]

    def nets(self) -> list[nn.Module]:
        """The networks as PyTorch modules."""
        return [_module(params) for params in self.networks.state()[0]]


def _initial(seed: int) -> np.ndarray:
    """PyTorch's own initial weights: (62006,) float32."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(Net().parameters()).detach().numpy()


def _module(params: np.ndarray) -> Net:
    net = Net()
    net.load_state_dict({name: torch.tensor(value) for name, value in named(params).items()})
    return net


def classify(net: nn.Module, images: np.ndarray, levels: np.ndarray, device: str = "cpu") -> np.ndarray:
    """Return the class of each image: (N,) int64, for ``images`` (N, 3, 32, 32) uint8."""
    net, table = net.to(device), torch.from_numpy(levels).to(device)
    with torch.inference_mode():
        parts = [torch.from_numpy(part).to(device) for part in np.array_split(images, len(images) // 500 + 1)]
        return torch.cat([net(table[part.int()]).argmax(1) for part in parts]).cpu().numpy()


def predict(path: Path, images: np.ndarray) -> np.ndarray:
    """Return the class of each image by the model file ``path`` (.npz, see `write_model`).

    Parameters
    ----------
    images : uint8, (N, 3, 32, 32) or (N, 32, 32, 3).

    Raises
    ------
    ValueError
        The file is no such model, or the images have another shape.
    """
    planes = np.moveaxis(images, 3, 1) if images.shape[1:] == (32, 32, 3) else images
    if planes.shape[1:] != IMAGE_SHAPE:
        raise ValueError(
            f"the model wants colour images of 32 x 32 pixels, these are of shape {images.shape[1:]}"
        )
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as arrays:
                stored = {name: torch.tensor(arrays[name]) for name in arrays.files}
            levels = stored.pop("levels").float().reshape(256).numpy()
            net = Net() if "conv1.weight" in stored else FastNet().eval()
            net.load_state_dict(stored)
        except Exception as error:  # zipfile, NumPy and torch raise a dozen types on damaged files
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{path} is not a model that papershell wrote ({reason}); train it again"
            ) from error
    return classify(net, np.ascontiguousarray(planes), levels)


def write_model(folder: Path, net: nn.Module, levels: np.ndarray, facts: dict[str, Any]) -> list[Path]:
    """Write the network three times into ``folder``, each file atomically; return the paths.

    ``cifar10_net.pt`` is the ``state_dict`` for PyTorch (``torch.load`` with ``weights_only=True``),
    ``.npz`` the same arrays and what each byte of a pixel counts as, ``.json`` how it was made.
    """
    weights, safe, record = (folder / f"{MODEL_STEM}.{suffix}" for suffix in ("pt", "npz", "json"))
    with write_atomic(weights) as file:
        torch.save(net.state_dict(), file)
    with write_atomic(safe) as file:
        arrays = {name: value.numpy() for name, value in net.state_dict().items()}
        np.savez(file, levels=levels, **arrays)
    write_json(record, manifest(**facts))
    return [weights, safe, record]


def main(argv: Sequence[str] | None = None) -> None:
    """Train as the walk-through does; ``--help`` lists the flags."""
    args = _parser().parse_args(argv)
    fast = args.recipe == "fast"
    for name, defaults in DEFAULTS.items():
        if getattr(args, name) is None:
            setattr(args, name, defaults[fast])
    with open_processes(args.device) as processes:
        data = read_cifar10(resolve(args.data_folder), name=Path(args.data_folder).name)
        recipe = Recipe(**{name: getattr(args, name) for name in Recipe.__dataclass_fields__})
        training = (
            FastTraining(recipe, data, processes, args.epochs) if fast else Training(recipe, data, processes)
        )
        first = processes.rank == 0
        with start_run(EXPERIMENT, f"train torch-cifar10 on {data.name}", record=first) as run:
            run.log_params(vars(args))
            seconds = _train(training, args, run)
            if first:
                _finish(training, data, args, run, seconds)


def _train(training: Training | FastTraining, args: argparse.Namespace, run: Any) -> float:
    """Train to the end, from the last checkpoint if asked; print, log and save on the way. Return seconds."""
    checkpoint, first = Path(args.out) / f"{MODEL_STEM}_checkpoint.npz", training.processes.rank == 0
    if args.resume and checkpoint.exists():
        training.restore(checkpoint)
    start, total = time.perf_counter(), args.epochs * training.steps_an_epoch
    with progress("training", total) as update:
        while training.step < total:
            training.advance(_stop(training, args))
            if first:
                epoch, batch = _place(training)
                update(training.step, f"epoch {epoch}")
                if batch % args.print_every == 0:
                    _report(training, args, run)
                if training.step % args.checkpoint_every == 0 or training.step == total:
                    training.save(checkpoint)
    return time.perf_counter() - start


def _place(training: Training | FastTraining) -> tuple[int, int]:
    """Epoch and batch, both from 1, of the last step."""
    epoch, batch = divmod(training.step - 1, training.steps_an_epoch)
    return epoch + 1, batch + 1


def _stop(training: Training | FastTraining, args: argparse.Namespace) -> int:
    """Up to which step to train before there is something to show, to save or to shuffle."""
    epoch, batch = divmod(training.step, training.steps_an_epoch)
    within = min(_next(batch, args.print_every), _next(batch, STEPS_A_CALL), training.steps_an_epoch)
    return min(epoch * training.steps_an_epoch + within, _next(training.step, args.checkpoint_every))


def _report(training: Training | FastTraining, args: argparse.Namespace, run: Any) -> None:
    """Print and record the mean loss since the last report, as the walk-through does."""
    loss = training.losses[:, -args.print_every :].mean(axis=1)
    spread = f" ({loss.min():.2f} to {loss.max():.2f})" if len(loss) > 1 else ""
    epoch, batch = _place(training)
    print(f"epoch={epoch}, batch={batch:5}: loss {loss.mean():.2f}{spread}", flush=True)
    run.log_metrics({"loss": loss.mean()}, step=training.step)


def _next(step: int, every: int) -> int:
    """The first multiple of ``every`` beyond ``step``."""
    return (step // every + 1) * every


def _finish(
    training: Training | FastTraining, data: Dataset, args: argparse.Namespace, run: Any, seconds: float
) -> None:
    """Print what was reached, write the model of the first seed, record both."""
    print("Finished Training")
    levels, images = training.recipe.levels(), data.X_test.reshape(-1, *IMAGE_SHAPE)
    nets = training.nets()
    device = "cuda" if training.processes.backend == "torch" else "cpu"
    hits = np.stack([classify(net, images, levels, device) == data.y_test for net in nets])
    accuracy = hits.mean(axis=1)
    spread = (
        f" ({accuracy.min():.4f} to {accuracy.max():.4f} over {len(nets)} seeds)" if len(nets) > 1 else ""
    )
    print(f"accuracy on {len(images):,} test images: {accuracy.mean():.4f}{spread}")
    for label, name in enumerate(CLASS_NAMES):
        of_class = hits[:, data.y_test == label]
        print(f"  {name:<10} {of_class.mean():6.1%} of {of_class.shape[1]:,}")
    run.log_metrics({"accuracy": accuracy.mean(), "seconds": seconds})
    facts = {
        "dataset": data.name,
        "device": device,
        "processes": training.processes.count,
        "seconds": seconds,
        "recipe": asdict(training.recipe),
        "arguments": vars(args),
        "test_accuracy": accuracy.tolist(),
    }
    files = write_model(Path(args.out), nets[0].cpu(), levels, facts)
    model = run.register_model(MODEL_NAME, files)
    for path in files:
        print(f"wrote {path}")
    if model:
        print(f"registered {model.name}, id {model.id}, version {model.version}")


def _defaults(flag: str) -> str:
    return "(default: {}, fast: {})".format(*DEFAULTS[flag])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "torch-cifar10", description="Train the CIFAR-10 walk-through's network."
    )
    add = parser.add_argument
    add("--data-folder", default="cifar10", help="folder of CIFAR-10's .bin files, or cifar10 (default)")
    add("--recipe", choices=("walk-through", "fast"), default="walk-through", help="(default: walk-through)")
    add("--epochs", type=positive, help=_defaults("epochs"))
    add("--batch-size", type=positive, help="images a step, on each process " + _defaults("batch_size"))
    add("--learning-rate", type=float, help=_defaults("learning_rate"))
    add("--momentum", type=float, default=0.9, help="(default: 0.9)")
    add("--zero-to-one", action="store_true", help="scale pixels to 0..1 instead of -1..1")
    add("--seeds", type=positive, default=1, help="train so many networks at once, seed by seed (default: 1)")
    add("--print-every", type=positive, help="batches " + _defaults("print_every"))
    add_training_flags(parser, every=None, unit="batches " + _defaults("checkpoint_every"))
    return parser


if __name__ == "__main__":
    run(main)
