"""Rows split over the processes that torchrun started: each rank sums over its own, rank 0 iterates.

For every pass rank 0 sends the trial points to all, each rank computes losses and gradients of its
rows, and one reduction adds them up. Nobody but rank 0 decides anything, so that processors whose
rounding differs cannot fall out of step. The metric is made from few rows, by rank 0 alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import numpy as np

from papershell.kernels.logreg.losses import Array
from papershell.kernels.logreg.products import FloatEngine, Grade, Samples
from papershell.kernels.logreg.solver import Rows, Solution


@contextmanager
def rows_over_ranks() -> Iterator[int]:
    """Let every `fit_path` in this block split its rows over all processes that ``torchrun`` started.

    All of them must make the same calls with the same arguments. Each works on its own contiguous share
    of the rows, so that of a memory-mapped X (`kernels.map_idx`) it reads little else, and each gets the
    whole solution: a single process's to rounding. Callbacks are called on rank 0.

    Joins the process group if nobody has: NCCL, and one GPU a process, where PyTorch sees a GPU, else gloo.
    Without torchrun (no ``WORLD_SIZE``, or 1) nothing changes.

    Yields
    ------
    rank : of this process, from 0 on.

    Raises
    ------
    RuntimeError
        Inside `fit_path`: another rank failed.
    ValueError
        Inside `fit_path`: fewer rows than ranks, or ranks that do not fit the same thing in the same way.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield 0
        return
    import torch
    import torch.distributed as dist

    joining = not dist.is_initialized()
    if joining:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    token = _ranks.set(Ranks())
    try:
        yield dist.get_rank()
    finally:
        _ranks.reset(token)
        if joining:
            dist.destroy_process_group()


def solve_on_ranks(
    make: Callable[[Samples], FloatEngine], samples: Samples, solve: Callable[[Rows], Solution]
) -> Solution:
    """Return ``solve(rows)``, solved here or, inside `rows_over_ranks`, on rank 0 with rows on all ranks."""
    ranks = _ranks.get()
    if ranks is None:
        return solve(make(samples))
    engine = make(samples.part(ranks.share(len(samples.y))))
    ranks.check_agreement(engine, samples)
    return ranks.serve(engine) if ranks.rank else ranks.lead(engine, solve)


class Ranks:
    """The process group, and what its members say to each other during one solve."""

    def __init__(self) -> None:
        import torch
        import torch.distributed as dist

        self.torch, self.dist = torch, dist
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        self.device = "cuda" if "nccl" in dist.get_backend() else "cpu"  # of what is sent

    def share(self, N: int) -> slice:
        """Return which of N rows are this rank's."""
        if self.count > N:
            raise ValueError(f"{N} rows cannot be split over {self.count} ranks; start fewer")
        return slice(N * self.rank // self.count, N * (self.rank + 1) // self.count)

    def check_agreement(self, engine: FloatEngine, samples: Samples) -> None:
        """Raise ValueError on every rank unless all are about to do the same."""
        mine = (
            f"{samples.X.dtype} X of shape {samples.X.shape}, {samples.n_classes} classes, {len(samples.weight)} "
            f"folds, {samples.loss}, scale {samples.scale}, intercept {samples.fit_intercept}, "
            f"by {type(engine).__module__}.{type(engine).__name__}"
        )
        found: list[Any] = [None] * self.count
        self.dist.all_gather_object(found, mine)
        for rank, other in enumerate(found):
            if other != found[0]:
                raise ValueError(
                    f"rank 0 fits {found[0]}, but rank {rank} fits {other}; call fit_path with the same "
                    f"arguments everywhere, and name a back end that all machines have"
                )

    def lead(self, engine: FloatEngine, solve: Callable[[Rows], Solution]) -> Solution:
        """Solve on rank 0, tell the others when it is over and what came out."""
        try:
            solution = solve(RowsOnRanks(self, engine))
        except BaseException:
            with suppress(RuntimeError):  # the others may be gone, and why is what is being raised
                self.dismiss(None)
            raise
        self.dismiss(solution)
        return solution

    def dismiss(self, solution: Solution | None) -> None:
        """End what the other ranks do in `serve`."""
        self.broadcast(np.zeros(2, np.int64))
        self.dist.broadcast_object_list([solution])

    def serve(self, engine: FloatEngine) -> Solution:
        """Sum over this rank's rows whenever rank 0 asks; return the solution at the end."""
        K, width = engine.samples.n_classes, engine.width
        with engine.one_blas_thread():
            while (order := self.broadcast(np.zeros(2, np.int64)).tolist())[1]:
                grade, A = order
                content = self.broadcast(np.zeros(A * (1 + K * width)))
                fold, theta = content[:A].cpu().numpy(), content[A:].reshape(A, K, width)
                self.add_up(engine, engine.array(theta), fold.astype(np.int64), engine.grades[grade])
        solution: list[Any] = [None]
        self.dist.broadcast_object_list(solution)
        if solution[0] is None:
            raise RuntimeError("rank 0 failed; its own message says why")
        return solution[0]

    def broadcast(self, values: Array) -> Any:
        """Send ``values`` of rank 0 to all; elsewhere they only give shape and dtype."""
        tensor = self.torch.as_tensor(values, device=self.device)
        self.dist.broadcast(tensor, 0)
        return tensor

    def add_up(
        self, engine: FloatEngine, theta: Array, fold: np.ndarray, grade: Grade
    ) -> tuple[Array, Array]:
        """Return losses and gradients summed over all ranks, on rank 0; elsewhere they are this rank's."""
        value, gradient = engine.loss_and_gradient(theta, fold, grade)
        packed = self.torch.as_tensor(engine.xp.concat([value, gradient.reshape(-1)]), device=self.device)
        self.dist.reduce(packed, 0)
        total = engine.array(packed)
        return total[: fold.size], total[fold.size :].reshape(theta.shape)


class RowsOnRanks:
    """The rows of all ranks, as rank 0 sees them."""

    def __init__(self, ranks: Ranks, engine: FloatEngine) -> None:
        self.ranks, self.engine = ranks, engine

    def loss_and_gradient(self, theta: Array, fold: np.ndarray, grade: Grade) -> tuple[Array, Array]:
        """See `FloatEngine.loss_and_gradient`."""
        xp, engine = self.engine.xp, self.engine
        self.ranks.broadcast(np.array([engine.grades.index(grade), fold.size]))
        self.ranks.broadcast(xp.concat([engine.array(fold.astype(np.float64)), theta.reshape(-1)]))
        return self.ranks.add_up(engine, theta, fold, grade)


_ranks: ContextVar[Ranks | None] = ContextVar("ranks", default=None)
