"""Stochastic gradient descent on the CIFAR-10 walk-through's network: many steps a call, many networks at once.

`papershell.kernels.cifar10_net.network` states the network. The step is that of PyTorch's ``torch.optim.SGD`` with
momentum, on the mean cross-entropy of a batch:
``velocity = momentum * velocity + gradient``, ``params -= learning_rate * velocity``.
At batch 4 the arithmetic of a step takes 0.1 ms and a framework's overhead ten times as long, so the data set stays
in memory as bytes and a back end runs hundreds of steps without returning to Python.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from papershell.kernels.backends import implementation, torch_has_cuda
from papershell.kernels.cifar10_net.network import CLASSES, IMAGE_SHAPE, N_PARAMETERS, named
from papershell.kernels.cifar10_net.problem import Problem

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
    """Return S networks, ready to be trained on a data set, on the device of the back end.

    Parameters
    ----------
    params, velocity : (S, 62006) float32, copied; `named` returns its parts.
    images : (N, 3, 32, 32) uint8.
    labels : (N,) integers 0 to 9.
    levels : (256,) float32, the number that each byte stands for, as `papershell.kernels.normalize` gives it.
    reduce : called between gradient and update with the gradients (S, 62006), to average them in
        place over processes: a NumPy array on ``numba``, a tensor on ``torch``.
    backend : ``numba`` runs on CPU threads, one network each. ``torch`` runs on the CUDA device, where
        it replays CUDA graphs of many steps, or op by op on the CPU. ``auto`` is ``torch`` if there is a
        CUDA device, else ``numba``.

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
    rates = float(learning_rate), float(momentum)
    problem = Problem(params, velocity, images, labels, levels, *rates, reduce)
    name = ("torch" if torch_has_cuda() else "numba") if backend == "auto" else backend
    return implementation("cifar10_net", name).Sgd(problem)
