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
from papershell.trainers.arguments import add_output_flags
from papershell.trainers.datasets import DataError, Dataset, load_dataset
from papershell.trainers.estimators import LogisticRegression, LogisticRegressionCV
from papershell.trainers.linear_model import model_path, write_model
from papershell.trainers.program import run
from papershell.trainers.provenance import check_replaceable
from papershell.trainers.sweep import Sweep, check_rates, sweep, warn_unconverged
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
    args = _parser().parse_args(argv)
    check_rates([args.regularization])
    data = load_dataset(args.data_folder)
    if not len(data.X_test):
        raise DataError(
            f"{data.name} has no test part, which this trainer needs; `papershell sweep` holds one out"
        )
    fit = partial(sweep, data, [args.regularization], loss=args.loss, tol=args.tol, backend=args.backend)
    with rows_over_ranks() as rank:
        if rank:
            fit()
        else:
            check_replaceable(model_path(Path(args.out)), data, overwrite=args.overwrite)
            _record(args, data, fit)


def _record(args: argparse.Namespace, data: Dataset, fit: Callable[[], Sweep]) -> None:
    """Fit, then print, record and write the result."""
    with start_run(EXPERIMENT, f"train logreg on {data.name}") as recorder:
        recorder.log_params(vars(args))
        print(f"training logistic regression, rate {args.regularization:g}, {len(data.X_train)} {data.noun}s")
        result = fit()
        metrics = {"regularization rate": args.regularization, "accuracy": result.rates()[0]["test_accuracy"]}
        recorder.log_metrics(metrics)
        origin = {"dataset": data.name, "fingerprint": data.fingerprint}
        facts = origin | {"backend": result.solution.backend, "arguments": vars(args)}
        for path in write_model(Path(args.out), result.model, facts | {"rates": result.rates()}):
            recorder.log_artifact(path)
            print(f"wrote {path}")
    warn_unconverged(result.solution)
    print(metrics)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("logreg", description="Train a logistic regression on images.")
    add = parser.add_argument
    add("--data-folder", default="data", help="folder of IDX files, or digits, or mnist (default: data)")
    add("--regularization", type=float, default=0.01, help="regularization rate, 1/C (default: 0.01)")
    add(
        "--loss",
        choices=("ovr", "multinomial"),
        default="ovr",
        help="ovr: one model per class, intercept penalized, as liblinear does in the walk-through; "
        "multinomial: one softmax model (default: ovr)",
    )
    add(
        "--tol",
        type=float,
        default=1e-7,
        help="bound on the largest gradient of the mean objective (default: 1e-7)",
    )
    add("--backend", default="auto", help="see `papershell backends` (default: auto)")
    add_output_flags(parser, "the model files")
    return parser


if __name__ == "__main__":
    run(main)
