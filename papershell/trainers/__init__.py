"""Trainers: one readable page per model. They import ``kernels``, never ``orchestration``."""

SEED = 42  # the walk-throughs' own, unless the user names another
