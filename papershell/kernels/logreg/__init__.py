"""Regularization paths of logistic regression, all rates in one batch."""

from papershell.kernels.logreg.distributed import rows_over_ranks
from papershell.kernels.logreg.iteration import Status
from papershell.kernels.logreg.path import fit_path
from papershell.kernels.logreg.solution import Evaluation, PathSolution

__all__ = ["Evaluation", "PathSolution", "Status", "fit_path", "rows_over_ranks"]
