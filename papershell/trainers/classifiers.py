"""Any trained model as one thing: a function from samples to classes and their probabilities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from papershell.trainers.formats.npz import names_in
from papershell.trainers.linear_model import LinearModel, ModelError, unit


@dataclass(frozen=True)
class Classifier:
    """A trained model.

    Attributes
    ----------
    classes : (K,) labels; those of a network are 0 to K - 1.
    predict : from samples (N, ...) to the predicted class (N,), 0..K-1, and the probability of each (N, K).
    """

    classes: np.ndarray
    predict: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def read_classifier(path: Path, *, trust_pickle: bool = False) -> Classifier:
    """Read a model file of any trainer; the file itself says of which.

    Parameters
    ----------
    path : .npz of the logistic regression or the CIFAR-10 network, .keras, or .pkl.
    trust_pickle : whether a .pkl may be loaded, which can run any code.

    Raises
    ------
    ValueError
        The file is damaged, or a .pkl that is not trusted.
    """
    if path.suffix == ".keras":
        from papershell.trainers import keras_mnist

        return _of_network(*keras_mnist.read_model(path))
    if path.suffix == ".npz" and _holds(path, "levels"):
        from papershell.trainers import cifar10_model

        return _of_network(*cifar10_model.read_model(path))
    if path.suffix == ".pkl":
        return _of_pickle(path, trust_pickle)
    model = LinearModel.load(path)

    def predict(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores = model.scores(X.reshape(len(X), -1))
        return scores.argmax(axis=1), model.probabilities(scores)

    return Classifier(model.classes, predict)


def _of_network(n_classes: int, probabilities: Callable[[np.ndarray], np.ndarray]) -> Classifier:
    def predict(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = probabilities(X)
        return found.argmax(axis=1), found

    return Classifier(np.arange(n_classes), predict)


def _of_pickle(path: Path, trust_pickle: bool) -> Classifier:
    if not trust_pickle:
        safe = path.with_suffix(".npz")
        raise ModelError(f"{path} can run any code when loaded; use {safe}, or add --trust-pickle")
    import joblib

    estimator: Any = joblib.load(path)

    def predict(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = X.reshape(len(X), -1).astype(np.float64) * unit(X)
        return np.searchsorted(estimator.classes_, estimator.predict(rows)), estimator.predict_proba(rows)

    return Classifier(np.asarray(estimator.classes_), predict)


def _holds(path: Path, name: str) -> bool:
    """Whether an .npz file has an array of that name; a damaged one is for its reader to report."""
    try:
        with open(path, "rb") as file:
            return name in names_in(file)
    except Exception:
        return False
