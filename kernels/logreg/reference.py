"""The reference engine: plain NumPy, float64 throughout."""

from __future__ import annotations

import numpy as np

from kernels.logreg.products import FloatEngine, Samples


class Engine(FloatEngine):
    """Float64 products and the formulas of `losses`, nothing fused."""

    def __init__(self, samples: Samples):
        super().__init__(samples, np, "float64")
