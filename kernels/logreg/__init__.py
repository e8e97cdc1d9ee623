"""Regularization paths of logistic regression, all rates in one batch."""

from kernels.logreg.path import PathSolution, fit_path
from kernels.logreg.ranks import rows_over_ranks
from kernels.logreg.solver import Status

__all__ = ["PathSolution", "Status", "fit_path", "rows_over_ranks"]
