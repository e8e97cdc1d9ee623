"""A fitted path, and what its models say about samples: all rates of all folds from one product, in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from papershell.kernels import arrays, backends
from papershell.kernels.logreg import validate
from papershell.kernels.logreg.losses import class_scores, probabilities
from papershell.kernels.logreg.problem import Samples
from papershell.kernels.placement import follow

LOGITS_BYTES = 64 << 20  # of one block of rows


@dataclass(frozen=True)
class Evaluation:
    """How well the models of a path do on labelled samples; both fields have the path's leading axes.

    Attributes
    ----------
    accuracy : (R,) share of the samples whose most probable class is theirs.
    log_loss : (R,) mean of -log(probability of the sample's class), in nats.
    """

    accuracy: np.ndarray
    log_loss: np.ndarray


@dataclass(frozen=True)
class PathSolution:
    """The fitted path; every field has leading axis R (F, R where folds were given).

    Attributes
    ----------
    coef : (R, K, P) float64, of scaled features.
    intercept : (R, K) float64; zeros without an intercept.
    loss : (R,) the objective, a sum over the samples plus the penalty, evaluated in float64.
    grad_norm : (R,) max |gradient| of the mean objective, evaluated in float64.
    n_iter : (R,) accepted steps.
    status : (R,) array of `Status`, whose ``message`` is a sentence.
    gap : (R,) certified upper bound of (loss - optimum) / loss in float64; infinite if it cannot be proven.
    backend : the name of the back end that ran.
    scale : the factor of X that the fit was told; `predict` and the others apply it too.
    objective : ``"multinomial"`` or ``"ovr"``.
    """

    coef: np.ndarray
    intercept: np.ndarray
    loss: np.ndarray
    grad_norm: np.ndarray
    n_iter: np.ndarray
    status: np.ndarray
    backend: str
    gap: np.ndarray | None = None  # only a start for `warm_start` has none
    scale: float = 1.0
    objective: str = "multinomial"

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each sample under each model.

        Parameters
        ----------
        X : (N, P) features of a kind that `fit_path` takes, unscaled as there. They are read once, in blocks of
            rows, by the back end of the fit, in its finest precision.

        Returns
        -------
        labels : (R, N) int64 in 0..K-1; (F, R, N) after a fit with folds.

        Raises
        ------
        ValueError
            X does not hold P finite numbers for each sample.
        BackendError
            The back end of the fit is absent here; ``dataclasses.replace(solution, backend="numpy")`` needs none.
        """
        labels = [Z.argmax(axis=2) for _, Z in self._logits(validate.features(X))]
        return np.concatenate(labels, axis=1).reshape(*self._leading, -1)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class: softmax, or for one-vs-rest sigmoids divided by their sum.

        Parameters and errors are those of `predict`.

        Returns
        -------
        probabilities : (R, N, K) float64; (F, R, N, K) after a fit with folds.
        """
        X, K = validate.features(X), self.coef.shape[-2]
        found = np.empty((self._models, len(X), K))
        for rows, Z in self._logits(X):
            scores = class_scores(np, Z, self.objective).reshape(-1, K)
            found[:, rows] = probabilities(np, scores).reshape(Z.shape)
        return found.reshape(*self._leading, len(X), K)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> np.ndarray:
        """Return the accuracy (R,), or (F, R) after a fit with folds; see `evaluate`."""
        return self.evaluate(X, y, sample_weight).accuracy

    def evaluate(self, X: Any, y: Any, sample_weight: Any = None) -> Evaluation:
        """Return accuracy and mean log loss of every model.

        Parameters
        ----------
        X : (N, P) as for `predict`; no prediction of all rows is ever kept.
        y : (N,) integer labels in 0..K-1; not every class need be present.
        sample_weight : (N,) finite and >= 0, or after a fit with folds also (F, N), for example the masks of the
            samples that each fold left out. Ones by default.

        Raises
        ------
        ValueError
            As `predict`; a label that the fit did not see; weights of another shape, or all zero.
        """
        X, folds = validate.features(X), self._folds
        y = validate.known_labels(y, len(X), self.coef.shape[-2])
        weight = validate.evaluation_weight(sample_weight, len(X), folds)
        sums = np.zeros((2, folds, self._models // folds))
        for rows, Z in self._logits(X):
            hits = Z.argmax(axis=2) == y[rows]
            losses = -log_probability(class_scores(np, Z, self.objective), y[rows])
            each = np.stack([hits, losses]).reshape(*sums.shape, -1)
            sums += np.einsum("sfrn,fn->sfr", each, np.broadcast_to(weight[:, rows], (folds, len(hits[0]))))
        accuracy, log_loss = (sums / weight.sum(axis=1)[:, None]).reshape(2, *self._leading)
        return Evaluation(accuracy, log_loss)

    @property
    def _leading(self) -> tuple[int, ...]:
        return self.coef.shape[:-2]

    @property
    def _models(self) -> int:
        return int(np.prod(self._leading))

    @property
    def _folds(self) -> int:
        return self._leading[0] if len(self._leading) == 2 else 1

    def _logits(self, X: Any) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield blocks of rows and the logits (M, n, K) of all M models for them."""
        (X, backend), (K, P) = follow(X, self.backend), self.coef.shape[-2:]
        if X.shape[1] != P:
            raise ValueError(f"X has {X.shape[1]} features, but the path was fitted with {P}; pass the same")
        validate.magnitude(X)
        theta = np.concatenate([self.coef, self.intercept[..., None]], axis=-1).reshape(-1, K, P + 1)
        make = backends.implementation("logreg", backend).Engine
        whole = Samples(X, np.zeros(len(X), np.int64), np.ones((1, len(X))), K, self.scale, True)
        for rows in arrays.blocks(len(X), 8 * len(theta) * K, LOGITS_BYTES):
            engine = make(whole.take(rows))
            with engine.limits():
                Z = engine.logits(theta)
            yield rows, Z


def log_probability(Z: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the logarithm (M, n) of the softmax of ``Z`` (M, n, K) at the classes ``y`` (n,)."""
    top = Z.max(axis=2)
    total = np.exp(Z - top[:, :, None]).sum(axis=2)
    return Z[:, np.arange(len(y)), y] - top - np.log(total)
