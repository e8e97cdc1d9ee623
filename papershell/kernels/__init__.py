"""papershell's numerical core: IDX files, normalization, regularization paths.

Shape letters, the same everywhere: N samples, P features, K classes, R rates, F folds.
"""

from papershell.kernels.backends import BackendError, available_backends
from papershell.kernels.idx import IdxError, map_idx, read_idx, write_idx
from papershell.kernels.logreg import Evaluation, PathSolution, Status, fit_path, rows_over_ranks
from papershell.kernels.normalize import normalize

__all__ = [
    "BackendError",
    "Evaluation",
    "IdxError",
    "PathSolution",
    "Status",
    "available_backends",
    "fit_path",
    "map_idx",
    "normalize",
    "read_idx",
    "rows_over_ranks",
    "write_idx",
]
