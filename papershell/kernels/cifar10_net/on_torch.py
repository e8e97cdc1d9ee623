"""The CIFAR-10 network's SGD steps with PyTorch: all networks in one batch, on CUDA in graphs of many steps.

Every operation of a step is one `torch.func.vmap` over the networks, so that 64 of them launch as many
kernels as one. At batch 4 a CUDA device waits for those launches: a graph holds `GRAPH_STEPS` steps and is
launched once. bfloat16 and channels-last would change the numbers and save no time at such sizes.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from papershell.kernels.backends import BackendError, torch_has_cuda
from papershell.kernels.cifar10_net.network import IMAGE_SHAPE, WEIGHTS, named
from papershell.kernels.cifar10_net.problem import Problem, check_order

GRAPH_STEPS = 50


class Net(nn.Module):
    """The walk-through's network: (B, 3, 32, 32) pixels to (B, 10) logits."""

    def __init__(self) -> None:
        super().__init__()
        for layer, (n_out, n_in, *window) in WEIGHTS.items():
            self.add_module(layer, nn.Conv2d(n_in, n_out, window) if window else nn.Linear(n_in, n_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc3(F.relu(self.fc2(x)))


with torch.device("meta"):  # it has no numbers of its own: those of each network take their place
    _net = Net()


def _loss(params: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of one network, whose parameters are ``params`` (62006,), on a batch."""
    return F.cross_entropy(torch.func.functional_call(_net, named(params), (x,)), y)


_gradients_and_losses = torch.func.vmap(torch.func.grad_and_value(_loss))


class Sgd:
    """See `papershell.kernels.cifar10_net.sgd`."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._device = "cuda" if torch_has_cuda() else "cpu"
        with _explained():
            self._params, self._velocity = self._put(problem.params), self._put(problem.velocity)
            self._images, self._levels = self._put(problem.images), self._put(problem.levels)
            self._labels = self._put(problem.labels.astype(np.int64))
        self._graph: _Graph | None = None

    def _put(self, array: np.ndarray) -> torch.Tensor:
        return torch.tensor(array, device=self._device)

    def run(self, order: np.ndarray) -> np.ndarray:
        """See `papershell.kernels.cifar10_net.Sgd.run`."""
        check_order(order, self._problem)
        with _explained():
            return self._run(self._put(order)).cpu().numpy()

    def _run(self, order: torch.Tensor) -> torch.Tensor:
        losses = torch.empty(order.shape[:2], device=self._device)
        replayed = order.shape[1] // GRAPH_STEPS * GRAPH_STEPS if self._device == "cuda" else 0
        if replayed and (self._graph is None or self._graph.batch != order.shape[2]):
            self._graph = self._capture(order[:, :GRAPH_STEPS])
        for start in range(0, replayed, GRAPH_STEPS):
            assert self._graph
            self._graph.replay(order[:, start : start + GRAPH_STEPS], losses[:, start : start + GRAPH_STEPS])
        self._take_steps(order[:, replayed:], losses[:, replayed:])
        return losses

    def _take_steps(self, order: torch.Tensor, losses: torch.Tensor) -> None:
        """One step per column of ``order`` (S, T, B); their losses go into ``losses`` (S, T)."""
        for t in range(order.shape[1]):
            rows = order[:, t]
            x = self._levels[self._images[rows].int()].reshape(*rows.shape, *IMAGE_SHAPE)
            gradients, losses[:, t] = _gradients_and_losses(self._params, x, self._labels[rows])
            if self._problem.reduce:
                self._problem.reduce(gradients)
            self._velocity.mul_(self._problem.momentum).add_(gradients)
            self._params.sub_(self._velocity, alpha=self._problem.learning_rate)

    def _capture(self, order: torch.Tensor) -> _Graph:
        """Record the steps once; the practice runs that CUDA wants first are undone."""
        order, losses = order.clone(), torch.empty(order.shape[:2], device=self._device)
        before = self._params.clone(), self._velocity.clone()
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            self._take_steps(order[:, :3], losses[:, :3])
        torch.cuda.current_stream().wait_stream(aside)
        self._params.copy_(before[0])
        self._velocity.copy_(before[1])
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(
            graph, capture_error_mode="thread_local"
        ):  # NCCL's watchdog thread goes on asking
            self._take_steps(order, losses)
        return _Graph(graph, order, losses)

    def state(self) -> tuple[np.ndarray, np.ndarray]:
        """See `papershell.kernels.cifar10_net.Sgd.state`."""
        return self._params.cpu().numpy().copy(), self._velocity.cpu().numpy().copy()


class _Graph:
    """A recorded run of steps and the buffers it reads and writes."""

    def __init__(self, graph: torch.cuda.CUDAGraph, order: torch.Tensor, losses: torch.Tensor):
        self._graph, self._order, self._losses = graph, order, losses
        self.batch = order.shape[2]

    def replay(self, order: torch.Tensor, losses: torch.Tensor) -> None:
        self._order.copy_(order)
        self._graph.replay()
        losses.copy_(self._losses)


class _explained:
    """Turn the device's out-of-memory report into one sentence that says how much was needed."""

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, torch.OutOfMemoryError):
            report = (
                " ".join(str(error).split())
                .removeprefix("CUDA out of memory. ")
                .split(" Of the allocated")[0]
            )
            raise BackendError(
                f"the GPU's memory is full ({report}); train fewer networks at once"
            ) from error
