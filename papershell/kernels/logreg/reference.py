"""The reference engine: plain NumPy, float64 throughout."""

from __future__ import annotations

import numpy as np

from papershell.kernels.logreg.products import FLOAT64, FloatEngine, Samples


class Engine(FloatEngine):
    """Float64 products and the formulas of `losses`, nothing fused."""

    grades = (FLOAT64,)

    def __init__(self, samples: Samples):
        super().__init__(samples, np)
