"""Arrays of any library: taken where they lie, and their rows as NumPy arrays.

An array of the host, whoever made it, is used as a NumPy array on the same memory; one of a CUDA device stays a tensor
of PyTorch or an array of CuPy. No function here copies between devices but `on_host`, which says so.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np

# Types that engines convert block by block
KEPT = ("uint8", "int8", "float16", "bfloat16", "float32", "float64")
BLOCK_BYTES = 4 << 20  # of rows that are looked at together
HOST_DEVICES = (1, 3)  # of DLPack: memory of the CPU, and such that a CUDA device reaches too
HALF_BITS = np.int32(-0x70002000)  # 0x8FFFE000: the bits of a float16, 13 further left


def where_it_lies(values: Any) -> Any:
    """Return ``values`` as an array on the memory that holds them.

    Parameters
    ----------
    values : a NumPy, PyTorch, CuPy or JAX array, one of any library that knows DLPack or ``__array__``, a pandas or
        polars frame or series, or nested lists. Lists, a frame of several types and one of polars are copied.

    Returns
    -------
    array : `numpy.ndarray` if they lie on the host, else a `torch.Tensor` or `cupy.ndarray` on their device.

    Raises
    ------
    ValueError
        PyTorch holds bfloat16 numbers of the host, and ml_dtypes, which NumPy needs for them, is not installed; or
        neither PyTorch nor CuPy can take an array of a device.
    """
    if library(values) == "torch":
        values = values.detach()
        return values if values.device.type != "cpu" else _tensor_of_the_host(values)
    if library(values) == "cupy" or isinstance(values, np.ndarray):
        return np.asarray(values) if isinstance(values, np.ndarray) else values
    if hasattr(values, "__dlpack_device__") and values.__dlpack_device__()[0] not in HOST_DEVICES:
        return _taken_over(values)
    return np.asarray(values)


def library(values: Any) -> str:
    """Return the package that defines the type of ``values``; loads nothing."""
    return type(values).__module__.partition(".")[0]


def device(array: Any) -> str:
    """Return ``cpu``, or the CUDA device of an array of `where_it_lies`: ``cuda:0``."""
    if isinstance(array, np.ndarray):
        return "cpu"
    return str(array.device) if library(array) == "torch" else f"cuda:{array.device.id}"


def kind(array: Any) -> str:
    """Return the name of an array's type, whatever the order of its bytes: ``float16``."""
    return array.dtype.name if hasattr(array.dtype, "name") else str(array.dtype).removeprefix("torch.")


def on_host(array: Any) -> np.ndarray:
    """Return an array of `where_it_lies` as a NumPy array: itself, or a copy from its device."""
    if isinstance(array, np.ndarray):
        return array
    if library(array) == "torch":
        return (array.float() if kind(array) == "bfloat16" else array).cpu().numpy()
    return array.get()


def host_rows(X: Any, index: Any) -> np.ndarray:
    """Return the rows ``index`` of X (N, P) on the host; float16 and bfloat16 as float32, other types as they are."""
    if isinstance(X, np.ndarray) or isinstance(index, slice):
        return floats(on_host(X[index]))
    if library(X) == "torch":
        index = importlib.import_module("torch").as_tensor(index, device=X.device)
    return floats(on_host(X[index]))


def floats(X: np.ndarray) -> np.ndarray:
    """Return float16 and bfloat16 numbers, finite, as float32, exactly; arrays of other types as they are.

    NumPy takes seven times as long to widen a float16: its exponent and fraction mean the same in a float32 13 bits
    further left, but for a factor of 2**112.
    """
    if kind(X) == "bfloat16":
        return X.astype(np.float32)
    if X.dtype != np.float16 or not X.dtype.isnative:
        return X
    bits = X.view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= HALF_BITS
    wide = bits.view(np.float32)
    wide *= np.float32(2.0**112)
    return wide


def largest_magnitude(X: Any) -> float:
    """Return max |x| of an array of numbers wherever it lies, not finite if one of them is not."""
    if isinstance(X, np.ndarray) and kind(X) in ("float16", "bfloat16") and X.dtype.isnative:
        bits = (
            X.view(np.uint16) & np.uint16(0x7FFF)
        ).max()  # without a sign they are ordered as the numbers are
        return float(np.array(bits, np.uint16).view(X.dtype))
    return float(np.maximum(float(X.max()), -float(X.min())))


def row_blocks(X: Any) -> Iterator[slice]:
    """Cut the rows of X (N, P) into blocks of at most `BLOCK_BYTES`, or of one row."""
    return blocks(X.shape[0], X.shape[1] * X.dtype.itemsize)


def blocks(n_rows: int, row_bytes: int, block_bytes: int | None = None) -> Iterator[slice]:
    """Cut ``n_rows`` rows into blocks of at most ``block_bytes`` (`BLOCK_BYTES` if not given), or of one row."""
    size = max(1, (block_bytes or BLOCK_BYTES) // max(1, row_bytes))
    return (slice(first, min(first + size, n_rows)) for first in range(0, n_rows, size))


def _tensor_of_the_host(tensor: Any) -> np.ndarray:
    if kind(tensor) != "bfloat16":
        return tensor.numpy()
    try:
        bfloat16 = importlib.import_module("ml_dtypes").bfloat16
    except ImportError as error:
        raise ValueError(
            "bfloat16 on the CPU needs ml_dtypes; pip install 'papershell[torch]' adds it"
        ) from error
    return tensor.view(importlib.import_module("torch").int16).numpy().view(bfloat16)


def _taken_over(values: Any) -> Any:
    """Return an array of another library's on its device, by DLPack."""
    for name in ("torch", "cupy"):
        try:
            return importlib.import_module(name).from_dlpack(values)
        except Exception as error:  # absent, without CUDA, or of a type it lacks: the other may do
            reason = error
    raise ValueError(
        f"an array of {library(values)} on a device can be used by neither PyTorch nor CuPy: {reason}"
    )
