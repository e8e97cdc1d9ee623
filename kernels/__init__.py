"""papershell's numerical core: IDX files, normalization, regularization paths.

Shape letters, the same everywhere: N samples, P features, K classes, R rates, F folds.
"""

from kernels.backends import BackendError, available_backends

__all__ = ["BackendError", "available_backends"]
