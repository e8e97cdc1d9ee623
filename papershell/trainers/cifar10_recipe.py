"""The settings that decide the numbers of a training on CIFAR-10."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from papershell.kernels import normalize
from papershell.trainers import SEED


@dataclass(frozen=True)
class Recipe:
    """The settings of one training. A checkpoint is continued under the same ones only."""

    learning_rate: float = 0.001
    momentum: float = 0.9
    batch_size: int = 4
    seed: int = SEED
    seeds: int = 1
    zero_to_one: bool = False

    def levels(self) -> np.ndarray:
        """Return the number that each byte of a pixel stands for: (256,) float32."""
        centre, width = (0.0, 1.0) if self.zero_to_one else (0.5, 0.5)
        return normalize(np.arange(256, dtype=np.uint8), mean=centre, std=width)
