"""Pixels to numbers: ``(x * scale - mean) / std``, one file per target."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from papershell.kernels.backends import implementation
from papershell.kernels.normalize.contract import numba_is_faster

_DEVICE_BACKENDS = {"torch": "torch", "cupy": "cupy", "numba": "numba-cuda"}  # by the library of the images


def normalize(
    images: Any,
    *,
    scale: ArrayLike = 1 / 255,
    mean: ArrayLike = 0.0,
    std: ArrayLike = 1.0,
    dtype: Any = "float32",
    out: Any = None,
    backend: str = "auto",
) -> Any:
    """Return ``(images * scale - mean) / std``, computed in the output type.

    Exactly: with ``x = images.astype(dtype)`` and ``scale``, ``mean`` and ``std`` each rounded once to
    ``dtype``, the result is bit for bit NumPy's ``((x * scale) - mean) / std``, every operation rounded
    to ``dtype``. So ``scale=1, std=255, dtype="float64"`` gives the bits of ``images / 255.0``, and the
    default gives those of ``images.astype("float32") * np.float32(1 / 255)``.

    Parameters
    ----------
    images : real array of any shape and memory order: NumPy, or a tensor or device array of the back end.
        The device back ends (torch, cupy, numba-cuda) upload a NumPy array as it is and return theirs.
    scale, mean, std : numbers or arrays that broadcast against ``images`` as in NumPy: shape (C,) is one
        value per channel for images (..., C), shape (C, 1, 1) for images (..., C, height, width).
    dtype : ``float32``, ``float16`` or ``float64``; with torch also ``bfloat16``.
    out : receives the result; contiguous or not, of the shape of ``images`` and of type ``dtype``.
    backend : ``auto`` keeps the images on their device: for NumPy arrays ``numba`` from 2^20 pixels on, or from
        2^16 if its kernels are loaded, and ``numpy`` below; else the back end of their library. ``numba-cuda`` takes
        bytes only.

    Returns
    -------
    array : of the shape of ``images`` and type ``dtype``, in the back end's library; ``out`` if it was given.

    Raises
    ------
    ValueError
        A constant does not broadcast, ``std`` is zero, or ``out`` has another shape or type.
    BackendError
        The back end is absent or has no such output type.
    """
    name = fastest_backend(images) if backend == "auto" else backend
    operation = implementation("normalize", name).normalize
    return operation(images, scale=scale, mean=mean, std=std, dtype=dtype, out=out)


def fastest_backend(images: Any) -> str:
    """Return the back end that ``auto`` means for ``images``."""
    library = type(images).__module__.partition(".")[0]
    if library in _DEVICE_BACKENDS:
        return _DEVICE_BACKENDS[library]
    return "numba" if numba_is_faster(np.size(images)) else "numpy"
