"""A sweep: one model for every regularization rate, fitted in one batch and measured on the test part."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from papershell.kernels import PathSolution, fit_path
from papershell.trainers import SEED
from papershell.trainers.datasets import Dataset
from papershell.trainers.linear_model import PIXEL_SCALE, LinearModel
from papershell.trainers.program import interruptible
from papershell.trainers.progress import progress


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
    best : index of the most accurate rate, by ``cv_accuracy`` if there are folds; of equals the largest rate.
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
        """Return one record per rate: l2, C, loss, gap, grad_norm, n_iter, status, test_accuracy.

        A gap that cannot be proven is None.
        """
        solution = self.solution
        assert solution.gap is not None, "fit_path sets it"
        return [
            {
                "l2": float(l2),
                "C": 1 / float(l2),
                "loss": float(solution.loss[r]),
                "gap": float(solution.gap[r]) if np.isfinite(solution.gap[r]) else None,
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
    tol: float | None = None,
    gap: float | None = None,
    backend: str = "auto",
) -> Sweep:
    """Fit every rate of ``l2`` on the training part at once, and measure each on the test part.

    Parameters
    ----------
    data : images as bytes; they are scaled inside the solver and never copied.
    l2 : (R,) positive regularization rates, 1 / C.
    loss : ``multinomial``, its intercept unpenalized; or ``ovr``, one logistic regression per class with
        the intercept penalized: the objective of liblinear.
    folds : choose the best rate by cross-validation on the training part, with so many stratified folds
        that are solved in the same batch; None chooses by the test part.
    tol : bound on max |gradient| of each mean objective; scikit-learn's own is 1e-4.
    gap : bound on (loss - optimum) / loss of each rate, proven. If neither is given, ``gap=1e-4``.
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
    solution = _fit(data.X_train, y, rates, loss=loss, masks=masks, tol=tol, gap=gap, backend=backend)
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
    tol: float | None,
    gap: float | None,
    backend: str,
) -> PathSolution:
    """Fit all rates of all folds in one call, with progress on stderr."""
    problems = len(rates) * (1 if masks is None else len(masks))
    stopped = interruptible(lambda: "the fit is lost, and no file was written")
    with progress("fitting", problems) as update, stopped:
        return fit_path(
            X,
            y,
            rates,
            loss=loss,
            penalize_intercept=loss == "ovr",
            folds=masks,
            scale=PIXEL_SCALE,
            tol=tol,
            gap=gap,
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
    """(R,) mean over the folds of the accuracy on the rows that each did not train on."""
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
    """Report on stderr how many rates stopped short of their goal, and why."""
    for status, count in Counter(solution.status).items():
        if not status.reached:
            print(f"{count} of {len(solution.status)} rates: {status.message}", file=sys.stderr)
