"""What a model is asked about: samples, and labels to compare with, from every kind of file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from papershell.trainers import cifar10
from papershell.trainers.dataset import DataError
from papershell.trainers.formats.idx_files import find_idx_files, read_images, read_labels
from papershell.trainers.formats.matrices import (
    array_names,
    check_features,
    check_labels,
    holds_matrices,
    read_arrays,
)


def read_samples(path: Path) -> np.ndarray:
    """Return the samples of a file, or the test part of a folder: (N, ...), images in their shape.

    Parameters
    ----------
    path : of IDX or CIFAR-10; or .npy, .npz, .safetensors, in which ``X_test`` counts, else ``X``, else the only array.

    Raises
    ------
    DataError
        No array or several could be meant, or it cannot be fitted; the file is damaged.
    kernels.IdxError, papershell.trainers.cifar10.Cifar10Error
        The file is damaged.
    """
    if not holds_matrices(path):
        return read_images(_file(path, "test-images"))
    name = _one_of(path, ("x_test", "x"))
    return check_features(read_arrays(path, [name])[name], f"{name} of {path}")


def read_truth(path: Path, n_samples: int) -> np.ndarray:
    """Return the labels of ``n_samples`` from such a file: ``y_test``, else ``y``, else the only array."""
    if not holds_matrices(path):
        return read_labels(_file(path, "test-labels"), n_samples)
    name = _one_of(path, ("y_test", "y"))
    return check_labels(read_arrays(path, [name])[name], f"{name} of {path}", n_samples)


def _file(path: Path, role: str) -> Path:
    """The file itself, or that of the test part in a folder of CIFAR-10 or of IDX files."""
    if not path.is_dir():
        return path
    files = cifar10.find_files(path)
    return files[1] if files else find_idx_files(path)[role]


def _one_of(path: Path, wanted: Sequence[str]) -> str:
    names = array_names(path)
    if len(names) == 1:
        return names[0]
    known = {name.lower(): name for name in names}
    for word in wanted:
        if word in known:
            return known[word]
    raise DataError(
        f"{path} holds {', '.join(sorted(names)[:9]) or 'no array'}; call the one to use {wanted[0].replace('x', 'X')}"
    )
