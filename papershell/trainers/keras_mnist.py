"""The Keras walk-through on MNIST: 784 - 300 - 100 - 10, relu, softmax, RMSprop, batch 50, 20 epochs.

    python -m papershell.trainers.keras_mnist --data-folder mnist
    KERAS_BACKEND=jax python -m papershell.trainers.keras_mnist      # Keras runs on tensorflow (default), jax or torch

An epoch is one compiled loop (`keras_epoch`); ``--reference-fit`` trains with `Model.fit` instead, on
the same images in the same order.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from papershell.kernels import normalize
from papershell.kernels.backends import gpu_count
from papershell.kernels.files import replacing, write_json
from papershell.trainers.arguments import add_training_flags, positive, positive_number
from papershell.trainers.checkpoint import (
    Checkpoint,
    CheckpointError,
    DivergenceError,
    read_state,
    write_state,
)
from papershell.trainers.data_parallel import DeviceError
from papershell.trainers.datasets import Dataset, load_images
from papershell.trainers.figures import draw_history
from papershell.trainers.program import interruptible, run
from papershell.trainers.progress import progress
from papershell.trainers.provenance import check_replaceable, manifest
from papershell.trainers.recording import announce
from papershell.trainers.tracking import start_run

if TYPE_CHECKING:
    import keras

EXPERIMENT = "keras-mnist"
MODEL_FOLDER, MODEL_STEM = "model", "keras_mnist"
EXTRAS = {"tensorflow": "keras", "jax": "jax", "torch": "keras,torch"}  # by Keras's back end


def load_keras(device: str = "auto") -> Any:
    """Import Keras on its back end (``KERAS_BACKEND``, TensorFlow by default) and return it.

    Parameters
    ----------
    device : ``cpu`` hides every GPU from it, ``cuda`` insists on one. Decided by the first call in a process.

    Raises
    ------
    DeviceError
        Keras is not installed, or ``cuda`` was asked for and its back end sees no GPU.
    """
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no remarks on CPU features
    if missing := [name for name in ("keras", backend) if importlib.util.find_spec(name) is None]:
        extra = EXTRAS.get(backend, "keras")
        raise DeviceError(
            f"{' and '.join(missing)} not installed; pip install 'papershell[{extra}]' adds them"
        )
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    import keras

    if device == "cuda" and not gpu_count(backend):
        raise DeviceError(
            f"Keras on {backend} sees no GPU, and --device cuda asks for one; leave it out to use the CPU"
        )
    return keras


def build(pixels: int, classes: int, args: argparse.Namespace) -> keras.Model:
    """Return the walk-through's network, compiled; its weights follow ``args.seed``."""
    import keras

    keras.utils.set_random_seed(args.seed)
    model = keras.Sequential(
        [
            keras.Input((pixels,)),
            keras.layers.Dense(args.first_layer_neurons, activation="relu"),
            keras.layers.Dense(args.second_layer_neurons, activation="relu"),
            keras.layers.Dense(classes, activation="softmax"),
        ]
    )
    optimizer = keras.optimizers.RMSprop(learning_rate=args.learning_rate)
    model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    return model


class Training:
    """The network somewhere between the first epoch and the last.

    Attributes
    ----------
    history : loss and accuracy of each epoch so far.
    """

    def __init__(self, data: Dataset, args: argparse.Namespace):
        self.args = args
        self.history: dict[str, list[float]] = {"loss": [], "accuracy": []}
        self.X, self.y = normalize(data.X_train), data.y_train.astype(np.int32)
        self._data = zlib.crc32(data.X_train.data)
        self.model = build(self.X.shape[1], int(self.y.max()) + 1, args)
        self._epoch = self._fit if args.reference_fit else self._open()

    def _open(self) -> Any:
        from papershell.trainers.keras_epoch import open_epoch

        return open_epoch(self.model, self.X, self.y)

    def _fit(self, order: np.ndarray, batch_size: int) -> dict[str, float]:
        """Keras's own loop, for reference."""
        fitted = self.model.fit(self.X[order], self.y[order], batch_size=batch_size, shuffle=False, verbose=0)
        logs = {name: values[0] for name, values in fitted.history.items()}
        if not np.isfinite(logs["loss"]):
            raise DivergenceError("training diverged")
        return logs

    @property
    def epoch(self) -> int:
        """How many epochs are done."""
        return len(self.history["loss"])

    def advance(self) -> dict[str, float]:
        """Train for one epoch and return its loss and accuracy."""
        order = np.random.default_rng([self.args.seed, self.epoch]).permutation(len(self.y)).astype(np.int32)
        try:
            logs = self._epoch(order, self.args.batch_size)
        except DivergenceError as error:
            raise DivergenceError(
                f"{error} of epoch {self.epoch + 1}: the loss is not a number any more; lower --learning-rate "
                f"(it is {self.args.learning_rate:g}), the last good checkpoint is kept"
            ) from error
        for name, values in self.history.items():
            values.append(logs[name])
        return {name: logs[name] for name in self.history}

    def _variables(self) -> dict[str, Any]:
        """All that changes in training, by name."""
        variables = [*self.model.variables, *self.model.optimizer.variables]
        return {f"variable {i}": variable for i, variable in enumerate(variables)}

    @property
    def _settings(self) -> dict[str, Any]:
        import keras

        flags = (
            "first_layer_neurons",
            "second_layer_neurons",
            "batch_size",
            "learning_rate",
            "seed",
            "reference_fit",
        )
        facts = {
            "model": EXPERIMENT,
            "Keras back end": keras.backend.backend(),
            "data": self._data,
        }
        return facts | {name: getattr(self.args, name) for name in flags}

    def save(self, path: Path) -> None:
        """Write a checkpoint; see `papershell.trainers.checkpoint.write_state`."""
        import keras

        arrays = {name: keras.ops.convert_to_numpy(v) for name, v in self._variables().items()}
        write_state(path, arrays | {n: np.array(v) for n, v in self.history.items()}, self._settings)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint; see `papershell.trainers.checkpoint.read_state`."""
        arrays = read_state(path, self._settings)
        try:
            for name, variable in self._variables().items():
                variable.assign(arrays[name])
            self.history = {name: arrays[name].tolist() for name in self.history}
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"{path} does not hold this network ({error}); remove it") from error


def read_model(path: Path) -> tuple[int, Callable[[np.ndarray], np.ndarray]]:
    """Read a Keras model file.

    Returns
    -------
    n_classes : K.
    probabilities : a function that gives the probability of each class, (N, K), for images (N, ...) in bytes, as many
        pixels an image as the model was trained on; others are a ValueError.

    Raises
    ------
    ValueError
        The file is no Keras model.
    """
    keras = load_keras()
    try:
        model = keras.saving.load_model(path)
    except Exception as error:  # zipfile, h5py and Keras raise a dozen types on damaged files
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is not a Keras model ({reason}); train it again") from error

    def probabilities(images: np.ndarray) -> np.ndarray:
        X = images.reshape(len(images), -1)
        if model.input_shape[1:] != X.shape[1:] or X.dtype != np.uint8:
            raise ValueError(
                f"the model was trained on images of {model.input_shape[1]} pixels, these have {X.shape[1]} of "
                f"{X.dtype}; predict on images of the same size in bytes"
            )
        return model.predict(normalize(X), batch_size=1000, verbose=0)

    return model.output_shape[-1], probabilities


def write_model(folder: Path, model: keras.Model, facts: dict[str, Any]) -> list[Path]:
    """Write the model into ``folder``, each file atomically; return the paths.

    ``keras_mnist.keras`` is the whole model, ``keras_mnist.weights.h5`` its weights, both as Keras itself
    writes and reads them; ``keras_mnist.json`` says how it was made.
    """
    paths = [folder / f"{MODEL_STEM}.{suffix}" for suffix in ("keras", "weights.h5", "json")]
    write_json(paths[-1], manifest(**facts))  # first: no model lies here without its origin
    with tempfile.TemporaryDirectory() as scratch:
        for path, write in zip(paths, (model.save, model.save_weights), strict=False):
            write(Path(scratch) / path.name)
            with replacing(path, parents=True) as file:
                file.write((Path(scratch) / path.name).read_bytes())
    return paths


def main(argv: Sequence[str] | None = None) -> None:
    """Train as the walk-through does; ``--help`` lists the flags."""
    args = parser().parse_args(argv)
    load_keras(args.device)
    data = read_data(args.data_folder)
    check_replaceable(Path(args.out) / MODEL_FOLDER / f"{MODEL_STEM}.keras", data, overwrite=args.overwrite)
    with start_run(EXPERIMENT, f"train keras-mnist on {data.name}") as run:
        run.log_params(vars(args))
        training = Training(data, args)
        seconds = _train(training, args, run)
        _finish(training, data, args, run, seconds)


def _train(training: Training, args: argparse.Namespace, run: Any) -> float:
    """Train to the end, from the last checkpoint if asked; print, log and save on the way. Return seconds."""
    checkpoint = Checkpoint(Path(args.out) / f"{MODEL_STEM}_checkpoint.npz", "epoch")
    if args.resume and checkpoint.path.exists():
        training.restore(checkpoint.path)
        checkpoint.saved = training.epoch
    start = time.perf_counter()
    with progress("training", args.epochs) as update, interruptible(checkpoint.kept):
        while training.epoch < args.epochs:
            logs = training.advance()
            run.log_metrics(logs, step=training.epoch)
            print(
                f"epoch {training.epoch:2}/{args.epochs}: loss {logs['loss']:.4f}, accuracy {logs['accuracy']:.4f}",
                flush=True,
            )
            update(training.epoch, f"loss {logs['loss']:.4f}")
            if training.epoch % args.checkpoint_every == 0 or training.epoch == args.epochs:
                training.save(checkpoint.path)
                checkpoint.saved = training.epoch
    return time.perf_counter() - start


def _finish(training: Training, data: Dataset, args: argparse.Namespace, run: Any, seconds: float) -> None:
    """Print the test results, write model and figure, record both."""
    X, y = normalize(data.X_test), data.y_test.astype(np.int32)
    loss, accuracy = training.model.evaluate(X, y, batch_size=1000, verbose=0)
    metrics = {"final test loss": float(loss), "final test accuracy": float(accuracy)}
    print(f"Test loss: {loss:.4f}\nTest accuracy: {accuracy:.4f}")
    run.log_metrics(metrics | {"seconds": seconds})
    picture = Path(args.out) / "accuracy_vs_loss.png"
    draw_history(picture, **{name: np.array(values) for name, values in training.history.items()})
    run.log_artifact(picture)
    facts = {
        "dataset": data.name,
        "fingerprint": data.fingerprint,
        "keras_backend": os.environ["KERAS_BACKEND"],
        "seconds": seconds,
        "arguments": vars(args),
        "history": training.history,
        **metrics,
    }
    files = write_model(Path(args.out) / MODEL_FOLDER, training.model, facts)
    model = run.register_model(args.name or f"keras-{data.title}", files)
    announce([*files, picture], model)


def read_data(source: str) -> Dataset:
    """Return the data set that ``--data-folder`` names; see `papershell.trainers.datasets.load_images`."""
    return load_images(source)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the flags."""
    parser = argparse.ArgumentParser("keras-mnist", description="Train the Keras walk-through's network.")
    add = parser.add_argument
    add("--data-folder", default="mnist", help="folder of IDX files, or digits, or mnist (default)")
    add("--batch-size", type=positive, default=50, help="images a step (default: 50)")
    add("--first-layer-neurons", type=positive, default=300, help="(default: 300)")
    add("--second-layer-neurons", type=positive, default=100, help="(default: 100)")
    add("--learning-rate", type=positive_number, default=0.001, help="(default: 0.001)")
    add("--epochs", type=positive, default=20, help="(default: 20)")
    add("--reference-fit", action="store_true", help="train with Keras's own fit, which is slower")
    add_training_flags(parser, every=1, unit="epochs (default: 1)")
    return parser


if __name__ == "__main__":
    run(main)
