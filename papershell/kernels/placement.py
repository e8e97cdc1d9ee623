"""Arrays handed to a back end: in its library, on its device."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from papershell.kernels import arrays
from papershell.kernels.backends import require, torch_has_cuda


def place(array: np.ndarray, backend: str) -> Any:
    """Return ``array`` as an array of the library of ``backend``, on the device that it computes on.

    Parameters
    ----------
    array : contiguous, writable, of a native type that the library has.
    backend : ``numpy`` and ``numba`` compute on NumPy arrays: the result is ``array`` itself. ``torch``
        uploads it to the CUDA device if there is one and otherwise gives a tensor that shares its memory;
        ``cupy`` and ``numba-cuda`` upload it to the current device.

    Raises
    ------
    BackendError
        The back end is unknown or absent.
    """
    return _PLACES[require(backend).name](array)


def follow(array: Any, backend: str) -> tuple[Any, str]:
    """Return ``array`` and the name of a back end that computes where it lies.

    Parameters
    ----------
    array : of `arrays.where_it_lies`. One of a CUDA device goes from PyTorch to CuPy or back without a copy.
    backend : a name; ``auto`` becomes the library of an array of a device, and stays ``auto`` for one of the host.

    Raises
    ------
    ValueError
        The array lies on a device that the back end does not compute on.
    """
    where = arrays.device(array)
    if where == "cpu":
        return array, backend
    own = arrays.library(array)
    name = own if backend == "auto" else backend
    if name not in ("torch", "cupy") or not where.startswith("cuda"):
        device = "CUDA devices" if name in ("torch", "cupy") else "the CPU"
        raise ValueError(
            f"X lies on {where}, but back end {name!r} computes on {device}; copy X there, or leave out backend"
        )
    return (array if name == own else importlib.import_module(name).from_dlpack(array)), name


def shared_tensor(array: np.ndarray) -> Any:
    """Return a PyTorch tensor on the memory of ``array``, to be read only: a read-only array will do.

    PyTorch knows neither negative strides nor a foreign order of bytes: of such an array it gets a copy.
    """
    torch = importlib.import_module("torch")
    if not array.dtype.isnative or min(array.strides, default=0) < 0:
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        if arrays.kind(array) == "bfloat16":  # of ml_dtypes, which PyTorch does not know
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)


def _on_torch(array: np.ndarray) -> Any:
    tensor = importlib.import_module("torch").from_numpy(array)
    return tensor.to("cuda") if torch_has_cuda() else tensor


_PLACES: dict[str, Callable[[np.ndarray], Any]] = {
    "numpy": lambda array: array,
    "numba": lambda array: array,
    "torch": _on_torch,
    "cupy": lambda array: importlib.import_module("cupy").asarray(array),
    "numba-cuda": lambda array: importlib.import_module("numba.cuda").to_device(array),
}
