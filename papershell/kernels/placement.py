"""Arrays handed to a back end: in its library, on its device."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

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


def shared_tensor(array: np.ndarray) -> Any:
    """Return a PyTorch tensor on the memory of ``array``, to be read only: a read-only array will do."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return importlib.import_module("torch").from_numpy(array)


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
