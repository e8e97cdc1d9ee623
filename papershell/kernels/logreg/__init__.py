"""Regularization paths of logistic regression, all rates in one batch."""

from papershell.kernels.logreg.distributed import rows_over_ranks
from papershell.kernels.logreg.iteration import Status
from papershell.kernels.logreg.path import PathSolution, fit_path

__all__ = ["PathSolution", "Status", "fit_path", "rows_over_ranks"]
