"""What the Keras tests run in a process of its own (Keras and PyTorch do not share one): prints JSON.

python -m tests.trainers.keras_checks     # on the back end of KERAS_BACKEND
"""

from __future__ import annotations

import json

import numpy as np

from papershell.trainers.checkpoint import DivergenceError
from papershell.trainers.keras_mnist import load_keras

keras = load_keras("cpu")

from papershell.trainers.keras_epoch import open_epoch  # noqa: E402  (after the back end is chosen)

RNG = np.random.default_rng(2)
X = RNG.random((330, 20), dtype=np.float32)
Y = (X[:, :4].argmax(axis=1)).astype(np.int32)
ORDER = RNG.permutation(330).astype(np.int32)


def model() -> keras.Model:
    """A network with weights that are the same each time, and some that no gradient moves."""
    keras.utils.set_random_seed(9)
    layers = keras.layers
    hidden = [layers.Dense(30, activation="relu"), layers.BatchNormalization()]
    network = keras.Sequential([keras.Input((20,)), *hidden, layers.Dense(4, activation="softmax")])
    optimizer = keras.optimizers.RMSprop(0.001)
    network.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return network


def against_fit() -> dict[str, float]:
    """How far the weights moved in two epochs; the largest differences of weights, optimizer, logs."""
    fitted, ours = model(), model()
    epoch = open_epoch(ours, X, Y)
    worst_log = 0.0
    for order in (ORDER, ORDER[::-1].copy()):
        history = fitted.fit(X[order], Y[order], batch_size=50, shuffle=False, verbose=0).history
        logs = epoch(order, 50)  # 330 images: the last batch has 30
        assert set(logs) == set(history)
        worst_log = max(worst_log, *(abs(logs[name] - history[name][0]) for name in logs))
    start = model().get_weights()
    moved = max(float(np.abs(a - b).max()) for a, b in zip(fitted.get_weights(), start, strict=True))
    pairs = {
        "weights": (fitted.weights, ours.weights),
        "optimizer": (fitted.optimizer.variables, ours.optimizer.variables),
    }
    differences = {
        name: max(float(np.abs(_array(a) - _array(b)).max()) for a, b in zip(*both, strict=True))
        for name, both in pairs.items()
    }
    return differences | {"logs": worst_log, "moved": moved}


def _array(variable) -> np.ndarray:
    return keras.ops.convert_to_numpy(variable)


def diverged() -> str:
    """What is said where one image, in the third batch, is not a number."""
    spoiled = X.copy()
    spoiled[ORDER[120]] = np.nan
    try:
        open_epoch(model(), spoiled, Y)(ORDER, 50)
    except DivergenceError as error:
        return str(error)
    return "nothing was noticed"


if __name__ == "__main__":
    checks = {"against_fit": against_fit(), "diverged": diverged()}
    print(json.dumps({"backend": keras.backend.backend()} | checks))
