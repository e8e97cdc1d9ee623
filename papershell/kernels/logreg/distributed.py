"""Rows split over the processes that torchrun started: each rank sums over its own, rank 0 iterates.

Rank 0 sends the name of each operation and its arguments to all; each rank carries it out on its rows, and one
reduction adds up what it returns. Only rank 0 decides anything, so that processors whose rounding differs cannot fall
out of step. The preconditioner is made from few rows, by rank 0 alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import numpy as np

from papershell.kernels.logreg.engine import Engine
from papershell.kernels.logreg.iteration import Result
from papershell.kernels.logreg.losses import Array
from papershell.kernels.logreg.problem import Problem, Samples
from papershell.kernels.logreg.solver import Rows
from papershell.kernels.torchrun import Place, joined


@contextmanager
def rows_over_ranks() -> Iterator[int]:
    """Let every `fit_path` in this block split its rows over all processes that ``torchrun`` started.

    All of them must make the same calls with the same arguments. Each works on its own contiguous share
    of the rows, so that of a memory-mapped X (`kernels.map_idx`) it reads little else, and each gets the
    whole solution: a single process's to rounding. Callbacks are called on rank 0.

    Joins the processes' group as `papershell.kernels.torchrun.joined` does: NCCL, and one GPU a process, if
    PyTorch sees a GPU, else gloo. Without torchrun (no ``WORLD_SIZE``, or 1) nothing changes.

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
    with joined() as place:
        token = _ranks.set(Ranks(place) if place.count > 1 else None)
        try:
            yield place.rank
        finally:
            _ranks.reset(token)


Solve = Callable[[Engine, Rows], dict[int, Result]]
SUMS = ("slopes", "moments", "gradient")  # those that return something


def solve_on_ranks(
    make: Callable[[Samples], Engine], own_rows: Callable[[Engine], Rows], samples: Samples, solve: Solve
) -> dict[int, Result]:
    """Return ``solve(engine, rows)``, solved here or, inside `rows_over_ranks`, on rank 0 with rows on all ranks.

    ``own_rows`` returns what sums over the rows of an engine: itself, or `recomputed.RecomputedRows`.
    """
    ranks = _ranks.get()
    if ranks is None:
        engine = make(samples)
        with engine.limits():
            return solve(engine, own_rows(engine))
    engine = make(samples.take(ranks.share(len(samples.y))))
    ranks.check_agreement(engine, samples)
    with engine.limits():
        rows = own_rows(engine)
        return ranks.serve(engine, rows) if ranks.rank else ranks.lead(engine, rows, solve)


def is_alone() -> bool:
    """Return whether this call works on all rows itself."""
    return _ranks.get() is None


class Ranks:
    """The process group, and what its members say to each other during one solve."""

    def __init__(self, place: Place) -> None:
        import torch
        import torch.distributed as dist

        self.torch, self.dist = torch, dist
        self.rank, self.count, self.device = place.rank, place.count, place.device  # of what is sent

    def share(self, N: int) -> slice:
        """Return which of N rows are this rank's."""
        if self.count > N:
            raise ValueError(f"{N} rows cannot be split over {self.count} ranks; start fewer")
        return slice(N * self.rank // self.count, N * (self.rank + 1) // self.count)

    def check_agreement(self, engine: Engine, samples: Samples) -> None:
        """Raise ValueError on every rank unless all are about to do the same."""
        mine = (
            f"{samples.X.dtype} X of shape {samples.X.shape}, {samples.n_classes} classes, {len(samples.weight)} "
            f"folds, scale {samples.scale}, intercept {samples.fit_intercept}, "
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

    def lead(self, engine: Engine, rows: Rows, solve: Solve) -> dict[int, Result]:
        """Solve on rank 0, tell the others when it is over and what came out."""
        try:
            found = solve(engine, RowsOnRanks(self, engine, rows))
        except BaseException:
            with suppress(RuntimeError):  # the others may be gone, and why is what is being raised
                self.send(("end", None))
            raise
        self.send(("end", found))
        return found

    def serve(self, engine: Engine, rows: Rows) -> dict[int, Result]:
        """Sum over this rank's rows whenever rank 0 asks; return the solution at the end."""
        while True:
            name, arguments = self.send(None)
            if name == "end":
                break
            self.carry_out(engine, rows, name, arguments)
        if arguments is None:
            raise RuntimeError("rank 0 failed; its own message says why")
        return arguments

    def send(self, content: Any) -> Any:
        """Send ``content`` of rank 0 to all and return it."""
        sent = [content]
        self.dist.broadcast_object_list(sent)
        return sent[0]

    def carry_out(self, engine: Engine, rows: Rows, name: str, arguments: tuple) -> list[Array]:
        """Call an operation of ``rows``; return its arrays, on rank 0 summed over all ranks."""
        on_device = [
            engine.array(a) if name.startswith("set_") and isinstance(a, np.ndarray) else a for a in arguments
        ]
        found = getattr(rows, name)(*on_device)
        if name not in SUMS:
            return []
        parts = [
            np.asarray(engine.to_host(part)) for part in (found if isinstance(found, tuple) else (found,))
        ]
        packed = self.torch.as_tensor(np.concatenate([part.ravel() for part in parts]), device=self.device)
        self.dist.reduce(packed, 0)
        edges = np.cumsum([part.size for part in parts])[:-1]
        summed = np.split(packed.cpu().numpy(), edges)
        return [part.reshape(own.shape) for part, own in zip(summed, parts, strict=True)]


class RowsOnRanks:
    """The rows of all ranks, as rank 0 sees them: the `Rows` of the solver."""

    def __init__(self, ranks: Ranks, engine: Engine, own: Rows) -> None:
        self.ranks, self.engine, self.own = ranks, engine, own
        self.precisions, self.flat = own.precisions, own.flat

    def ask(self, name: str, *arguments: Any) -> list[Array]:
        """Let all ranks carry out an operation; return the sums."""
        plain = tuple(
            a if isinstance(a, (int, list, np.ndarray, Problem)) else self.engine.to_host(a)
            for a in arguments
        )
        self.ranks.send((name, plain))
        return self.ranks.carry_out(self.engine, self.own, name, plain)

    def work_on(self, number: int, problem: Problem) -> None:
        """See `Engine`; so for the others."""
        self.ask("work_on", number, problem)

    def release(self, number: int) -> None:
        self.ask("release", number)

    def set_logits(self, numbers: list[int], theta: Array, precision: int) -> None:
        self.ask("set_logits", numbers, theta, precision)

    def set_direction(self, numbers: list[int], direction: Array, precision: int) -> None:
        self.ask("set_direction", numbers, direction, precision)

    def shift(self, number: int, shift: np.ndarray) -> None:
        self.ask("shift", number, shift)

    def slopes(self, numbers: list[int], lengths: np.ndarray) -> np.ndarray:
        return self.ask("slopes", numbers, lengths)[0]

    def moments(self, number: int, shift: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        loss, sums, curvature = self.ask("moments", number, shift)
        return float(loss), sums, curvature

    def gradient(self, numbers: list[int], lengths: np.ndarray, precision: int) -> tuple[np.ndarray, Array]:
        losses, gradients = self.ask("gradient", numbers, lengths, precision)
        return losses, self.engine.array(gradients)


_ranks: ContextVar[Ranks | None] = ContextVar("ranks", default=None)
