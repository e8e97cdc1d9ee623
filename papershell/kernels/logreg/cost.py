"""The cost model."""
import numpy as np
from papershell.kernels import backends
def choose_backend(N, P, K, problems, dtype):
    logits = N * problems * K
    if logits * P >= 100_000_000:
        if backends.has_cuda():
            return "torch" if backends.torch_has_cuda() else "cupy"
        if dtype == np.uint8 and backends.has_matrix_units() and backends.is_available("torch"):
            return "torch"
    return "numpy" if logits < 300_000 else "numba"
