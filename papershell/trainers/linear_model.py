"""A fitted linear classifier: how it predicts, and the files it is kept in.

Bytes count as 0 to 1 (divided by 255) in every model here, other numbers as they are; the estimator in the .pkl
of a model of bytes therefore expects ``X / 255``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from papershell.kernels import arrays
from papershell.kernels.files import replacing, write_json
from papershell.kernels.logreg.losses import class_scores, probabilities
from papershell.trainers import SEED
from papershell.trainers.formats.npz import read_npz
from papershell.trainers.provenance import manifest

PIXEL_SCALE = 1 / 255
MODEL_STEM = "sklearn_mnist_model"
LARGEST = 1e100  # of a coefficient; a sum of a few billion pixels times so much is still finite
_KINDS = {"coef": "f", "intercept": "f", "classes": "biufU", "loss": "U", "l2": "f", "n_iter": "iu"}


def unit(X: np.ndarray) -> float:
    """Return the factor of the numbers in ``X``: `PIXEL_SCALE` for bytes, 1 for others."""
    return PIXEL_SCALE if X.dtype == np.uint8 else 1.0


class ModelError(ValueError):
    """A model file cannot be used; the message names it."""


@dataclass(frozen=True)
class LinearModel:
    """One fitted classifier.

    Attributes
    ----------
    coef : (K, P) float64, for the features as they are; bytes count as 0 to 1.
    intercept : (K,) float64.
    classes : (K,) the label of each row.
    loss : ``multinomial`` or ``ovr``.
    l2 : regularization rate, 1 / C.
    n_iter : steps that the solver took.
    """

    coef: np.ndarray
    intercept: np.ndarray
    classes: np.ndarray
    loss: str
    l2: float
    n_iter: int

    def scores(self, X: np.ndarray) -> np.ndarray:
        """Return what decides between the classes, (N, K) float64, for rows of bytes or other numbers (N, P).

        ``X`` is converted in blocks, so that memory beyond the result is small.

        Raises
        ------
        ModelError
            The rows have another length than those that the model was trained on.
        """
        if X.shape[1] != self.coef.shape[1]:
            raise ModelError(
                f"the model was trained on samples of {self.coef.shape[1]} numbers, these have {X.shape[1]}; "
                f"predict on samples of the same size"
            )
        W, found = self.coef.T * unit(X), np.empty((len(X), len(self.classes)))
        for part in arrays.blocks(len(X), 8 * X.shape[1]):
            np.matmul(X[part].astype(np.float64), W, out=found[part])
        return found + self.intercept

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Return the probability of each class (N, K) from `scores`: the softmax, or the shares of K sigmoids."""
        return probabilities(np, class_scores(np, scores, self.loss))

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the label of each row of ``X``; parameters and errors are those of `scores`."""
        return self.classes[self.scores(X).argmax(axis=1)]

    def save(self, path: Path) -> None:
        """Write the model to an .npz file, atomically; a reader unpickles no part of it."""
        with replacing(path, parents=True) as file:
            np.savez(file, **asdict(self))

    @classmethod
    def load(cls, path: Path) -> LinearModel:
        """Read a model that `save` wrote; memory is bounded by the size of the file.

        Raises
        ------
        ModelError
            The file is damaged or holds something else.
        OSError
            The file cannot be read.
        """
        with open(path, "rb") as file:
            try:
                arrays: dict[str, Any] = read_npz(file, _KINDS)
                model = cls(**arrays | {name: arrays[name].item() for name in ("loss", "l2", "n_iter")})
                model._check()
            except Exception as error:  # zipfile and NumPy raise a dozen types on damaged files
                raise ModelError(
                    f"{path} is not a model that papershell wrote ({error}); train it again"
                ) from error
        return model

    def _check(self) -> None:
        """Raise ValueError unless a fit could have given these numbers."""
        if self.coef.ndim != 2 or self.coef.shape[0] < 2 or not self.coef.shape[1]:
            raise ValueError(f"its coefficients have the shape {self.coef.shape}")
        if not self.intercept.shape == self.classes.shape == self.coef.shape[:1]:
            raise ValueError("its arrays do not fit together")
        for array in (self.coef, self.intercept, np.array(self.l2)):
            if not (np.abs(array) <= LARGEST).all():  # false for NaN
                raise ValueError(f"it holds numbers that are not finite or larger than {LARGEST:g}")
        if self.loss not in ("multinomial", "ovr") or self.l2 < 0 or self.n_iter < 0:
            raise ValueError(f"its loss is {self.loss!r}, l2 {self.l2}, n_iter {self.n_iter}")
        if len(np.unique(self.classes)) < len(self.classes):
            raise ValueError("it names a class twice")

    def to_sklearn(self) -> Any:
        """Return the model as scikit-learn's own estimator; see `to_sklearn`."""
        return to_sklearn(
            self.coef, self.intercept, self.classes, l2=self.l2, loss=self.loss, n_iter=self.n_iter
        )


def to_sklearn(
    coef: np.ndarray, intercept: np.ndarray, classes: np.ndarray, *, l2: float, loss: str, n_iter: int
) -> Any:
    """Return fitted coefficients as a genuine scikit-learn estimator, which does not import papershell.

    Parameters
    ----------
    coef : (K, P) float64.
    intercept : (K,) float64.
    classes : (K,) sorted labels.
    l2 : regularization rate; the estimator's C is 1 / l2, infinite for 0.
    loss : ``multinomial`` gives a `LogisticRegression`; so does ``ovr`` of two classes. ``ovr`` of more
        gives a `OneVsRestClassifier` of binary ones, since `LogisticRegression` would read K rows as softmax.
    n_iter : steps that the solver took, for ``n_iter_``.
    """
    if len(classes) == 2:
        difference = (coef[1] - coef[0], intercept[1] - intercept[0]) if loss == "multinomial" else None
        row, offset = difference or (coef[1], intercept[1])
        return _sklearn_model(row[None], offset[None], classes, l2, n_iter)
    if loss == "multinomial":
        return _sklearn_model(coef, intercept, classes, l2, n_iter)
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    rest = OneVsRestClassifier(LogisticRegression(C=_inverse(l2), random_state=SEED))
    rest.fit(
        np.zeros((len(classes), 1)), classes
    )  # sets the attributes that this version of scikit-learn reads
    rows = zip(coef[:, None], intercept[:, None], strict=True)
    rest.estimators_ = [_sklearn_model(row, offset, np.array([0, 1]), l2, n_iter) for row, offset in rows]
    rest.n_features_in_ = coef.shape[1]
    return rest


def _inverse(l2: float) -> float:
    return 1 / l2 if l2 else float("inf")


def _sklearn_model(
    coef: np.ndarray, intercept: np.ndarray, classes: np.ndarray, l2: float, n_iter: int
) -> Any:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=_inverse(l2), random_state=SEED)
    model.coef_, model.intercept_, model.classes_ = coef, intercept, classes
    model.n_features_in_, model.n_iter_ = coef.shape[1], np.array([n_iter], dtype=np.int32)
    return model


def model_path(folder: Path) -> Path:
    """Return where `write_model` puts the file for scikit-learn."""
    return folder / f"{MODEL_STEM}.pkl"


def write_model(folder: Path, model: LinearModel, facts: Mapping[str, Any]) -> list[Path]:
    """Write the model three times into ``folder``, each file atomically; return the paths.

    ``sklearn_mnist_model.pkl`` holds scikit-learn's own estimator (joblib), ``.npz`` the same numbers
    without pickle, ``.json`` how it was made: ``facts`` and `papershell.trainers.provenance.manifest`.
    """
    import joblib

    pickled = model_path(folder)
    safe, record = (pickled.with_suffix(suffix) for suffix in (".npz", ".json"))
    write_json(record, manifest(seed=SEED, **facts))  # first: no model lies here without its origin
    with replacing(pickled, parents=True) as file:
        joblib.dump(model.to_sklearn(), file)
    model.save(safe)
    return [pickled, safe, record]
