"""papershell's numerical core: IDX files, normalization, regularization paths.

Shape letters, the same everywhere: N samples, P features, K classes, R rates, F folds.
"""

from kernels.backends import BackendError, available_backends
from kernels.idx import IdxError, read_idx, write_idx
from kernels.normalize import normalize

__all__ = ["BackendError", "IdxError", "available_backends", "normalize", "read_idx", "write_idx"]
