"""Fixtures of the suites: the data that they measure on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from papershell.benchmarks import problems
from papershell.kernels import read_idx
from papershell.trainers.datasets import DataError


@pytest.fixture(scope="session")
def images_path() -> Path:
    """MNIST's training images, as the file that they come in."""
    try:
        return problems.find_images()
    except DataError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def images(images_path: Path) -> np.ndarray:
    """MNIST's training images (60000, 784) uint8."""
    X = read_idx(images_path)
    return X.reshape(len(X), -1)


@pytest.fixture(scope="session")
def labels(images_path: Path) -> np.ndarray:
    """Their labels (60000,) int64."""
    return read_idx(images_path.with_name("train-labels-idx1-ubyte.gz")).astype(np.int64)
