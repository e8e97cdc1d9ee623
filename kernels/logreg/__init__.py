"""Regularization paths of logistic regression, all rates in one batch."""
