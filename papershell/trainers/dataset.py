"""A data set: samples and their labels, in a training part and mostly a test part."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from papershell.kernels import arrays
from papershell.trainers import cifar10

KNOWN = {"57736647": "digits", "3528fddb": "mnist"}  # by fingerprint
NAMED = ("digits", "mnist", "cifar10")


class DataError(ValueError):
    """A data set is absent or its files do not fit together; the message says how to mend it."""


@dataclass(frozen=True)
class Dataset:
    """Samples and labels, split into a training and a test part.

    Attributes
    ----------
    name : as the user calls it.
    X_train, X_test : (N, P) bytes or floats, one sample a row, in memory or mapped; pixels are uint8, 0 to 255. A data
        set without a test part has an ``X_test`` without rows.
    y_train, y_test : (N,) integers or strings, the labels as they stand in the files.
    image_shape : the shape of one sample before it became a row: ``(28, 28)``, ``(32, 32, 3)`` for colours
        side by side, ``(3, 32, 32)`` for colour planes; ``(P,)`` if the samples are no images.
    classes : (K,) the sorted distinct training labels.
    """

    name: str
    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    image_shape: tuple[int, ...]
    classes: np.ndarray

    @property
    def noun(self) -> str:
        """What messages call one sample."""
        return "image" if self.are_images else "sample"

    @property
    def are_images(self) -> bool:
        """Whether a sample can be drawn: bytes of a height and a width, in gray or three colours."""
        colours = 3 if len(self.image_shape) == 2 else (self.image_shape[0], self.image_shape[-1]).count(3)
        return self.X_train.dtype == np.uint8 and len(self.image_shape) in (2, 3) and colours > 0

    def pictures(self, X: np.ndarray) -> np.ndarray:
        """Return rows of `X_train` or `X_test` as one draws them: (n, height, width) or (n, height, width, 3)."""
        images = X.reshape(-1, *self.image_shape)
        return np.moveaxis(images, 1, 3) if images.ndim == 4 and images.shape[3] != 3 else images

    @cached_property
    def fingerprint(self) -> str:
        """CRC-32 of all samples and labels, in hexadecimal: it tells data sets apart, whatever they are called."""
        crc = 0
        for array in (self.X_train, self.y_train, self.X_test, self.y_test):
            for piece in _pieces(array):
                crc = zlib.crc32(piece, crc)
        return f"{crc:08x}"

    @property
    def title(self) -> str:
        """The name by which models made from it are registered: letters, digits, ``_``, ``-`` and dots.

        ``digits``, ``mnist`` and ``cifar10`` stand for those sets alone, wherever they lie; other data have the
        name of their folder or file, with the fingerprint behind it if one of those sets has that name.
        """
        if known := "cifar10" if _is_cifar10(self) else KNOWN.get(self.fingerprint):
            return known
        name = re.sub(r"[^\w.-]+", "-", self.name, flags=re.ASCII).strip("-.") or "data"
        return f"{name}-{self.fingerprint}" if name in NAMED else name


def assemble(
    name: str,
    X_train: np.ndarray,
    y_train: np.ndarray,
    X_test: np.ndarray,
    y_test: np.ndarray,
    image_shape: tuple[int, ...],
    origin: tuple[str, str],
) -> Dataset:
    """Return the data set of two parts that were read, or raise `DataError`.

    Parameters
    ----------
    origin : the names of the training and the test labels in messages.
    """
    classes = np.unique(y_train)
    data = Dataset(name, X_train, y_train, X_test, y_test, image_shape, classes)
    if len(classes) < 2:
        raise DataError(f"{origin[0]} holds one class only; a classifier needs two or more")
    if len(y_test) and (y_test.dtype.kind == "U") != (y_train.dtype.kind == "U"):
        raise DataError(
            f"{origin[1]} holds {y_test.dtype} labels but {origin[0]} {y_train.dtype}; use one kind"
        )
    if len(unknown := np.setdiff1d(y_test, classes)):
        raise DataError(
            f"{origin[1]} holds the label {unknown[0]}, which no training {data.noun} has; "
            f"remove those {data.noun}s or add training {data.noun}s of that class"
        )
    return data


def _pieces(array: np.ndarray) -> Iterator[bytes | memoryview]:
    """The bytes that count for the fingerprint: integer labels as int64, whatever type holds them."""
    if array.ndim == 1:
        yield "\0".join(array).encode() if array.dtype.kind == "U" else array.astype("<i8").tobytes()
        return
    for part in arrays.blocks(len(array), array[:1].nbytes):
        yield np.ascontiguousarray(array[part]).view(np.uint8).data


def _is_cifar10(data: Dataset) -> bool:
    """Whether the data have CIFAR-10's shape and counts: its images come in several orders and encodings."""
    if data.image_shape != cifar10.IMAGE_SHAPE or data.y_train.dtype.kind not in "iu":
        return False
    counts = [np.unique(y, return_counts=True)[1].tolist() for y in (data.y_train, data.y_test)]
    return counts == [[5000] * 10, [1000] * 10]
