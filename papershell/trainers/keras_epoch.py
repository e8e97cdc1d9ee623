"""A whole epoch of a Keras model in one compiled loop over data that lies on the device.

`Model.fit` returns to Python at every batch, or every few; at batch 50 that is most of its time. Here the loop
itself is compiled: a while loop under XLA on TensorFlow, ``lax.scan`` on JAX; the PyTorch back end has no
such loop and takes its steps one by one over resident data. Each step is the model's own ``train_step``:
Keras's loss, optimizer and metrics, whatever they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from papershell.trainers.checkpoint import DivergenceError

_TakeSteps = Callable[[np.ndarray], int]
Epoch = Callable[[np.ndarray, int], dict[str, float]]


def open_epoch(model: keras.Model, X: np.ndarray, y: np.ndarray) -> Epoch:
    """Put the data on the device and return the function that trains ``model`` on it for one epoch.

    Parameters
    ----------
    model : built and compiled.
    X : (N, ...) the model's input; stays on the device as long as the function lives.
    y : (N,) int32 labels.

    Returns
    -------
    epoch : call it as ``epoch(order, batch_size)`` with ``order`` (n,) int32 indexes; it trains on those
        images in that order, the last batch smaller if they do not fill it, as ``model.fit(X[order], y[order],
        batch_size=batch_size, shuffle=False)`` does, to rounding, and returns the same logs. It raises
        `DivergenceError` if the loss is not finite any more.
    """
    model.evaluate(X[:1], y[:1], batch_size=1, verbose=0)  # makes the metrics' variables
    model.optimizer.build(model.trainable_variables)
    take_steps = _BACKENDS[keras.backend.backend()](model, X, y)

    def epoch(order: np.ndarray, batch_size: int) -> dict[str, float]:
        model.reset_metrics()
        full = len(order) // batch_size * batch_size
        done = 0
        for rows in (order[:full].reshape(-1, batch_size), order[None, full:]):
            if rows.size:
                finite = take_steps(rows)
                if finite < len(rows):
                    raise DivergenceError(f"training diverged at batch {done + finite + 1}")
                done += len(rows)
        return {name: float(value) for name, value in model.get_metrics_result().items()}

    return epoch


def _on_tensorflow(model: keras.Model, X: np.ndarray, y: np.ndarray) -> _TakeSteps:
    import tensorflow as tf

    images, labels = tf.constant(X), tf.constant(y)

    @tf.function(jit_compile=True)
    def loop(images: Any, labels: Any, order: Any) -> Any:
        finite = tf.constant(0)
        for t in tf.range(tf.shape(order)[0]):
            rows = order[t]
            logs = model.train_step((tf.gather(images, rows), tf.gather(labels, rows)))
            finite += tf.cast(tf.math.is_finite(logs["loss"]), tf.int32)
        return finite

    return lambda order: int(loop(images, labels, tf.constant(order)))


def _on_jax(model: keras.Model, X: np.ndarray, y: np.ndarray) -> _TakeSteps:
    import jax

    images, labels = jax.device_put(X), jax.device_put(y)
    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )

    @jax.jit
    def loop(state: Any, images: Any, labels: Any, order: Any) -> Any:
        def step(carried: Any, rows: Any) -> Any:
            state, finite = carried
            logs, state = model.train_step(state, (images[rows], labels[rows]))
            return (tuple(map(list, state)), finite + jax.numpy.isfinite(logs["loss"])), None

        return jax.lax.scan(step, (state, 0), order)[0]

    def take_steps(order: np.ndarray) -> int:
        state, finite = loop(tuple([v.value for v in group] for group in groups), images, labels, order)
        for group, values in zip(groups, state, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(value)
        return int(finite)

    return take_steps


def _on_torch(model: keras.Model, X: np.ndarray, y: np.ndarray) -> _TakeSteps:
    import torch

    device = model.trainable_variables[0].value.device
    images, labels = torch.tensor(X, device=device), torch.tensor(y, device=device)

    def take_steps(order: np.ndarray) -> int:
        model.train()
        finite = torch.zeros((), dtype=torch.int64, device=device)
        for rows in torch.tensor(order, device=device):
            logs = model.train_step((images[rows], labels[rows]))
            finite += torch.isfinite(logs["loss"])
        return int(finite)

    return take_steps


_BACKENDS = {"tensorflow": _on_tensorflow, "jax": _on_jax, "torch": _on_torch}
