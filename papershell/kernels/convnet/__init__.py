"""Stochastic gradient descent on a small convolutional network, many steps a call, many networks at once.

The network is that of the CIFAR-10 walk-through (`papershell.kernels.convnet.network`); the step is PyTorch's
``torch.optim.SGD`` with momentum on the mean cross-entropy of a batch:
``velocity = momentum * velocity + gradient``, ``params -= learning_rate * velocity``.
At batch 4 its arithmetic is nothing and its overhead everything, so the data set stays in memory as
bytes and a back end runs hundreds of steps without returning to Python.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from papershell.kernels.backends import implementation, torch_has_cuda
from papershell.kernels.convnet.network import CLASSES, IMAGE_SHAPE, N_PARAMETERS, named

__all__ = ["CLASSES", "IMAGE_SHAPE", "N_PARAMETERS", "Sgd", "named", "sgd"]


class Sgd(Protocol):
    """S networks in training, each on its own; see `sgd`."""

    def run(self, order: np.ndarray) -> np.ndarray:
        """Take T steps: network s trains at step t on the images ``order[s, t]``.

        Parameters
        ----------
        order : (S, T, B) int64, indexes into the N images.

        Returns
        -------
        losses : (S, T) float32, the mean cross-entropy of each batch before its step. A network whose
            loss is not finite takes no further step; its remaining losses are NaN.
        """

    def state(self) -> tuple[np.ndarray, np.ndarray]:
        """Return copies of the parameters and velocities, (S, 62006) float32 each."""


def sgd(
    params: np.ndarray,
    velocity: np.ndarray,
    images: np.ndarray,
    labels: np.ndarray,
    levels: np.ndarray,
    *,
    learning_rate: float,
    momentum: float,
    reduce: Callable[[Any], None] | None = None,
    backend: str = "auto",
) -> Sgd:
    """Put S networks and a data set where they are trained.

    Parameters
    ----------
    params, velocity : (S, 62006) float32, copied; `named` says what lies where.
    images : (N, 3, 32, 32) uint8.
    labels : (N,) integers 0 to 9.
    levels : (256,) float32, what each byte stands for, as `papershell.kernels.normalize` gives it.
    reduce : called between gradient and update with the gradients (S, 62006), to average them in
        place over processes: a NumPy array on ``numba``, a tensor on ``torch``.
    backend : ``numba`` runs on CPU threads, one network each. ``torch`` runs on the CUDA device, where
        it replays CUDA graphs of many steps, or op by op on the CPU. ``auto`` is ``torch`` where there is
        a CUDA device, else ``numba``.

    Returns
    -------
    sgd : a network's numbers do not depend on its companions, bit for bit on ``numba``.

    Raises
    ------
    ValueError
        A shape, type or label does not fit.
    BackendError
        The back end is absent or has no such operation.
    """
    _check(params, velocity, images, labels, levels)
    name = ("torch" if torch_has_cuda() else "numba") if backend == "auto" else backend
    opened = implementation("convnet", name).Sgd
    return opened(params, velocity, images, labels, levels, float(learning_rate), float(momentum), reduce)


def _check(
    params: np.ndarray, velocity: np.ndarray, images: np.ndarray, labels: np.ndarray, levels: np.ndarray
) -> None:
    """Compiled loops do not look where they read: a wrong shape or label must end here."""
    networks = (len(params), N_PARAMETERS)
    wanted = {
        "params": (params, networks, np.float32),
        "velocity": (velocity, networks, np.float32),
        "images": (images, (len(images), *IMAGE_SHAPE), np.uint8),
        "levels": (levels, (256,), np.float32),
    }
    for name, (array, shape, dtype) in wanted.items():
        if (array.shape, array.dtype) != (shape, dtype):
            raise ValueError(
                f"{name} must be {np.dtype(dtype)} of shape {shape}, found {array.dtype} of {array.shape}"
            )
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be {len(images)} integers, found {labels.dtype} of {labels.shape}")
    if len(labels) and not 0 <= labels.min() <= labels.max() < CLASSES:
        raise ValueError(f"labels must be 0 to 9, found {labels.min()} to {labels.max()}")


def check_order(order: np.ndarray, n_networks: int, n_images: int) -> None:
    """Raise `ValueError` unless ``order`` (S, T, B) indexes existing images, at least one a batch."""
    if order.ndim != 3 or len(order) != n_networks or order.dtype != np.int64 or not order.shape[2]:
        raise ValueError(
            f"order must be int64 of shape ({n_networks}, steps, batch), found {order.dtype} of {order.shape}"
        )
    if order.size and not 0 <= order.min() <= order.max() < n_images:
        raise ValueError(f"order must index {n_images} images, found {order.min()} to {order.max()}")
