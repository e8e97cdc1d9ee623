"""A trained network for CIFAR-10: its files, and the classes that it predicts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from papershell.kernels.cifar10_net import IMAGE_SHAPE
from papershell.kernels.cifar10_net.on_torch import Net
from papershell.kernels.files import replacing, write_json
from papershell.trainers.cifar10 import CLASS_NAMES
from papershell.trainers.cifar10_fast import FastNet
from papershell.trainers.formats.npz import read_npz
from papershell.trainers.provenance import manifest

MODEL_STEM = "cifar10_net"


def classify(net: nn.Module, images: np.ndarray, levels: np.ndarray, device: str = "cpu") -> np.ndarray:
    """Return the class of each image: (N,) int64, for ``images`` (N, 3, 32, 32) uint8."""
    return _logits(net, images, levels, device).argmax(1).numpy()


def _logits(net: nn.Module, images: np.ndarray, levels: np.ndarray, device: str) -> torch.Tensor:
    net, table = net.to(device), torch.from_numpy(levels).to(device)
    with torch.inference_mode():
        parts = [torch.from_numpy(part).to(device) for part in np.array_split(images, len(images) // 500 + 1)]
        return torch.cat([net(table[part.int()]) for part in parts]).cpu()


def read_model(path: Path) -> tuple[int, Callable[[np.ndarray], np.ndarray]]:
    """Read a model file (.npz, see `write_model`).

    Returns
    -------
    n_classes : 10.
    probabilities : a function that gives the probability of each class, (N, 10), for images in bytes,
        (N, 3, 32, 32) or (N, 32, 32, 3); others are a ValueError.

    Raises
    ------
    ValueError
        The file is no such model.
    """
    with open(path, "rb") as file:
        try:
            stored = {name: torch.tensor(array) for name, array in read_npz(file).items()}
            levels = stored.pop("levels").float().reshape(256).numpy()
            net = Net() if "conv1.weight" in stored else FastNet().eval()
            net.load_state_dict(stored)
        except Exception as error:  # zipfile, NumPy and torch raise a dozen types on damaged files
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{path} is not a model that papershell wrote ({reason}); train it again"
            ) from error

    def probabilities(images: np.ndarray) -> np.ndarray:
        planes = np.moveaxis(images, 3, 1) if images.shape[1:] == (32, 32, 3) else images
        if planes.shape[1:] != IMAGE_SHAPE or images.dtype != np.uint8:
            raise ValueError(
                f"the model wants colour images of 32 x 32 pixels in bytes, these are of shape {images.shape[1:]} "
                f"and type {images.dtype}"
            )
        return _logits(net, np.ascontiguousarray(planes), levels, "cpu").double().softmax(1).numpy()

    return len(CLASS_NAMES), probabilities


def write_model(folder: Path, net: nn.Module, levels: np.ndarray, facts: dict[str, Any]) -> list[Path]:
    """Write the network three times into ``folder``, each file atomically; return the paths.

    ``cifar10_net.pt`` is the ``state_dict`` for PyTorch (``torch.load`` with ``weights_only=True``),
    ``.npz`` the same arrays and the number that each byte of a pixel stands for, ``.json`` says how it was made.
    """
    weights, safe, record = (folder / f"{MODEL_STEM}.{suffix}" for suffix in ("pt", "npz", "json"))
    write_json(record, manifest(**facts))  # first: no model lies here without its origin
    with replacing(weights, parents=True) as file:
        torch.save(net.state_dict(), file)
    with replacing(safe, parents=True) as file:
        arrays = {name: value.numpy() for name, value in net.state_dict().items()}
        np.savez(file, levels=levels, **arrays)
    return [weights, safe, record]
