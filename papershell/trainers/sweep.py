"""A sweep: one model for every regularization rate, fitted in one batch, compared on samples that were held out."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from papershell.kernels import Evaluation, PathSolution, arrays, fit_path
from papershell.trainers.dataset import Dataset
from papershell.trainers.judging import Report, judge
from papershell.trainers.linear_model import LinearModel, unit
from papershell.trainers.program import interruptible
from papershell.trainers.progress import progress
from papershell.trainers.splits import fold_masks, held_out_mask

VALIDATION_SHARE = 0.2


@dataclass(frozen=True)
class Sweep:
    """Models for R regularization rates and how well each does.

    Attributes
    ----------
    l2 : (R,) rates, as given.
    loss : ``multinomial`` or ``ovr``.
    classes : (K,) labels.
    solution : `kernels.PathSolution` of the whole training part.
    apart : the paths (F, R, ...) that were fitted without some rows, to compare the rates on; None if there are none.
    masks : (F, N) the rows that each of these was fitted to.
    validation : how the paths of ``apart`` do on the rows held out: (R,) means over the folds. None without them.
    test : how ``solution`` does on the test part; None without one.
    best : index of the rate of the lowest log loss, on the rows held out if there are any, else on the test part; of
        equals the largest. Accuracy would leave the choice to single samples at the border of two classes, which two
        proven solutions may put on either side.
    """

    l2: np.ndarray
    loss: str
    classes: np.ndarray
    solution: PathSolution
    apart: PathSolution | None
    masks: np.ndarray | None
    validation: Evaluation | None
    test: Evaluation | None
    best: int

    @property
    def model(self) -> LinearModel:
        """The model of the best rate."""
        return self._model(self.solution)

    @property
    def chosen_on(self) -> str:
        """The part that the best rate was chosen on: ``validation`` or ``test``."""
        return "validation" if self.validation else "test"

    def report(self, data: Dataset) -> Report:
        """Judge the best rate on the test part; without one, by its models of ``apart`` on the rows held out."""
        if self.test:
            y = np.searchsorted(self.classes, data.y_test)
            return _judge("test", [self.model], [np.arange(len(y))], data.X_test, y)
        assert self.apart and self.masks is not None, "without a test part rows are held out"
        models = [self._model(_part(self.apart, f)) for f in range(len(self.masks))]
        rows = [np.flatnonzero(~mask) for mask in self.masks]
        return _judge("validation", models, rows, data.X_train, np.searchsorted(self.classes, data.y_train))

    def _model(self, path: PathSolution) -> LinearModel:
        r = self.best
        rate, n_iter = float(self.l2[r]), int(path.n_iter[r])
        return LinearModel(path.coef[r], path.intercept[r], self.classes, self.loss, rate, n_iter)

    def rates(self) -> list[dict[str, Any]]:
        """Return one record per rate: l2, C, loss, gap, grad_norm, n_iter, status, then accuracy and log loss by part.

        A gap that cannot be proven is None.
        """
        solution = self.solution
        assert solution.gap is not None, "fit_path sets it"
        parts = {"validation": self.validation, "test": self.test}
        return [
            {
                "l2": float(l2),
                "C": 1 / float(l2),
                "loss": float(solution.loss[r]),
                "gap": float(solution.gap[r]) if np.isfinite(solution.gap[r]) else None,
                "grad_norm": float(solution.grad_norm[r]),
                "n_iter": int(solution.n_iter[r]),
                "status": solution.status[r].name.lower(),
            }
            | {
                f"{part}_{name}": float(values[r])
                for part, scores in parts.items()
                if scores
                for name, values in vars(scores).items()
            }
            for r, l2 in enumerate(self.l2)
        ]


def sweep(
    data: Dataset,
    l2: Sequence[float],
    *,
    loss: str = "multinomial",
    folds: int | None = None,
    validation: float = VALIDATION_SHARE,
    choose_on: str = "validation",
    standardize: bool = False,
    tol: float | None = None,
    gap: float | None = None,
    backend: str = "auto",
) -> Sweep:
    """Fit every rate of ``l2`` on the training part at once, measure each, and choose the best.

    The kept models are of the whole training part, whatever they are compared on. The models that are compared on
    rows of the training part are fitted without these rows, in the same batch.

    Parameters
    ----------
    data : its features are never copied; bytes are scaled inside the solver.
    l2 : (R,) positive regularization rates, 1 / C.
    loss : ``multinomial``, its intercept unpenalized; or ``ovr``, one logistic regression per class with
        the intercept penalized: the objective of liblinear.
    folds : compare the rates by cross-validation with so many stratified folds of the training part.
    validation : without folds, the share of the training rows that is held out, stratified, chosen at random with the
        seed 42.
    choose_on : ``validation`` or ``test``. With ``test`` no row is held out; neither is one if a single rate leaves no
        choice. Without a test part rows are held out in any case.
    standardize : penalize the weights of the standardized features, by mean and deviation of the training part; the
        model is one of the features as they are. For floats.
    tol : bound on max |gradient| of each mean objective; scikit-learn's own is 1e-4.
    gap : bound on (loss - optimum) / loss of each rate, proven. If neither is given, ``gap=1e-4``.
    backend : a name of `kernels.available_backends`, or ``auto``.

    Raises
    ------
    ValueError
        No rate, or one that is not a positive number; more folds than a class has samples; a share that holds out
        nothing; ``choose_on="test"`` without a test part.
    kernels.BackendError
        The back end is absent.
    """
    rates = check_rates(l2)
    y, y_test = (np.searchsorted(data.classes, labels) for labels in (data.y_train, data.y_test))
    masks = _masks(y, len(y_test), len(rates), folds, validation, choose_on)
    how = {"loss": loss, "standardize": standardize, "tol": tol, "gap": gap, "backend": backend}
    found = _fit(data.X_train, y, rates, masks, how)
    whole, apart = (found, None) if masks is None else (_part(found, 0), _part(found, slice(1, None)))
    own = None
    if apart is not None and masks is not None:
        own = _mean(apart.evaluate(data.X_train, y, sample_weight=~masks))
    test = whole.evaluate(data.X_test, y_test) if len(y_test) else None
    merit = own or test
    assert merit, "without a test part rows are held out"
    best = max(range(len(rates)), key=lambda r: (-merit.log_loss[r], rates[r]))
    return Sweep(rates, loss, data.classes, whole, apart, masks, own, test, best)


def _masks(
    y: np.ndarray, n_test: int, n_rates: int, folds: int | None, validation: float, choose_on: str
) -> np.ndarray | None:
    """The rows to fit apart from others (F, N), or None if no choice and no judgement needs any."""
    if choose_on == "test" and folds:
        raise ValueError("folds are there to choose on; leave them out to choose on the test part")
    if choose_on == "test" and not n_test:
        raise ValueError("the data have no test part to choose on; choose on the validation part")
    if folds:
        return fold_masks(y, folds)
    if n_test and (choose_on == "test" or n_rates == 1):
        return None
    return held_out_mask(y, validation)[None]


def _mean(folds: Evaluation) -> Evaluation:
    return Evaluation(folds.accuracy.mean(axis=0), folds.log_loss.mean(axis=0))


def _judge(
    part: str, models: Sequence[LinearModel], rows: Sequence[np.ndarray], X: np.ndarray, y: np.ndarray
) -> Report:
    """The report of models on rows of X (N, P) each, of the classes y (N,)."""
    found = []
    for model, own in zip(models, rows, strict=True):
        for block in arrays.blocks(len(own), 8 * (X.shape[1] + len(model.classes))):
            index = own[block]
            scores = model.scores(X[index])
            predicted, each = scores.argmax(axis=1), np.arange(len(index))
            chances = model.probabilities(scores)
            found.append((index, y[index], predicted, chances[each, y[index]], chances[each, predicted]))
    return judge(part, models[0].classes, *map(np.concatenate, zip(*found, strict=True)))


def _fit(
    X: np.ndarray, y: np.ndarray, rates: np.ndarray, masks: np.ndarray | None, how: dict[str, Any]
) -> PathSolution:
    """Fit all rates on all rows, and on each fold's, in one call, with progress on stderr."""
    folds = None if masks is None else np.vstack([np.ones_like(masks[:1]), masks])
    problems = len(rates) * (1 if folds is None else len(folds))
    stopped = interruptible(lambda: "the fit is lost, and no file was written")
    with progress("fitting", problems) as update, stopped:
        return fit_path(
            X,
            y,
            rates,
            penalize_intercept=how["loss"] == "ovr",
            folds=folds,
            scale=unit(X),
            **how,
            callback=lambda passes, active, grad_norm: update(
                problems - active, f"pass {passes}, largest gradient {grad_norm:.1e}"
            ),
        )


def _part(solution: PathSolution, f: int | slice) -> PathSolution:
    """The path of one fold, or of several."""
    fields = ("coef", "intercept", "loss", "grad_norm", "n_iter", "status", "gap")
    return replace(solution, **{name: getattr(solution, name)[f] for name in fields})


def check_rates(l2: Sequence[float]) -> np.ndarray:
    """Return the rates as (R,) float64, or raise `ValueError` naming the one that cannot be."""
    rates = np.asarray(l2, dtype=np.float64).ravel()
    if not rates.size:
        raise ValueError("no regularization rate given; name at least one, as in --regularization 0.8")
    if len(wrong := rates[~(np.isfinite(rates) & (rates > 0))]):
        raise ValueError(f"the regularization rate {wrong[0]:g} cannot be used; rates are positive numbers")
    return rates


def warn_unconverged(solution: PathSolution) -> None:
    """Report on stderr how many rates stopped short of their goal, and why."""
    for status, count in Counter(solution.status).items():
        if not status.reached:
            print(f"{count} of {len(solution.status)} rates: {status.message}", file=sys.stderr)
