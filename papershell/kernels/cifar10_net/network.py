"""The CIFAR-10 walk-through's network: the one place that states its shapes.

Two 5 x 5 convolutions (3-6-16 planes), each followed by relu and 2 x 2 max-pooling, then linear layers
400-120-84-10 with relu between them. The parameters form one flat vector, in the order of PyTorch's
``state_dict``.
"""

from __future__ import annotations

import math
from itertools import accumulate, pairwise

import numpy as np

CLASSES = 10
IMAGE_SHAPE = (3, 32, 32)
WEIGHTS = {  # by layer: (outputs, inputs), then the window of a convolution
    "conv1": (6, 3, 5, 5),
    "conv2": (16, 6, 5, 5),
    "fc1": (120, 400),
    "fc2": (84, 120),
    "fc3": (CLASSES, 84),
}
SHAPES = {
    f"{layer}.{kind}": part
    for layer, shape in WEIGHTS.items()
    for kind, part in (("weight", shape), ("bias", shape[:1]))
}
EDGES = (0, *accumulate(math.prod(shape) for shape in SHAPES.values()))
N_PARAMETERS = EDGES[-1]


def named(flat: np.ndarray) -> dict[str, np.ndarray]:
    """Return the parameters inside ``flat`` (62006,) by name: views, no copies."""
    stretches = zip(SHAPES.items(), pairwise(EDGES), strict=True)
    return {name: flat[start:stop].reshape(shape) for (name, shape), (start, stop) in stretches}
