"""The input of both back ends, and its checks: compiled loops do not check the indexes they use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from papershell.kernels.cifar10_net.network import CLASSES, IMAGE_SHAPE, N_PARAMETERS


@dataclass(frozen=True)
class Problem:
    """S networks, N images and how a step is taken; see `papershell.kernels.cifar10_net.sgd`.

    Attributes
    ----------
    params, velocity : (S, 62006) float32.
    images : (N, 3, 32, 32) uint8.
    labels : (N,) integers 0 to 9.
    levels : (256,) float32, the number that each byte stands for.
    learning_rate, momentum : of all networks.
    reduce : averages the gradients (S, 62006) over processes in place, or None for one process.

    Raises
    ------
    ValueError
        A shape, type or label does not fit.
    """

    params: np.ndarray
    velocity: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    levels: np.ndarray
    learning_rate: float
    momentum: float
    reduce: Callable[[Any], None] | None

    def __post_init__(self) -> None:
        networks = (len(self.params), N_PARAMETERS)
        _check_array("params", self.params, networks, np.float32)
        _check_array("velocity", self.velocity, networks, np.float32)
        _check_array("images", self.images, (len(self.images), *IMAGE_SHAPE), np.uint8)
        _check_array("levels", self.levels, (256,), np.float32)
        _check_labels(self.labels, len(self.images))


def _check_array(name: str, array: np.ndarray, shape: tuple[int, ...], dtype: type) -> None:
    if (array.shape, array.dtype) != (shape, dtype):
        raise ValueError(
            f"{name} must be {np.dtype(dtype)} of shape {shape}, found {array.dtype} of {array.shape}"
        )


def _check_labels(labels: np.ndarray, n_images: int) -> None:
    if labels.shape != (n_images,) or labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be {n_images} integers, found {labels.dtype} of {labels.shape}")
    if len(labels) and not 0 <= labels.min() <= labels.max() < CLASSES:
        raise ValueError(f"labels must be 0 to 9, found {labels.min()} to {labels.max()}")


def check_order(order: np.ndarray, problem: Problem) -> None:
    """Raise `ValueError` unless ``order`` (S, T, B) int64 indexes existing images, at least one a batch."""
    n_networks, n_images = len(problem.params), len(problem.images)
    if order.ndim != 3 or len(order) != n_networks or order.dtype != np.int64 or not order.shape[2]:
        raise ValueError(
            f"order must be int64 of shape ({n_networks}, steps, batch), found {order.dtype} of {order.shape}"
        )
    if order.size and not 0 <= order.min() <= order.max() < n_images:
        raise ValueError(f"order must index {n_images} images, found {order.min()} to {order.max()}")
