"""Predicted labels, and if asked for the probability of each class, as a CSV or a Parquet file, block after block."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from papershell.kernels.files import replacing

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet runs a cell that begins so
Write = Callable[[np.ndarray, np.ndarray | None], None]


@contextmanager
def writing_predictions(
    path: str | os.PathLike[str], noun: str = "image", classes: np.ndarray | None = None
) -> Iterator[Write]:
    """Yield a function that adds predictions to the file ``path``, which appears whole or not at all.

    The function takes the labels (n,) of the next samples and, if ``classes`` are given, their probabilities (n, K).

    Parameters
    ----------
    path : as in `papershell.kernels.files.replacing`; its folder is made if it is missing. ``.parquet`` makes a Parquet
        file, every other name CSV: numbers bare, strings in quotes, an apostrophe before a string that a
        spreadsheet would run as a formula.
    noun : name of the first column, which numbers the samples from 0.
    classes : (K,) labels, whose probabilities follow the predicted label in columns ``p_LABEL``.
    """
    columns = [noun, "label", *(f"p_{label}" for label in ([] if classes is None else classes.tolist()))]
    with replacing(path, parents=True) as file:
        if os.fspath(path).endswith(".parquet"):
            with _parquet(file, columns) as write:
                yield write
        else:
            yield _csv(file, columns)


def _csv(file: BinaryIO, columns: list[str]) -> Write:
    plain = len(columns) == 2
    _write_lines(file, [columns], csv.QUOTE_MINIMAL)
    count = 0

    def write(labels: np.ndarray, probabilities: np.ndarray | None) -> None:
        nonlocal count
        numbers = range(count, count := count + len(labels))
        names = map(_harmless, labels.tolist())
        chances = [[]] * len(labels) if plain or probabilities is None else probabilities.tolist()
        rows = ([number, name, *each] for number, name, each in zip(numbers, names, chances, strict=True))
        _write_lines(file, rows, csv.QUOTE_NONNUMERIC)

    return write


def _write_lines(file: BinaryIO, rows: Any, quoting: Any) -> None:
    lines = io.StringIO()
    csv.writer(lines, quoting=quoting, lineterminator="\n").writerows(rows)
    file.write(lines.getvalue().encode())


@contextmanager
def _parquet(file: BinaryIO, columns: list[str]) -> Iterator[Write]:
    import pyarrow
    import pyarrow.parquet

    writer: Any = None
    count = 0

    def write(labels: np.ndarray, probabilities: np.ndarray | None) -> None:
        nonlocal writer, count
        arrays = [np.arange(count, count + len(labels)), labels]
        if probabilities is not None and len(columns) > 2:
            arrays += list(probabilities.astype(np.float64).T)
        table = pyarrow.table([pyarrow.array(array) for array in arrays], names=columns)
        writer = writer or pyarrow.parquet.ParquetWriter(file, table.schema)
        writer.write_table(table)
        count += len(labels)

    try:
        yield write
    finally:
        if writer:
            writer.close()


def _harmless(label: object) -> object:
    return f"'{label}" if isinstance(label, str) and label.startswith(_FORMULA) else label
