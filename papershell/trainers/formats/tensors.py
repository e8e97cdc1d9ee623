"""The arrays of a safetensors file, mapped: the library checks the header, and the bytes stay on the disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

_TYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "I16": "<i2", "U16": "<u2", "I32": "<i4", "U32": "<u4", "I64": "<i8",
    "U64": "<u8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip


def map_tensors(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a safetensors file without reading them: the system loads each page on first use.

    The library `safetensors` checks that the tensors cover the file without gaps and that no header claims more than
    it has. It would copy each tensor, and make a float32 of a bfloat16; this function maps them.

    Returns
    -------
    arrays : read-only, by name; those of types that NumPy lacks, but for bfloat16, are left out.

    Raises
    ------
    ValueError
        The file is damaged.
    ModuleNotFoundError
        ``safetensors`` is absent, or for bfloat16 ``ml_dtypes``.
    OSError
        The file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass  # every size in the header is sound now
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    with open(path, "rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(header_bytes))
    header.pop("__metadata__", None)
    known = {name: tensor for name, tensor in header.items() if tensor["dtype"] in (*_TYPES, "BF16")}
    return {name: _map(path, 8 + header_bytes, tensor) for name, tensor in known.items()}


def _map(path: Path, start: int, tensor: dict[str, Any]) -> np.ndarray:
    shape, (first, last) = tuple(tensor["shape"]), tensor["data_offsets"]
    dtype = bfloat16() if tensor["dtype"] == "BF16" else np.dtype(_TYPES[tensor["dtype"]])
    if first == last:
        return np.empty(shape, dtype)  # the system maps no empty file
    return np.memmap(path, dtype, "r", start + first, shape)


def bfloat16() -> np.dtype:
    """Return NumPy's type of bfloat16, which the package ``ml_dtypes`` has."""
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)
