"""Predicted labels as a CSV file."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator

import numpy as np

from papershell.kernels.files import replacing

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet runs a cell that begins so


def write_predictions(path: str | os.PathLike[str], labels: np.ndarray) -> None:
    """Write the label of each image to ``path``, with a header line, whole or not at all.

    Parameters
    ----------
    path : as in `papershell.kernels.files.replacing`; its folder is made if it is missing.
    labels : (N,) numbers, written bare, or strings, written in quotes. An apostrophe comes before a string that a
        spreadsheet would run as a formula.
    """
    with replacing(path, parents=True) as file:
        file.writelines(line.encode() for line in _lines(labels))


def _lines(labels: np.ndarray) -> Iterator[str]:
    yield "image,label\n"
    for index, label in enumerate(labels.tolist()):
        line = io.StringIO()
        csv.writer(line, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n").writerow(
            [index, _harmless(label)]
        )
        yield line.getvalue()


def _harmless(label: object) -> object:
    return f"'{label}" if isinstance(label, str) and label.startswith(_FORMULA) else label
