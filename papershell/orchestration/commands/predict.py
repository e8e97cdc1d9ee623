"""``papershell predict``: labels for images, from a model file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np


def register(app: typer.Typer) -> None:
    app.command()(predict)


def predict(
    model: Annotated[Path, typer.Argument(help="A model file: .npz, .keras, or .pkl with --trust-pickle.")],
    images: Annotated[Path, typer.Argument(help="An IDX file of images, or a .bin file of CIFAR-10.")],
    labels: Annotated[Path | None, typer.Option(help="Such a file with labels, to measure accuracy.")] = None,
    out: Annotated[Path, typer.Option(help="Where the predictions go; - is standard output.")] = Path(
        "predictions.csv"
    ),
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Load a .pkl: it can run any code, so trust its source.")
    ] = False,
) -> None:
    """Write the predicted label of every image to a CSV file."""
    from papershell.trainers.datasets import read_images, read_labels
    from papershell.trainers.predictions import write_predictions

    pixels = read_images(images)
    predicted = _predict(model, pixels, trust_pickle)
    write_predictions(out, predicted)
    told = sys.stderr if str(out) == "-" else sys.stdout
    print(f"wrote {len(predicted):,} predictions to {out}", file=told)
    if labels:
        truth = read_labels(labels, len(predicted))
        print(f"accuracy {(predicted == truth).mean():.4f}", file=told)


def _predict(path: Path, images: np.ndarray, trust_pickle: bool) -> np.ndarray:
    """The label of each image; the file itself says which trainer's model it is."""
    from papershell.trainers.linear_model import PIXEL_SCALE, LinearModel, ModelError

    if path.suffix == ".keras":
        from papershell.trainers import keras_mnist

        return keras_mnist.predict(path, images)
    if path.suffix == ".npz" and _holds(path, "levels"):
        from papershell.trainers import cifar10_model

        return cifar10_model.predict(path, images)
    X = images.reshape(len(images), -1)
    if path.suffix != ".pkl":
        return LinearModel.load(path).predict(X)
    if not trust_pickle:
        safe = path.with_suffix(".npz")
        raise ModelError(f"{path} can run any code when loaded; use {safe}, or add --trust-pickle")
    import joblib

    return joblib.load(path).predict(X * PIXEL_SCALE)


def _holds(path: Path, name: str) -> bool:
    """Whether an .npz file has an array of that name; a damaged one is for its reader to report."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as arrays:
            return name in arrays.files
    except Exception:
        return False
