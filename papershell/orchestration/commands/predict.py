"""``papershell predict``: labels for samples, from a model file."""

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
    samples: Annotated[
        Path,
        typer.Argument(
            help="A file of images (IDX, or .bin of CIFAR-10) or of features (.npy, .npz, .safetensors), or a folder."
        ),
    ],
    labels: Annotated[Path | None, typer.Option(help="Such a file with labels, to measure accuracy.")] = None,
    out: Annotated[
        Path, typer.Option(help="Where the predictions go, .csv or .parquet; - is standard output.")
    ] = Path("predictions.csv"),
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the probability of each class, too.")
    ] = False,
    batch: Annotated[
        int, typer.Option(min=1, help="Read, predict and write so many samples at a time.")
    ] = 10_000,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Load a .pkl: it can run any code, so trust its source.")
    ] = False,
) -> None:
    """Write the predicted label of every sample to a CSV or Parquet file."""
    from papershell.trainers.classifiers import read_classifier
    from papershell.trainers.formats.inputs import read_samples, read_truth
    from papershell.trainers.predictions import writing_predictions

    X = read_samples(samples)
    truth = read_truth(labels, len(X)) if labels else None
    classifier, hits = read_classifier(model, trust_pickle=trust_pickle), 0
    noun, columns = "image" if X.ndim > 2 else "sample", classifier.classes if probabilities else None
    with writing_predictions(out, noun, columns) as write:
        for first in range(0, len(X), batch):
            rows = slice(first, first + batch)
            codes, chances = classifier.predict(X[rows])
            predicted = classifier.classes[codes]
            write(predicted, chances if probabilities else None)
            hits += 0 if truth is None else _hits(predicted, truth[rows])
    told = sys.stderr if str(out) == "-" else sys.stdout
    print(f"wrote {len(X):,} predictions to {out}", file=told)
    if truth is not None:
        print(f"accuracy {hits / len(X):.4f}", file=told)


def _hits(predicted: np.ndarray, truth: np.ndarray) -> int:
    """How many labels agree; strings agree with no number."""
    import numpy as np

    return (
        int(np.count_nonzero(predicted == truth))
        if (predicted.dtype.kind == "U") == (truth.dtype.kind == "U")
        else 0
    )
