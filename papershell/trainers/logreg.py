"""Logistic regression on images, as the walk-through trains it: one regularization rate (1 / C of scikit-learn).

    python -m papershell.trainers.logreg --data-folder data --regularization 0.8
    torchrun --nproc-per-node 2 -m papershell.trainers.logreg --data-folder data   # half of the rows on each process

`papershell.trainers.sweep` fits many rates at once; scikit-learn's interface is here as `LogisticRegression`
and `LogisticRegressionCV`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from papershell.kernels import rows_over_ranks
from papershell.kernels.backends import REGISTRY
from papershell.trainers.arguments import add_output_flags, positive_number
from papershell.trainers.datasets import DataError, Dataset, load_dataset
from papershell.trainers.estimators import LogisticRegression, LogisticRegressionCV
from papershell.trainers.linear_model import model_path, write_model
from papershell.trainers.program import run
from papershell.trainers.provenance import check_replaceable
from papershell.trainers.recording import announce
from papershell.trainers.sweep import Sweep, sweep, warn_unconverged
from papershell.trainers.tracking import start_run

__all__ = ["LogisticRegression", "LogisticRegressionCV", "main"]

EXPERIMENT = "sklearn-mnist"


def model_name(data: Dataset) -> str:
    """Return the name that a model of ``data`` is registered under: ``sklearn_mnist`` if it is MNIST."""
    return f"sklearn_{data.title}"


def main(argv: Sequence[str] | None = None) -> None:
    """Train one model as the walk-through does; ``--help`` lists the flags.

    Of several processes that ``torchrun`` started, each fits its share of the images, and the first one
    prints, records and writes.
    """
    args = parser().parse_args(argv)
    data = read_data(args.data_folder)
    fit = partial(sweep, data, [args.regularization], loss=args.loss, tol=args.tol, backend=args.backend)
    with rows_over_ranks() as rank:
        if rank:
            fit()
        else:
            check_replaceable(model_path(Path(args.out)), data, overwrite=args.overwrite)
            _record(args, data, fit)


def _record(args: argparse.Namespace, data: Dataset, fit: Callable[[], Sweep]) -> None:
    """Fit, then print, write, record and register the result."""
    with start_run(EXPERIMENT, f"train logreg on {data.name}") as recorder:
        recorder.log_params(vars(args))
        print(f"training logistic regression, rate {args.regularization:g}, {len(data.X_train)} {data.noun}s")
        result = fit()
        metrics = {"regularization rate": args.regularization, "accuracy": result.rates()[0]["test_accuracy"]}
        recorder.log_metrics(metrics)
        origin = {"dataset": data.name, "fingerprint": data.fingerprint}
        facts = origin | {"backend": result.solution.backend, "arguments": vars(args)}
        files = write_model(Path(args.out), result.model, facts | {"rates": result.rates()})
        announce(files, recorder.register_model(args.name or model_name(data), files))
    warn_unconverged(result.solution)
    print(metrics)


def read_data(source: str) -> Dataset:
    """Return the data set that ``--data-folder`` names, with a test part; see `load_dataset`."""
    data = load_dataset(source)
    if not len(data.X_test):
        raise DataError(
            f"{data.name} has no test part, which this trainer needs; `papershell sweep` holds one out"
        )
    return data


def parser() -> argparse.ArgumentParser:
    """Return the parser of the flags."""
    parser = argparse.ArgumentParser("logreg", description="Train a logistic regression on images.")
    add = parser.add_argument
    add("--data-folder", default="data", help="folder of IDX files, or digits, or mnist (default: data)")
    add(
        "--regularization",
        type=positive_number,
        default=0.01,
        help="regularization rate, 1/C (default: 0.01)",
    )
    add(
        "--loss",
        choices=("ovr", "multinomial"),
        default="ovr",
        help="ovr: one model per class, intercept penalized, as liblinear does in the walk-through; "
        "multinomial: one softmax model (default: ovr)",
    )
    add(
        "--tol",
        type=positive_number,
        default=1e-7,
        help="bound on the largest gradient of the mean objective (default: 1e-7)",
    )
    add(
        "--backend",
        choices=("auto", *REGISTRY),
        default="auto",
        help="see `papershell backends` (default: auto)",
    )
    add_output_flags(parser, "the model files")
    return parser


if __name__ == "__main__":
    run(main)
