"""Images and labels in IDX files, gzip-compressed or not, under either naming style:

    train-images-idx3-ubyte.gz   train-labels-idx1-ubyte.gz   t10k-images-idx3-ubyte.gz   ...
    train-images.gz              train-labels.gz              test-images.gz              test-labels.gz

and single files of images or labels, of IDX or of CIFAR-10.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from papershell.kernels import read_idx
from papershell.trainers import cifar10
from papershell.trainers.dataset import DataError, Dataset, assemble

ROLES = ("train-images", "train-labels", "test-images", "test-labels")
_IDX_NAME = re.compile(r"(?P<part>train|t10k|test)-(?P<kind>images|labels)([-.]idx\d-ubyte)?(\.gz)?")


class MissingFilesError(DataError):
    """A folder does not exist, or lacks some of the four IDX files."""


def read_idx_folder(folder: Path, *, name: str) -> Dataset:
    """Read the four IDX files below ``folder``; see `find_idx_files` and `read_images` for the errors."""
    paths = find_idx_files(folder)
    X_train, y_train, image_shape = _read_part(paths["train-images"], paths["train-labels"])
    X_test, y_test, test_shape = _read_part(paths["test-images"], paths["test-labels"])
    if image_shape != test_shape:
        raise DataError(
            f"{paths['test-images']} holds images of shape {test_shape} but {paths['train-images']} "
            f"of shape {image_shape}; both parts must come from one data set"
        )
    origin = (str(paths["train-labels"]), str(paths["test-labels"]))
    return assemble(name, X_train, y_train, X_test, y_test, image_shape, origin)


def find_idx_files(folder: Path) -> dict[str, Path]:
    """Return the path of each of the four `ROLES` below ``folder``.

    A folder that holds all four by itself is taken; otherwise the four may be scattered, as long as
    each is there once.

    Raises
    ------
    MissingFilesError
        The folder or a role is missing.
    DataError
        A role is there more than once.
    """
    if not folder.is_dir():
        raise MissingFilesError(
            f"there is no folder {folder}; name one that holds IDX files, or digits, or mnist"
        )
    groups: dict[Path, dict[str, Path]] = defaultdict(dict)
    for path in sorted(folder.rglob("*")):
        if (named := _IDX_NAME.fullmatch(path.name)) and path.is_file():
            groups[path.parent].setdefault(f"{named['part'].replace('t10k', 'test')}-{named['kind']}", path)
    return _one_of_each(folder, groups)


def _one_of_each(folder: Path, groups: Mapping[Path, dict[str, Path]]) -> dict[str, Path]:
    complete = [parent for parent, found in groups.items() if len(found) == len(ROLES)]
    if len(complete) > 1:
        raise DataError(f"{folder} holds several data sets; name one of {', '.join(map(str, complete))}")
    sources: Iterable[dict[str, Path]] = [groups[complete[0]]] if complete else groups.values()
    found = {role: [files[role] for files in sources if role in files] for role in ROLES}
    if missing := [role for role in ROLES if not found[role]]:
        raise MissingFilesError(
            f"no {' and no '.join(missing)} below {folder}; files are called like train-images-idx3-ubyte.gz "
            f"or test-labels.gz, and `papershell data fetch mnist` downloads such a set"
        )
    if unclear := [role for role in ROLES if len(found[role]) > 1]:
        choices = ", ".join(map(str, found[unclear[0]]))
        raise DataError(f"{folder} holds {unclear[0]} more than once ({choices}); name one folder")
    return {role: paths[0] for role, paths in found.items()}


def read_images(path: Path) -> np.ndarray:
    """Read a file of images: uint8, at least one.

    Returns
    -------
    images : (N, height, width) or (N, height, width, 3) from an IDX file; (N, 3, 32, 32) from a ``.bin``
        file of CIFAR-10.
    """
    if path.suffix == ".bin":
        return cifar10.read_batch(path)[0].reshape(-1, *cifar10.IMAGE_SHAPE)
    images = read_idx(path)
    if images.dtype != np.uint8 or images.ndim < 3 or images.shape[3:] not in ((), (3,)):
        raise DataError(
            f"{path} holds {images.dtype} values of shape {images.shape}; images are unsigned bytes "
            f"(IDX type 0x08) of shape (N, height, width) or (N, height, width, 3)"
        )
    if not images.size:
        raise DataError(f"{path} holds no image: its shape is {images.shape}")
    return images


def read_labels(path: Path, n_images: int) -> np.ndarray:
    """Read an IDX file (or a ``.bin`` file of CIFAR-10) of ``n_images`` labels: (N,) integers."""
    labels = cifar10.read_batch(path)[1] if path.suffix == ".bin" else read_idx(path)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            f"{path} holds {labels.ndim}-dimensional {labels.dtype} values; "
            f"labels are integers in one dimension"
        )
    if len(labels) != n_images:
        raise DataError(
            f"{path} holds {len(labels)} labels for {n_images} images; each image needs one label"
        )
    return labels


def _read_part(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    X = read_images(images)
    return X.reshape(len(X), -1), read_labels(labels, len(X)), X.shape[1:]
