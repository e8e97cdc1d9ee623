"""The digits of scikit-learn as two files below ``data``."""

import os

import numpy as np
from sklearn.datasets import load_digits


def write(folder: str = "data") -> str:
    os.makedirs(folder, exist_ok=True)
    X, y = load_digits(return_X_y=True)
    np.save(os.path.join(folder, "images.npy"), X[::7])
    np.save(os.path.join(folder, "labels.npy"), y[::7])
    return folder
