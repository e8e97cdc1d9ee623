"""What `fit_path` accepts; everything else is a ValueError of one sentence: what, where, what to do."""

from __future__ import annotations

from typing import Any

import numpy as np

from papershell.kernels import arrays
from papershell.kernels.logreg.losses import LOSSES
from papershell.kernels.threads import pool

LARGEST_NUMBER, LARGEST_SOLVED = 1e150, 1e18  # float64 holds squares of the one, float32 of the other
LARGEST_BYTE = {"uint8": 255.0, "int8": 128.0}


def features(X: Any) -> Any:
    """Return X (N, P) where it lies, of one of `arrays.KEPT`, or raise ValueError; `magnitude` looks at the numbers.

    Truth values become bytes on the same memory; numbers of other types become float64, in a copy.
    """
    if hasattr(X, "toarray"):
        raise ValueError("X is sparse; pass a dense array, as X.toarray() makes")
    X = arrays.where_it_lies(X)
    if X.ndim != 2 or 0 in X.shape:
        raise ValueError(
            f"X must be (samples, features) with at least one of each, got shape {tuple(X.shape)}; reshape it"
        )
    kind = arrays.kind(X)
    if kind in arrays.KEPT:
        return X
    if not isinstance(X, np.ndarray) or X.dtype.kind not in "fiub":
        raise ValueError(f"X has elements of type {kind}; pass bytes or real numbers")
    return X.view(np.uint8) if kind == "bool" else X.astype(np.float64)


def magnitude(X: Any) -> float:
    """Return max |x| of `features`, of bytes the largest possible, or raise ValueError if one is huge or not finite."""
    if arrays.kind(X) in LARGEST_BYTE:
        return LARGEST_BYTE[arrays.kind(X)]
    each = pool().map if isinstance(X, np.ndarray) and X.nbytes > arrays.BLOCK_BYTES else map
    largest = np.fromiter(each(lambda block: arrays.largest_magnitude(X[block]), arrays.row_blocks(X)), float)
    if not np.isfinite(largest).all():
        raise ValueError(not_finite(X))
    return no_larger(float(largest.max()), LARGEST_NUMBER)


def no_larger(largest: float, bound: float) -> float:
    """Return the largest magnitude of a feature, or raise ValueError if it exceeds the bound."""
    if largest > bound:
        raise ValueError(
            f"X holds numbers up to {largest:.0e}; divide the features, so that none exceeds {bound:g}"
        )
    return largest


def not_finite(X: Any) -> str:
    """Return the sentence that says which rows of X hold NaN or infinity."""
    parts = (arrays.on_host(X[block]) for block in arrays.row_blocks(X))
    bad = np.concatenate([~np.isfinite(part).all(axis=1) for part in parts])
    return f"X holds NaN or infinity in {bad.sum()} rows, the first is row {bad.argmax()}; drop or fill them"


def host_array(values: Any) -> np.ndarray:
    """Return labels or weights, a few numbers a sample, on the host."""
    return arrays.on_host(arrays.where_it_lies(values))


def labels(y: Any, n_samples: int) -> np.ndarray:
    """Return the labels (N,) as int64 in 0..K-1 on the host, or raise ValueError."""
    y = host_array(y)
    if y.shape != (n_samples,):
        raise ValueError(f"X has {n_samples} samples but y has shape {y.shape}; pass one label a sample")
    if y.dtype.kind not in "iu" or y.min() < 0:
        raise ValueError(
            "y must hold integer labels 0..K-1; map others with numpy.unique(..., return_inverse=True)"
        )
    present = np.unique(y)
    if present.size < 2:
        raise ValueError("y holds one class only; a classifier needs samples of at least two")
    gap = present != np.arange(present.size)
    if gap.any():
        raise ValueError(
            f"no sample has label {gap.argmax()} though label {present[-1]} occurs; number the classes 0..K-1"
        )
    return y.astype(np.int64)


def known_labels(y: Any, n_samples: int, n_classes: int) -> np.ndarray:
    """Return labels (N,) as int64 in 0..K-1, of which some may be absent, or raise ValueError."""
    y = host_array(y)
    if y.shape != (n_samples,):
        raise ValueError(f"X has {n_samples} samples but y has shape {y.shape}; pass one label a sample")
    if y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= n_classes:
        raise ValueError(
            f"y must hold integer labels 0..{n_classes - 1}, the classes that the path was fitted with; "
            f"leave out samples of others"
        )
    return y.astype(np.int64)


def rates(l2: Any) -> np.ndarray:
    """Return the rates (R,), or raise ValueError."""
    try:
        rates = np.atleast_1d(np.asarray(l2, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise ValueError(f"l2 must be a number or a list of rates, got {l2!r}") from error
    if rates.ndim != 1 or not rates.size:
        raise ValueError(
            f"l2 must be a number or a list of rates, got shape {rates.shape}; pass at least one rate"
        )
    if not (np.isfinite(rates).all() and (rates >= 0).all()):
        raise ValueError(
            f"l2 holds {rates[~(np.isfinite(rates) & (rates >= 0))][0]}; a rate is a finite number >= 0"
        )
    return rates


def weight(weight: np.ndarray | None, n_samples: int) -> np.ndarray:
    """Return the sample weights (N,), or raise ValueError."""
    if weight is None:
        return np.ones(n_samples)
    weight = host_array(weight).astype(np.float64)
    if weight.shape != (n_samples,):
        raise ValueError(
            f"sample_weight has shape {weight.shape} but X has {n_samples} samples; pass one weight a sample"
        )
    if not (np.isfinite(weight).all() and (weight >= 0).all() and weight.any()):
        raise ValueError("sample_weight must be finite, >= 0 and not all zero")
    return weight


def folds(folds: np.ndarray | None, weight: np.ndarray, n_samples: int) -> np.ndarray:
    """Return the weights of every fold (F, N), or raise ValueError."""
    if folds is None:
        return weight[None]
    folds = host_array(folds).astype(np.float64)
    if folds.ndim != 2 or folds.shape[1] != n_samples or not len(folds):
        raise ValueError(f"folds must be masks of shape (folds, {n_samples}), got {folds.shape}")
    folds = each_fold(folds) * weight
    return each_fold(folds)


def evaluation_weight(weight: Any, n_samples: int, n_folds: int) -> np.ndarray:
    """Return the weights (1, N) of samples that all folds share, or (F, N), or raise ValueError."""
    if weight is None:
        return np.ones((1, n_samples))
    weight = host_array(weight).astype(np.float64)
    if weight.shape not in ((n_samples,), (n_folds, n_samples)):
        raise ValueError(
            f"sample_weight has shape {weight.shape} but X has {n_samples} samples and the path {n_folds} folds; "
            f"pass one weight a sample, or a row of them for each fold"
        )
    return each_fold(np.atleast_2d(weight))


def each_fold(folds: np.ndarray) -> np.ndarray:
    """Return ``folds`` if each row has finite weights >= 0, not all zero; else raise ValueError."""
    good = np.isfinite(folds).all(axis=1) & (folds >= 0).all(axis=1) & folds.any(axis=1)
    if not good.all():
        raise ValueError(f"fold {good.argmin()} has no sample, or weights that are negative or not finite")
    return folds


def standardize(X: Any, standardize: bool) -> None:
    """Raise ValueError if X is to be standardized and holds bytes, of which the engines make no other numbers."""
    if standardize and arrays.kind(X) in LARGEST_BYTE:
        raise ValueError("bytes cannot be standardized; pass floats, or leave out standardize")


def scale(scale: float | None) -> float:
    """Return the factor of X, 1 by default, or raise ValueError."""
    scale = 1.0 if scale is None else float(scale)
    if not np.isfinite(scale):
        raise ValueError(f"scale is {scale}; it must be a finite number, for example 1 / 255")
    return scale


def loss(loss: str) -> str:
    """Return ``loss`` if it is known, or raise ValueError."""
    if loss not in LOSSES:
        raise ValueError(f"unknown loss {loss!r}; choose one of {', '.join(LOSSES)}")
    return loss


def limits(tol: float | None, gap: float | None, max_iter: int, logits_bytes: int) -> None:
    """Raise ValueError if the iteration could not know when to end, or how much it may keep."""
    for name, value in (("tol", tol), ("gap", gap), ("max_iter", max_iter)):
        if value is not None and not value >= 0:
            raise ValueError(f"{name} must be >= 0, got {value!r}; give a number such as 1e-4, or 1000 steps")
    if not isinstance(logits_bytes, int | np.integer) or logits_bytes < 1:
        raise ValueError(
            f"settings.logits_bytes must be a whole number of bytes, at least 1, got {logits_bytes!r}; "
            f"give one such as 2 << 30"
        )
