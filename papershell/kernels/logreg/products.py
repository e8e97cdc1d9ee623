"""Products of bytes and weights in slices: exact integers, or sums of bfloat16 numbers.

X may stay uint8. Three routes multiply it with float weights and never make the scaled copy
(the scale is folded into the weights):

    float      blocks of rows converted to float32 or float64, BLAS
    integer    every weight an integer of a few balanced base-256 digits, its slices (fixed point relative to
               its column's largest), every product exact in int32
    bfloat16   every weight the sum of a few numbers of 8 bits, every product exact in float32, which they are
               added up in: `papershell.kernels.logreg.on_torch_cuda`

Three digits are float32 grade, six are float64 grade. Integer sums are exact, so the result
depends on no summation order, thread count or machine. Reference for products of slices:
Ootomo, Ozaki, Yokota, "DGEMM on integer matrix multiplication unit" (2024), section 3; here
one operand is a byte already, which saves its splitting.
"""

from __future__ import annotations

import numpy as np

SMALLEST_COLUMN = 1e-280  # a column below is zero; its digits' unit must not be subnormal
LARGEST_INTEGER_SUM = 65_536  # terms of 255 * 128 whose sum an int32 holds


def largest_fixed_point(slices: int) -> int:
    """Return the largest integer that ``slices`` balanced base-256 digits (-128..127) can write."""
    return 127 * (256**slices - 1) // 255


def split_digits(W: np.ndarray, slices: int) -> tuple[np.ndarray, np.ndarray]:
    """Write the columns of ``W`` in fixed point.

    Parameters
    ----------
    W : (P, C) float64.
    slices : digits a number; at most 6, which is 47 bits beside the sign.

    Returns
    -------
    digits : (P, slices * C) int8, most significant slice first.
    unit : (C,) float64; ``sum_s digits[:, s*C:(s+1)*C] * 256**(slices-1-s) * unit`` is W rounded.
    """
    largest = np.abs(W).max(axis=0, initial=0.0)
    unit = np.maximum(largest, SMALLEST_COLUMN) / largest_fixed_point(slices)
    q = np.rint(W / unit).astype(np.int64)
    digits = np.empty((W.shape[0], slices, W.shape[1]), np.int8)
    for slice in range(slices - 1, -1, -1):
        digits[:, slice] = q  # the last eight bits, as a number from -128 to 127
        q = (q + 128) >> 8
    return digits.reshape(W.shape[0], -1), unit


def join_digits(sums: np.ndarray, slices: int) -> np.ndarray:
    """Return the float64 numbers (..., C) that sums of digits (..., slices * C) make, in units of the last."""
    shaped = sums.reshape(*sums.shape[:-1], slices, -1).astype(np.float64)
    total = shaped[..., 0, :]
    for slice in range(1, slices):
        total = total * 256.0 + shaped[..., slice, :]
    return total
