"""Matrices of features with their labels: an .npz file, a .safetensors file, or a folder of .npy files.

The arrays are called ``X_train``, ``y_train``, ``X_test``, ``y_test`` (lower case will do), or ``X`` and ``y`` if all
samples are to train on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from papershell.kernels import arrays
from papershell.trainers.dataset import DataError, Dataset, assemble
from papershell.trainers.formats.npy import map_npy
from papershell.trainers.formats.npz import NO_OBJECTS, names_in, read_npz
from papershell.trainers.formats.tensors import bfloat16, map_tensors

SUFFIXES = (".npz", ".safetensors", ".npy")
MOST_EXPANSION = 100  # of a compressed .npz file: MNIST's pixels take a fifth, zeros a thousandth
_ROLES = {
    "X_train": ("x_train", "x"),
    "y_train": ("y_train", "y"),
    "X_test": ("x_test",),
    "y_test": ("y_test",),
}


def holds_matrices(place: Path) -> bool:
    """Return whether ``place`` is a file or folder that `read_matrices` reads."""
    if place.is_dir():
        return any(
            path.suffix == ".npy" and path.stem.lower() in ("x_train", "x") for path in place.iterdir()
        )
    return place.suffix in SUFFIXES


def read_matrices(place: Path, *, name: str) -> Dataset:
    """Read a data set of matrices.

    Parameters
    ----------
    place : an .npz or .safetensors file, a folder of .npy files, or one of these files. All but .npz are mapped.
    name : of the data set.

    Returns
    -------
    dataset : the features of the type that they have in the file, samples of several dimensions as rows.

    Raises
    ------
    DataError
        A file is damaged, an array is missing, or they do not fit together.
    OSError
        A file cannot be read.
    """
    place = place.parent if place.suffix == ".npy" else place
    found = _find(place)
    held = read_arrays(place, list(found.values()))
    title = {role: f"{array} of {place}" for role, array in found.items()}
    X = {role: check_features(held[found[role]], title[role]) for role in found if role.startswith("X")}
    y = {
        role: check_labels(held[found[role]], title[role], len(X[role.replace("y", "X")]))
        for role in found
        if role.startswith("y")
    }
    X_train, y_train = X["X_train"], y["y_train"]
    X_test, y_test = X.get("X_test", X_train[:0]), y.get("y_test", y_train[:0])
    _check_pair(X_train, X_test, title)
    labels = (title["y_train"], title.get("y_test", ""))
    return assemble(name, _rows(X_train), y_train, _rows(X_test), y_test, X_train.shape[1:], labels)


def _find(place: Path) -> dict[str, str]:
    """The name of the array in each role, or `DataError`."""
    known = {array.lower(): array for array in array_names(place)}
    choices = {role: [known[word] for word in words if word in known] for role, words in _ROLES.items()}
    missing = [role for role in _ROLES if not choices[role]]
    if missing and missing != ["X_test", "y_test"]:
        raise DataError(
            f"{place} has no {' and no '.join(missing)}, only {', '.join(sorted(known.values())[:9]) or 'nothing'}; "
            f"call the arrays X_train, y_train and, if there is a test part, X_test, y_test"
        )
    return {role: found[0] for role, found in choices.items() if found}


def _rows(X: np.ndarray) -> np.ndarray:
    return X.reshape(len(X), -1) if len(X) else X.reshape(0, int(np.prod(X.shape[1:])))


def _check_pair(X_train: np.ndarray, X_test: np.ndarray, title: dict[str, str]) -> None:
    """Raise `DataError` unless both parts have samples of one shape, both of bytes or both of other numbers."""
    if X_test.shape[1:] != X_train.shape[1:]:
        raise DataError(
            f"{title['X_test']} holds samples of shape {X_test.shape[1:]} but {title['X_train']} of shape "
            f"{X_train.shape[1:]}; both parts must come from one data set"
        )
    if (X_train.dtype == np.uint8) != (X_test.dtype == np.uint8):
        raise DataError(
            f"{title['X_test']} holds {X_test.dtype} values but {title['X_train']} {X_train.dtype}; bytes count as "
            f"0 to 1 and other numbers as they are, so write both of one type"
        )


def array_names(place: Path) -> list[str]:
    """Return the names of the arrays in an .npz, .safetensors or .npy file, or in a folder of .npy files."""
    if place.is_dir():
        return sorted(path.stem for path in place.glob("*.npy"))
    if place.suffix == ".npz":
        with open(place, "rb") as file, _Explained(place):
            return names_in(file)
    return list(_mapped(place))


def read_arrays(place: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return arrays that `array_names` found: those of an .npz file in memory, others mapped; or raise `DataError`."""
    if place.is_dir():
        return {name: _mapped(place / f"{name}.npy")[name] for name in names}
    if place.suffix == ".npz":
        with open(place, "rb") as file, _Explained(place):
            return read_npz(file, dict.fromkeys(names, NO_OBJECTS), expansion=MOST_EXPANSION)
    mapped = _mapped(place)
    return {name: mapped[name] for name in names}


def _mapped(path: Path) -> dict[str, np.ndarray]:
    with open(path, "rb"), _Explained(path):  # opened, so that a missing file is the system's own error
        return {path.stem: map_npy(path)} if path.suffix == ".npy" else map_tensors(path)


class _Explained:
    """Makes one sentence on a file of every error in the block: damaged files lead to a dozen types."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, ModuleNotFoundError):
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise DataError(f"{self.path} cannot be used ({reason}); write it again") from error


def check_features(array: np.ndarray, title: str) -> np.ndarray:
    """Return ``array`` (N, ...) if it can be fitted, in this machine's byte order; else raise `DataError`.

    Two bytes without a type are bfloat16: NumPy writes so what ``ml_dtypes`` holds. No copy is made but of numbers in
    another byte order.
    """
    if array.dtype == "V2":
        array = array.view(bfloat16())
    number = array.dtype.name == "bfloat16" or (array.dtype.kind in "fiub" and array.dtype.itemsize <= 8)
    if not number:
        raise DataError(f"{title} holds {array.dtype} values; features are bytes, integers or floats")
    if array.ndim < 2 or not array.size:
        raise DataError(
            f"{title} has the shape {array.shape}; features are (samples, features) with at least one of each"
        )
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if (row := _first_unsound(array)) is not None:
        raise DataError(f"{title} holds NaN or infinity, first in row {row}; drop or fill such rows")
    return array


def _first_unsound(X: np.ndarray) -> int | None:
    """The first row with NaN or infinity."""
    if X.dtype.kind in "iub":
        return None
    for part in arrays.blocks(len(X), X[:1].nbytes):
        if not np.isfinite(arrays.largest_magnitude(X[part])):
            sound = np.isfinite(X[part]).reshape(len(X[part]), -1)
            return part.start + int(sound.all(axis=1).argmin())
    return None


def check_labels(array: np.ndarray, title: str, n_samples: int) -> np.ndarray:
    """Return ``array`` as labels (N,), integers or strings, one for each of ``n_samples``; else raise `DataError`."""
    labels = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if labels.ndim != 1 or labels.dtype.kind not in "iubUS":
        raise DataError(
            f"{title} holds {labels.ndim}-dimensional {labels.dtype} values; labels are integers or strings in one "
            f"dimension"
        )
    if len(labels) != n_samples:
        raise DataError(
            f"{title} holds {len(labels)} labels for {n_samples} samples; each sample needs one label"
        )
    if labels.dtype.kind not in "US":
        return labels.astype(np.uint8 if labels.dtype.kind == "b" else labels.dtype.newbyteorder("="))
    try:
        labels = np.char.decode(labels, "utf-8") if labels.dtype.kind == "S" else labels.astype("=U")
        "".join(labels.tolist()).encode()
    except ValueError as error:
        raise DataError(f"{title} holds labels that are no text; write them as UTF-8") from error
    return labels
