"""Logistic regression on images: every regularization rate in one batched solve.

The regularization rate is 1 / C of scikit-learn.

    python -m papershell.trainers.logreg --data-folder data --regularization 0.8
    torchrun --nproc-per-node 2 -m papershell.trainers.logreg --data-folder data   # half of the rows on each process
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from papershell.kernels import PathSolution, fit_path, rows_over_ranks
from papershell.trainers.datasets import Dataset, load_dataset
from papershell.trainers.estimators import LogisticRegression, LogisticRegressionCV
from papershell.trainers.linear_model import PIXEL_SCALE, SEED, LinearModel, write_model
from papershell.trainers.progress import progress
from papershell.trainers.tracking import start_run

__all__ = [
    "LogisticRegression",
    "LogisticRegressionCV",
    "Sweep",
    "check_rates",
    "main",
    "sweep",
    "warn_unconverged",
]

EXPERIMENT = "sklearn-mnist"


@dataclass(frozen=True)
class Sweep:
    """Models for R regularization rates and how well each does.

    Attributes
    ----------
    l2 : (R,) rates, as given.
    loss : ``multinomial`` or ``ovr``.
    classes : (K,) labels.
    solution : `kernels.PathSolution` of the whole training part.
    test_accuracy : (R,) on the test part.
    cv_accuracy : (R,) mean over the folds; None without folds.
    best : index of the most accurate rate, by ``cv_accuracy`` where there is one; of equals the largest rate.
    """

    l2: np.ndarray
    loss: str
    classes: np.ndarray
    solution: PathSolution
    test_accuracy: np.ndarray
    cv_accuracy: np.ndarray | None
    best: int

    @property
    def model(self) -> LinearModel:
        """The model of the best rate."""
        found, r = self.solution, self.best
        rate, n_iter = float(self.l2[r]), int(found.n_iter[r])
        return LinearModel(found.coef[r], found.intercept[r], self.classes, self.loss, rate, n_iter)

    def rates(self) -> list[dict[str, Any]]:
        """Return one record per rate: l2, C, loss, grad_norm, n_iter, status, test_accuracy."""
        solution = self.solution
        return [
            {
                "l2": float(l2),
                "C": 1 / float(l2),
                "loss": float(solution.loss[r]),
                "grad_norm": float(solution.grad_norm[r]),
                "n_iter": int(solution.n_iter[r]),
                "status": solution.status[r].name.lower(),
                "test_accuracy": float(self.test_accuracy[r]),
            }
            | ({} if self.cv_accuracy is None else {"cv_accuracy": float(self.cv_accuracy[r])})
            for r, l2 in enumerate(self.l2)
        ]


def sweep(
    data: Dataset,
    l2: Sequence[float],
    *,
    loss: str = "multinomial",
    folds: int | None = None,
    tol: float = 1e-4,
    backend: str = "auto",
) -> Sweep:
    """Fit every rate of ``l2`` on the training part at once, and measure each on the test part.

    Parameters
    ----------
    data : images as bytes; they are scaled inside the solver and never copied.
    l2 : (R,) positive regularization rates, 1 / C.
    loss : ``multinomial``, its intercept unpenalized; or ``ovr``, one logistic regression per class with
        the intercept penalized, which is what liblinear minimizes.
    folds : choose the best rate by cross-validation on the training part, with so many stratified folds
        that are solved in the same batch; None chooses by the test part.
    tol : bound on max |gradient| of each mean objective; 1e-4 is scikit-learn's.
    backend : a name of `kernels.available_backends`, or ``auto``.

    Raises
    ------
    ValueError
        No rate, or one that is not a positive number; more folds than a class has images.
    kernels.BackendError
        The back end is absent.
    """
    rates = check_rates(l2)
    y, y_test = (np.searchsorted(data.classes, labels) for labels in (data.y_train, data.y_test))
    masks = _training_masks(y, folds) if folds else None
    solution = _fit(data.X_train, y, rates, loss=loss, masks=masks, tol=tol, backend=backend)
    whole = solution if masks is None else _fold(solution, 0)
    test_accuracy = _accuracy(whole, data.X_test, y_test)
    cv_accuracy = None if masks is None else _held_out_accuracy(solution, data.X_train, y, masks)
    merit = test_accuracy if cv_accuracy is None else cv_accuracy
    best = max(range(len(rates)), key=lambda r: (merit[r], rates[r]))
    return Sweep(rates, loss, data.classes, whole, test_accuracy, cv_accuracy, best)


def _fit(
    X: np.ndarray,
    y: np.ndarray,
    rates: np.ndarray,
    *,
    loss: str,
    masks: np.ndarray | None,
    tol: float,
    backend: str,
) -> PathSolution:
    """All rates of all folds in one call, with a sign of life."""
    problems = len(rates) * (1 if masks is None else len(masks))
    with progress("fitting", problems) as update:
        return fit_path(
            X,
            y,
            rates,
            loss=loss,
            penalize_intercept=loss == "ovr",
            folds=masks,
            scale=PIXEL_SCALE,
            tol=tol,
            backend=backend,
            callback=lambda passes, active, grad_norm: update(
                problems - active, f"pass {passes}, largest gradient {grad_norm:.1e}"
            ),
        )


def _training_masks(y: np.ndarray, folds: int) -> np.ndarray:
    """(1 + F, N): all samples, then for each fold those it trains on."""
    if folds > (fewest := np.bincount(y).min()):
        raise ValueError(f"{folds} folds need as many images of each class, but one has {fewest}; use fewer")
    from sklearn.model_selection import StratifiedKFold

    masks = np.ones((1 + folds, len(y)), dtype=bool)
    splits = StratifiedKFold(folds, shuffle=True, random_state=SEED).split(y[:, None], y)
    for mask, (_, held_out) in zip(masks[1:], splits, strict=True):
        mask[held_out] = False
    return masks


def _fold(solution: PathSolution, f: int) -> PathSolution:
    """The path of one fold."""
    arrays = {name: value[f] for name, value in vars(solution).items() if isinstance(value, np.ndarray)}
    return replace(solution, **arrays)


def _held_out_accuracy(solution: PathSolution, X: np.ndarray, y: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """(R,) mean over the folds of the accuracy on what each did not train on."""
    scores = [_accuracy(_fold(solution, f), X[~mask], y[~mask]) for f, mask in enumerate(masks) if f]
    return np.mean(scores, axis=0)


def check_rates(l2: Sequence[float]) -> np.ndarray:
    """Return the rates as (R,) float64, or raise `ValueError` naming the one that cannot be."""
    rates = np.asarray(l2, dtype=np.float64).ravel()
    if not rates.size:
        raise ValueError("no regularization rate given; name at least one, as in --regularization 0.8")
    if len(wrong := rates[~(np.isfinite(rates) & (rates > 0))]):
        raise ValueError(f"the regularization rate {wrong[0]:g} cannot be used; rates are positive numbers")
    return rates


def _accuracy(solution: PathSolution, X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Share of rows of X (N, P) that each rate's model (R, K, P) puts into the class y (N,): (R,)."""
    R, K, P = solution.coef.shape
    scores = X @ (solution.coef.reshape(R * K, P).T * PIXEL_SCALE)
    predicted = (scores.reshape(-1, R, K) + solution.intercept).argmax(axis=2)
    return (predicted == y[:, None]).mean(axis=0)


def warn_unconverged(solution: PathSolution) -> None:
    """Say on stderr how many rates stopped short of their optimum, and why."""
    for status, count in Counter(solution.status).items():
        if not status.reached:
            print(f"{count} of {len(solution.status)} rates: {status.message}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> None:
    """Train one model as the walk-through does; ``--help`` lists the flags.

    Of several processes that ``torchrun`` started, each fits its share of the images, and the first one
    prints, records and writes.
    """
    args = _parser().parse_args(argv)
    check_rates([args.regularization])
    data = load_dataset(args.data_folder)
    fit = partial(sweep, data, [args.regularization], loss=args.loss, tol=args.tol, backend=args.backend)
    with rows_over_ranks() as rank:
        if rank:
            fit()
        else:
            _record(args, data, fit)


def _record(args: argparse.Namespace, data: Dataset, fit: Callable[[], Sweep]) -> None:
    """Fit, and tell and keep what came out."""
    with start_run(EXPERIMENT, f"train logreg on {data.name}") as run:
        run.log_params(vars(args))
        print(f"training logistic regression, rate {args.regularization:g}, {len(data.X_train)} images")
        result = fit()
        metrics = {"regularization rate": args.regularization, "accuracy": float(result.test_accuracy[0])}
        run.log_metrics(metrics)
        facts = {"dataset": data.name, "backend": result.solution.backend, "arguments": vars(args)}
        for path in write_model(Path(args.out), result.model, facts | {"rates": result.rates()}):
            run.log_artifact(path)
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
    add("--out", default="outputs", help="folder for the model files (default: outputs)")
    return parser


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")
