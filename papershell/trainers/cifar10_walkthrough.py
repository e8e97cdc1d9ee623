"""Training as in the CIFAR-10 walk-through: `papershell.kernels.cifar10_net` takes the steps, on bytes in memory."""

from __future__ import annotations

import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from papershell.kernels.cifar10_net import IMAGE_SHAPE, Sgd, named, sgd
from papershell.kernels.cifar10_net.on_torch import Net
from papershell.trainers.checkpoint import CheckpointError, DivergenceError, read_state, write_state
from papershell.trainers.cifar10_recipe import Recipe
from papershell.trainers.data_parallel import Processes
from papershell.trainers.datasets import Dataset

MODEL_NAME = "cifar10-net"


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
        """Take the steps up to ``stop``.

        Raises
        ------
        DivergenceError
            A loss is not finite.
        """
        while self.step < stop:
            losses = self.networks.run(self._rows(stop - self.step))
            if self.processes.count > 1:
                self.processes.average(losses)
            self._check_finite(losses)
            self.losses = np.concatenate([self.losses, losses], axis=1)

    def _rows(self, most: int) -> np.ndarray:
        """The images of the next steps, at most ``most``, in batches of one size: (S, T, B)."""
        epoch, first = divmod(self.step, self.steps_an_epoch)
        order, batch = self._order(epoch), self.recipe.batch_size
        full = order.shape[1] // batch
        if first == full:  # the epoch's last batch is smaller
            return np.ascontiguousarray(order[:, None, full * batch :])
        last = min(first + most, full)
        return order[:, first * batch : last * batch].reshape(len(order), last - first, batch)

    def _check_finite(self, losses: np.ndarray) -> None:
        """Raise `DivergenceError` for the first loss (S, T) of the next steps that is not finite."""
        if len(lost := np.argwhere(~np.isfinite(losses.T))):
            step, network = lost[0]
            epoch, batch = divmod(self.step + step, self.steps_an_epoch)
            raise DivergenceError(
                f"the training of seed {self.recipe.seed + network} diverged at epoch {epoch + 1}, batch "
                f"{batch + 1}: its loss is {losses[network, step]}; lower --learning-rate "
                f"(it is {self.recipe.learning_rate:g}), the last good checkpoint is kept"
            )

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
