"""Tables and sizes on the terminal, all of one look."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Sequence

PIPE_WIDTH = 160
_NUMBER = re.compile(r"([\d.,]+(e[-+]?\d+)?)?")


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, bold: Collection[int] = ()
) -> None:
    """Print ``rows`` of text under ``headings`` on stdout; columns of numbers are aligned to the right.

    ``bold`` holds the indexes of the rows to emphasize. The table is as wide as the terminal; in a
    file or pipe it takes up to `PIPE_WIDTH` characters, so that lines stay whole.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    columns = zip(*rows, strict=True) if rows else [()] * len(headings)
    for heading, column in zip(headings, columns, strict=True):
        table.add_column(heading, justify="right" if all(map(_NUMBER.fullmatch, column)) else "left")
    for index, row in enumerate(rows):
        table.add_row(*map(Text, row), style="bold" if index in bold else None)
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)


def size_text(size_bytes: float) -> str:
    """Return a number of bytes as people read it, as in ``11.6 MB``."""
    for unit in ("bytes", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "bytes" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} GB"
