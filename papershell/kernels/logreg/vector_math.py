"""exp and log that LLVM turns into vectors, and how kernels on logits are compiled."""

from __future__ import annotations

import numba
import numpy as np

LOG2_E = 1.4426950408889634
LN2_HIGH = 6.93147180369123816490e-01  # ln 2 in two parts (fdlibm e_exp.c): n * LN2_HIGH is exact
LN2_LOW = 1.90821492927058770002e-10
LN2 = LN2_HIGH + LN2_LOW
SMALLEST_EXPONENT = -708.0  # exp of less would be subnormal
ROOT_HALF_BITS = 0x3FE6A09E667F3BCD  # of sqrt(1/2) as a float64

# Contraction to FMA is allowed, reassociation is not: a rate's sums must not depend on its companions.
jit = numba.njit(cache=True, fastmath={"contract"}, error_model="numpy", nogil=True)
inline = numba.njit(inline="always", fastmath={"contract"}, error_model="numpy")


@inline
def exp(x):
    """exp(x) for x <= 0 to 1 ulp or two, without a branch or a call, so that LLVM vectorizes it."""
    x = max(x, SMALLEST_EXPONENT)
    n = np.rint(x * LOG2_E)
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    p = 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    return p * np.int64((np.int64(n) + 1023) << 52).view(np.float64)


@inline
def log(x):
    """log(x) of a normal number to 1 ulp or two (the series of fdlibm e_log.c), vectorized likewise."""
    bits = np.float64(x).view(np.int64)
    n = (bits - ROOT_HALF_BITS) >> 52
    f = np.int64(bits - (n << 52)).view(np.float64) - 1.0
    s = f / (2.0 + f)
    w = s * s
    p = 1.479819860511658591e-01
    p = p * w + 1.531383769920937332e-01
    p = p * w + 1.818357216161805012e-01
    p = p * w + 2.222219843214978396e-01
    p = p * w + 2.857142874366239149e-01
    p = p * w + 3.999999999940941908e-01
    p = p * w + 6.666666666666735130e-01
    return n * LN2 + (2.0 * s + s * w * p) + (x - x)  # NaN of NaN
