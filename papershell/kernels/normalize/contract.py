"""Shared by all targets of `normalize`: output types, constants, steps, tables, and the check of ``out``."""

from __future__ import annotations

import math
import sys
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from papershell.kernels.backends import BackendError

_NUMBA_PIXELS = 1 << 20  # NumPy finishes fewer before Numba's kernel is loaded
_LOADED_PIXELS = 1 << 16  # and of fewer, the call of a loaded kernel takes longer than the work


def numba_is_faster(pixels: int) -> bool:
    """Whether Numba's kernel finishes so many pixels first, its loading counted if this process has not loaded it."""
    loaded = "papershell.kernels.normalize.on_numba" in sys.modules
    return pixels >= (_LOADED_PIXELS if loaded else _NUMBA_PIXELS)


def real_array(images: ArrayLike) -> np.ndarray:
    """Return ``images`` as a NumPy array, or raise ValueError if they are not real numbers."""
    array = np.asarray(images)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"images must be an array of real numbers, found {array.dtype}")
    return array


def dtype_name(dtype: Any, supported: tuple[str, ...], backend: str) -> str:
    """Return the name of an output type given as a string, a NumPy or a torch dtype.

    Raises
    ------
    BackendError
        The back end has no such output type.
    """
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = str(dtype).removeprefix("torch.")
    if name not in supported:
        raise BackendError(f"back end {backend!r} normalizes to {', '.join(supported)}, not {name}")
    return name


class Constants(NamedTuple):
    """``scale``, ``mean`` and ``std`` rounded to the output type, as NumPy arrays of rank 0 or more."""

    scale: np.ndarray
    mean: np.ndarray
    std: np.ndarray


def constants(
    scale: ArrayLike, mean: ArrayLike, std: ArrayLike, dtype: Any, shape: tuple[int, ...]
) -> Constants:
    """Return the three constants in ``dtype``, checked against images of ``shape``.

    Raises
    ------
    ValueError
        A standard deviation is zero in ``dtype``, or a constant does not broadcast to ``shape``.
    """
    rounded = Constants(*(np.asarray(value, dtype=dtype) for value in (scale, mean, std)))
    for name, value in rounded._asdict().items():
        if value.shape and not _broadcasts(value.shape, shape):
            raise ValueError(f"{name} of shape {value.shape} does not broadcast to images of shape {shape}")
    if not np.all(rounded.std):
        raise ValueError(f"std must not be zero (in {np.dtype(dtype).name}); found {rounded.std}")
    return rounded


def steps(given: Constants) -> list[tuple[str, np.ndarray]]:
    """Return the operations of the formula by NumPy's names, with their operands, but those that change no bit."""
    operations = zip(("multiply", "subtract", "divide"), (1.0, 0.0, 1.0), given, strict=True)
    return [(name, value) for name, identity, value in operations if not _is_number(value, identity)]


def _is_number(value: np.ndarray, number: float) -> bool:
    """Whether ``value`` is this one number; -0.0 is not 0.0: subtracted from -0.0 it gives another zero."""
    if value.size != 1 or value.item() != number:
        return False
    return math.copysign(1.0, value.item()) == 1.0


def check_out(out: Any, kind: Any, shape: tuple[int, ...], dtype: str) -> None:
    """Raise ValueError unless ``out`` is a ``kind`` of array of the shape and type asked for."""
    if not isinstance(out, kind):
        raise ValueError(f"out must be a {kind.__module__}.{kind.__qualname__}, found {type(out).__name__}")
    found = (tuple(out.shape), str(out.dtype).removeprefix("torch."))
    if found != (tuple(shape), dtype):
        raise ValueError(
            f"out must have shape {tuple(shape)} and dtype {dtype}, found {found[0]} and {found[1]}"
        )
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError("out must be writable, found a read-only array")


class Tables(NamedTuple):
    """The answer for each byte and channel.

    Attributes
    ----------
    values : (channels, 256) in the output type.
    run : number of neighbouring pixels that share a channel.
    """

    values: np.ndarray
    run: int


def tables(given: Constants, shape: tuple[int, ...]) -> Tables | None:
    """Return the tables for bytes of ``shape``, or None if the constants vary along several axes."""
    rank = len(shape)
    padded = [value.reshape((1,) * (rank - value.ndim) + value.shape) for value in given]
    varying = {axis for value in padded for axis in range(rank) if value.shape[axis] != 1}
    if len(varying) > 1:
        return None
    axis = varying.pop() if varying else None
    columns = [value.reshape(-1, 1) for value in padded]
    levels = np.arange(256).astype(given.scale.dtype)
    values = np.ascontiguousarray((levels * columns[0] - columns[1]) / columns[2])
    return Tables(values, math.prod(shape if axis is None else shape[axis + 1 :]))


def _broadcasts(given: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(given, shape) == tuple(shape)
    except ValueError:
        return False
