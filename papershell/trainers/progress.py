"""Progress of long work: a bar on a terminal, plain lines elsewhere; of many processes only the first one shows it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PLAIN_INTERVAL_S = 5.0

Update = Callable[[float, str], None]


@contextmanager
def progress(description: str, total: float | None) -> Iterator[Update]:
    """Show the progress of some work on stderr.

    Parameters
    ----------
    description : of the work, as in ``downloading train-images.gz``.
    total : the whole amount, in the caller's unit; None if it is unknown.

    Yields
    ------
    update : call it as ``update(completed, note)``. A terminal shows a bar and the note; elsewhere a
        line appears at most every `PLAIN_INTERVAL_S` seconds, so that logs stay readable.
    """
    if int(os.environ.get("RANK", "0")):
        yield lambda completed, note: None
    elif sys.stderr.isatty():
        with _bar(description, total) as update:
            yield update
    else:
        yield _lines(description, total)


@contextmanager
def _bar(description: str, total: float | None) -> Iterator[Update]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total, note="")
        yield lambda completed, note: bar.update(task, completed=completed, note=note)


def _lines(description: str, total: float | None) -> Update:
    last_s = time.monotonic()

    def update(completed: float, note: str) -> None:
        nonlocal last_s
        if time.monotonic() - last_s < PLAIN_INTERVAL_S:
            return
        last_s = time.monotonic()
        share = f" {completed / total:.0%}" if total else ""
        print(f"{description}:{share} {note}", file=sys.stderr, flush=True)

    return update
