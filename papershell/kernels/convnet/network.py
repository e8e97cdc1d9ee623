"""The CIFAR-10 network's parameters as one flat vector, in the order of PyTorch's ``state_dict``.

Two 5 x 5 convolutions (3-6-16 planes), each followed by relu and 2 x 2 max-pooling, then linear layers
400-120-84-10 with relu between them.
"""

from __future__ import annotations

import math
from itertools import accumulate, pairwise

import numpy as np

CLASSES = 10
IMAGE_SHAPE = (3, 32, 32)
SHAPES = {
    "conv1.weight": (6, 3, 5, 5),
    "conv1.bias": (6,),
    "conv2.weight": (16, 6, 5, 5),
    "conv2.bias": (16,),
    "fc1.weight": (120, 400),
    "fc1.bias": (120,),
    "fc2.weight": (84, 120),
    "fc2.bias": (84,),
    "fc3.weight": (CLASSES, 84),
    "fc3.bias": (CLASSES,),
}
EDGES = (0, *accumulate(math.prod(shape) for shape in SHAPES.values()))
N_PARAMETERS = EDGES[-1]


def named(flat: np.ndarray) -> dict[str, np.ndarray]:
    """Return the parameters inside ``flat`` (62006,) by name: views, no copies."""
    stretches = zip(SHAPES.items(), pairwise(EDGES), strict=True)
    return {name: flat[start:stop].reshape(shape) for (name, shape), (start, stop) in stretches}
