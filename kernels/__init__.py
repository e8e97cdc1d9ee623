"""papershell's numerical core: IDX files, normalization, regularization paths.

Shape letters, the same everywhere: N samples, P features, K classes, R rates, F folds.
"""

from kernels.backends import BackendError, available_backends
from kernels.logreg import PathSolution, Status, fit_path

__all__ = ["BackendError", "PathSolution", "Status", "available_backends", "fit_path"]
