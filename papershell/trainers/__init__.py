"""Trainers: one readable page per model. They import ``kernels``, never ``orchestration``."""
