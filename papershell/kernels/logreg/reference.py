"""The reference engine: plain NumPy, float64 throughout."""

from __future__ import annotations

import numpy as np

from papershell.kernels.logreg import engine
from papershell.kernels.logreg.problem import Samples


class Engine(engine.Engine):
    """Float64 products and the formulas of `losses`, nothing fused."""

    precisions = (engine.FLOAT64,)
    block_bytes = 8 << 20

    def __init__(self, samples: Samples):
        super().__init__(samples, np)
