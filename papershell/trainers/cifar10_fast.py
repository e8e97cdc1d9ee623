"""``--recipe fast``: another network for CIFAR-10, as accurate as it can be in the walk-through's time.

Where each idea comes from:

- three convolutions with max-pooling before batch normalization, then GELU, and a head on the maximum of each
  plane; Nesterov momentum with weight decay under a learning rate that rises and falls along two straight lines;
  label smoothing: David Page, "How to Train Your ResNet" (2018), as simplified by tysam-code/hlb-CIFAR10 (2023);
- the padded data set stays on the device, random crops and mirror images are cut out of it by the whole batch,
  and the test averages an image with its mirror image: KellerJordan/cifar10-airbench (2024).

Whitening, Muon and wider layers are left out, because they do not pay within so few seconds of a CPU. The same
code is meant for CUDA, in bfloat16; it has not run on a GPU yet.
"""

from __future__ import annotations

import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from papershell.kernels.cifar10_net import CLASSES, IMAGE_SHAPE
from papershell.trainers.checkpoint import CheckpointError, DivergenceError, read_state, write_state
from papershell.trainers.cifar10_recipe import Recipe
from papershell.trainers.data_parallel import Processes
from papershell.trainers.datasets import Dataset

WIDTHS = (24, 48, 96)
WEIGHT_DECAY, SMOOTHING = 5e-4, 0.1
PEAK_AT = 0.23  # share of all steps after which the learning rate falls
SHIFT = 2  # pixels, the most that a crop moves


class FastNet(nn.Module):
    """(B, 3, 32, 32) pixels to (B, 10) logits; outside training the sum over an image and its mirror image."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*map(_block, (IMAGE_SHAPE[0], *WIDTHS), WIDTHS))
        self.head = nn.Linear(WIDTHS[-1], CLASSES, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._logits(x) if self.training else self._logits(x) + self._logits(x.flip(3))

    def _logits(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(x.contiguous(memory_format=torch.channels_last)).amax((2, 3)))


def _block(n_in: int, n_out: int) -> nn.Sequential:
    convolution = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.MaxPool2d(2), nn.BatchNorm2d(n_out), nn.GELU())


class FastTraining:
    """One `FastNet` somewhere between the first step and the last; see `papershell.trainers.torch_cifar10.Training`."""

    def __init__(self, recipe: Recipe, data: Dataset, processes: Processes, epochs: int):
        if recipe.seeds > 1 or processes.count > 1:
            raise ValueError(
                "--recipe fast trains one network in one process; leave out --seeds and torchrun"
            )
        self.recipe, self.processes, self.epochs = recipe, processes, epochs
        self._device = "cuda" if processes.backend == "torch" else "cpu"
        self._data = zlib.crc32(data.X_train.data)
        images = data.X_train.reshape(-1, *IMAGE_SHAPE)
        edges = ((0, 0), (0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT))
        self._padded = torch.from_numpy(np.pad(images, edges, mode="reflect")).to(self._device)
        self._labels = torch.from_numpy(data.y_train).long().to(self._device)
        self._levels = torch.from_numpy(recipe.levels()).to(self._device)
        torch.manual_seed(recipe.seed)
        self._net = FastNet().to(self._device, memory_format=torch.channels_last)
        self._velocity = [torch.zeros_like(p) for p in self._net.parameters()]
        self.losses = np.empty((1, 0), np.float32)

    @property
    def step(self) -> int:
        """How many steps were taken."""
        return self.losses.shape[1]

    @property
    def steps_an_epoch(self) -> int:
        """Full batches in an epoch; the images left over wait for the next shuffle."""
        return max(1, len(self._labels) // self.recipe.batch_size)

    @property
    def settings(self) -> dict[str, Any]:
        """What a checkpoint must have been made with to be continued here."""
        return {"model": "cifar10-fast", "data": self._data, "epochs": self.epochs} | asdict(self.recipe)

    def advance(self, stop: int) -> None:
        """Take the steps up to ``stop``; raises `DivergenceError` if a loss is not finite."""
        self._net.train()
        losses = torch.stack([self._take(step) for step in range(self.step, stop)]).cpu().numpy()
        if len(lost := np.flatnonzero(~np.isfinite(losses))):
            epoch, batch = divmod(self.step + lost[0], self.steps_an_epoch)
            raise DivergenceError(
                f"training diverged at epoch {epoch + 1}, batch {batch + 1}: its loss is {losses[lost[0]]}; "
                f"lower --learning-rate (it is {self.recipe.learning_rate:g}), the last good checkpoint is kept"
            )
        self.losses = np.concatenate([self.losses, losses[None]], axis=1)

    def _take(self, step: int) -> torch.Tensor:
        """One step of SGD with Nesterov momentum; returns the loss."""
        x, y = self._batch(step)
        with torch.autocast(self._device, dtype=torch.bfloat16, enabled=self._device == "cuda"):
            logits = self._net(x)
        loss = F.cross_entropy(logits.float(), y, label_smoothing=SMOOTHING)
        parameters = list(self._net.parameters())
        gradients = torch.autograd.grad(loss, parameters)
        share = step / (self.epochs * self.steps_an_epoch)
        rate = self.recipe.learning_rate * min(share / PEAK_AT, (1 - share) / (1 - PEAK_AT))
        with torch.no_grad():
            for p, v, g in zip(parameters, self._velocity, gradients, strict=True):
                decayed = g.add(p, alpha=WEIGHT_DECAY)
                v.mul_(self.recipe.momentum).add_(decayed)
                p.sub_(decayed.add_(v, alpha=self.recipe.momentum), alpha=rate)
        return loss.detach()

    def _batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The step's images, each cropped and mirrored by chance, and their labels."""
        epoch, batch = divmod(step, self.steps_an_epoch)
        shuffled = np.random.default_rng([self.recipe.seed, epoch]).permutation(len(self._labels))
        chosen = shuffled[batch * self.recipe.batch_size :][: self.recipe.batch_size]
        rng = np.random.default_rng([self.recipe.seed, epoch, batch])
        down, right = rng.integers(0, 2 * SHIFT + 1, (2, len(chosen), 1))
        across = np.arange(IMAGE_SHAPE[2])
        mirrored = rng.random((len(chosen), 1)) < 0.5
        columns = right + np.where(mirrored, across[::-1], across)
        index = (chosen, np.arange(IMAGE_SHAPE[0]), down + across, columns)
        rows, planes, lines, columns = (torch.from_numpy(i).to(self._device) for i in index)
        pixels = self._padded[
            rows[:, None, None, None],
            planes[:, None, None],
            lines[:, None, :, None],
            columns[:, None, None, :],
        ]
        return self._levels[pixels.int()], self._labels[rows]

    def save(self, path: Path) -> None:
        """Write a checkpoint; see `papershell.trainers.checkpoint.write_state`."""
        arrays = {name: value.cpu().numpy() for name, value in self._net.state_dict().items()}
        arrays |= {f"velocity {i}": value.cpu().numpy() for i, value in enumerate(self._velocity)}
        write_state(path, arrays | {"losses": self.losses}, self.settings)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint; see `papershell.trainers.checkpoint.read_state`."""
        arrays = read_state(path, self.settings)
        try:
            weights = {name: torch.from_numpy(arrays[name]) for name in self._net.state_dict()}
            self._net.load_state_dict(weights)
            for i, value in enumerate(self._velocity):
                value.copy_(torch.from_numpy(arrays[f"velocity {i}"]))
            self.losses = arrays["losses"]
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(f"{path} does not hold this network ({error}); remove it") from error

    def nets(self) -> list[nn.Module]:
        """The network, ready to classify, on the CPU."""
        (net := FastNet()).load_state_dict(self._net.state_dict())
        return [net.eval()]
