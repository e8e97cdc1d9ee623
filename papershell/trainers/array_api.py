"""The array library of an estimator's data: what a fit takes from it, and in which its results are given back.

With ``sklearn.set_config(array_api_dispatch=True)`` scikit-learn's rule is: everything follows X, the classes follow y.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils._array_api import check_same_namespace, get_namespace_and_device, move_to

from papershell.kernels import arrays
from papershell.kernels.logreg import validate

FITTED = ("float64", "float32", "float16", "bfloat16", "uint8", "int8")  # others become the first
HALVES = ("float16", "bfloat16")
NARROW = (*HALVES, "uint8", "int8")
ON_DEVICES = ("torch", "cupy")  # libraries whose arrays `kernels.fit_path` takes on their device

__all__ = ["check_same_namespace", "features", "give_back", "lying", "narrow", "on_host", "scores", "types"]


def lying(X: Any) -> Any:
    """Return X as scikit-learn's checks take it: without dispatch a tensor becomes a NumPy array on its memory."""
    _, dispatched, _ = get_namespace_and_device(X)
    return X if dispatched or arrays.library(X) not in ("torch", "jax", "jaxlib") else arrays.where_it_lies(X)


def types(X: Any) -> list[Any]:
    """Return the types that a fit keeps, of the library of X."""
    xp = get_namespace_and_device(X)[0]
    own = [getattr(xp, name) for name in FITTED if hasattr(xp, name)]
    return [*own, X.dtype] if isinstance(X, np.ndarray) and arrays.kind(X) == "bfloat16" else own


def on_host(array: Any) -> Any:
    """Return an array, or None, as a NumPy array of the same numbers."""
    if arrays.library(array) in ON_DEVICES:
        return arrays.on_host(arrays.where_it_lies(array))  # knows bfloat16
    return move_to(array, xp=np, device="cpu")


def narrow(X: Any) -> bool:
    """Return whether X is an array of bytes or halves, which no library multiplies with floats as they are."""
    return hasattr(X, "dtype") and arrays.kind(X) in NARROW


def scores(X: Any, coef: Any, intercept: Any) -> Any:
    """Return X (N, P) coef' + intercept (N, K), or (N,) of one row, X in the type of ``coef`` block by block.

    Raises
    ------
    ValueError
        X holds NaN or infinity.
    """
    validate.magnitude(X)
    xp = get_namespace_and_device(X)[0]
    blocks = (X[rows] for rows in arrays.row_blocks(X))
    parts = [xp.astype(block, coef.dtype) @ coef.T + intercept for block in blocks]
    found = xp.concat(parts, axis=0)
    return found[:, 0] if coef.shape[0] == 1 else found


def features(X: Any) -> Any:
    """Return checked X for `kernels.fit_path`: where it lies, or on the host if that library has devices of its own."""
    return X if isinstance(X, np.ndarray) or arrays.library(X) in ON_DEVICES else on_host(X)


def give_back(estimator: Any, X: Any, y: Any) -> None:
    """Move the fitted arrays of ``estimator`` to the library and device of X, numbers of ``classes_`` to those of y."""
    xp, dispatched, device = get_namespace_and_device(X)
    if not dispatched:
        return
    for name, value in list(vars(estimator).items()):
        if isinstance(value, np.ndarray) and name not in ("classes_", "feature_names_in_"):
            setattr(estimator, name, move_to(value, xp=xp, device=device))
    if estimator.classes_.dtype.kind in "biuf":
        xp, _, device = get_namespace_and_device(y)
        estimator.classes_ = move_to(estimator.classes_, xp=xp, device=device)
