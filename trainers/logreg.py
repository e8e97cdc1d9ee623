"""Logistic regression on images: every regularization rate in one batched solve.

The regularization rate is 1 / C of scikit-learn. Pixels count as 0 to 1 (a byte divided by 255) in every
model written here; what scikit-learn loads from the .pkl therefore expects ``X / 255``.

    python -m trainers.logreg --data-folder data --regularization 0.8
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kernels import PathSolution, Status, fit_path
from trainers.checkpoint import manifest, write_atomic, write_json
from trainers.datasets import Dataset, load_dataset
from trainers.progress import progress
from trainers.tracking import start_run

PIXEL_SCALE = 1 / 255
SEED = 42
EXPERIMENT = "sklearn-mnist"
MODEL_STEM = "sklearn_mnist_model"


class ModelError(ValueError):
    """A model file cannot be used; the message names it."""


@dataclass(frozen=True)
class LinearModel:
    """One fitted classifier.

    Attributes
    ----------
    coef : (K, P) float64, for pixels scaled to 0..1.
    intercept : (K,) float64.
    classes : (K,) the label of each row.
    loss : ``multinomial`` or ``ovr``.
    l2 : regularization rate, 1 / C.
    """

    coef: np.ndarray
    intercept: np.ndarray
    classes: np.ndarray
    loss: str
    l2: float

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the label of each row of ``X``, (N, P) uint8 pixels."""
        if X.shape[1] != self.coef.shape[1]:
            raise ModelError(
                f"the model was trained on images of {self.coef.shape[1]} pixels, these have {X.shape[1]}; "
                f"predict on images of the same size"
            )
        return self.classes[(X @ (self.coef.T * PIXEL_SCALE) + self.intercept).argmax(axis=1)]

    def save(self, path: Path) -> None:
        """Write the model to an .npz file, atomically; nothing in it needs unpickling."""
        with write_atomic(path) as file:
            np.savez(file, **asdict(self))

    @classmethod
    def load(cls, path: Path) -> LinearModel:
        """Read a model that `save` wrote.

        Raises
        ------
        ModelError
            The file is damaged or holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                model = cls(**{name: arrays[name] for name in cls.__dataclass_fields__})
            fits = model.coef.shape == (len(model.classes), *model.coef.shape[1:]) and model.coef.ndim == 2
            if not fits or model.intercept.shape != model.classes.shape or not np.isfinite(model.coef).all():
                raise ValueError("its arrays do not fit together")
            return replace(model, loss=str(model.loss), l2=float(model.l2))
        except FileNotFoundError:
            raise
        except (ValueError, KeyError, TypeError, OSError, EOFError, MemoryError, zipfile.BadZipFile) as error:
            raise ModelError(
                f"{path} is not a model that papershell wrote ({error}); train it again"
            ) from error

    def to_sklearn(self) -> Any:
        """Return the model as scikit-learn's own estimator; see `to_sklearn`."""
        return to_sklearn(self.coef, self.intercept, self.classes, l2=self.l2, loss=self.loss)


def to_sklearn(
    coef: np.ndarray, intercept: np.ndarray, classes: np.ndarray, *, l2: float, loss: str, n_iter: int = 0
) -> Any:
    """Return fitted coefficients as a genuine scikit-learn estimator that needs nothing of papershell.

    Parameters
    ----------
    coef : (K, P) float64.
    intercept : (K,) float64.
    classes : (K,) sorted labels.
    l2 : regularization rate; the estimator's C is 1 / l2.
    loss : ``multinomial`` gives a `LogisticRegression`; so does ``ovr`` of two classes. ``ovr`` of more
        gives a `OneVsRestClassifier` of binary ones, since `LogisticRegression` would read K rows as softmax.
    n_iter : iterations done, for ``n_iter_``.
    """
    if len(classes) == 2:
        difference = (coef[1] - coef[0], intercept[1] - intercept[0]) if loss == "multinomial" else None
        row, offset = difference or (coef[1], intercept[1])
        return _sklearn_model(row[None], offset[None], classes, l2, n_iter)
    if loss == "multinomial":
        return _sklearn_model(coef, intercept, classes, l2, n_iter)
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    rest = OneVsRestClassifier(LogisticRegression(C=1 / l2, random_state=SEED))
    rest.fit(np.zeros((len(classes), 1)), classes)  # sets what this version of scikit-learn wants set
    rows = zip(coef[:, None], intercept[:, None], strict=True)
    rest.estimators_ = [_sklearn_model(row, offset, np.array([0, 1]), l2, n_iter) for row, offset in rows]
    rest.n_features_in_ = coef.shape[1]
    return rest


def _sklearn_model(
    coef: np.ndarray, intercept: np.ndarray, classes: np.ndarray, l2: float, n_iter: int
) -> Any:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1 / l2, random_state=SEED)
    model.coef_, model.intercept_, model.classes_ = coef, intercept, classes
    model.n_features_in_, model.n_iter_ = coef.shape[1], np.array([n_iter], dtype=np.int32)
    return model


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
        coef, intercept = self.solution.coef[self.best], self.solution.intercept[self.best]
        return LinearModel(coef, intercept, self.classes, self.loss, float(self.l2[self.best]))

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


def sweep(data: Dataset, l2: Sequence[float], *, loss: str = "multinomial", backend: str = "auto") -> Sweep:
    """Fit every rate of ``l2`` on the training part at once, and measure each on the test part.

    Parameters
    ----------
    data : images as bytes; they are scaled inside the solver and never copied.
    l2 : (R,) positive regularization rates, 1 / C.
    loss : ``multinomial``, its intercept unpenalized; or ``ovr``, one logistic regression per class with
        the intercept penalized, which is what liblinear minimizes.
    backend : a name of `kernels.available_backends`, or ``auto``.

    Raises
    ------
    ValueError
        No rate, or one that is not a positive number.
    kernels.BackendError
        The back end is absent.
    """
    rates = check_rates(l2)
    y = np.searchsorted(data.classes, data.y_train)
    with progress(f"fitting {len(rates)} rates", len(rates)) as update:
        solution = fit_path(
            data.X_train,
            y,
            rates,
            loss=loss,
            penalize_intercept=loss == "ovr",
            scale=PIXEL_SCALE,
            backend=backend,
            callback=lambda iteration, active, grad_norm: update(
                len(rates) - active, f"iteration {iteration}, largest gradient {grad_norm:.1e}"
            ),
        )
    accuracy = _accuracy(solution, data.X_test, np.searchsorted(data.classes, data.y_test))
    best = max(range(len(rates)), key=lambda r: (accuracy[r], rates[r]))
    return Sweep(rates, loss, data.classes, solution, accuracy, None, best)


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


def write_model(folder: Path, model: LinearModel, facts: Mapping[str, Any]) -> list[Path]:
    """Write the model three times into ``folder``, each file atomically; return the paths.

    ``sklearn_mnist_model.pkl`` holds scikit-learn's own estimator (joblib), ``.npz`` the same numbers
    without pickle, ``.json`` how it was made: ``facts`` and `trainers.checkpoint.manifest`.
    """
    import joblib

    pickled, safe, record = (folder / f"{MODEL_STEM}.{suffix}" for suffix in ("pkl", "npz", "json"))
    with write_atomic(pickled) as file:
        joblib.dump(model.to_sklearn(), file)
    model.save(safe)
    write_json(record, manifest(seed=SEED, **facts))
    return [pickled, safe, record]


def main(argv: Sequence[str] | None = None) -> None:
    """Train one model as the walk-through does; ``--help`` lists the flags."""
    args = _parser().parse_args(argv)
    check_rates([args.regularization])
    data = load_dataset(args.data_folder)
    with start_run(EXPERIMENT, f"train logreg on {data.name}") as run:
        run.log_params(vars(args))
        print(f"training logistic regression, rate {args.regularization:g}, {len(data.X_train)} images")
        result = sweep(data, [args.regularization], loss=args.loss, backend=args.backend)
        metrics = {"regularization rate": args.regularization, "accuracy": float(result.test_accuracy[0])}
        run.log_metrics(metrics)
        facts = {"dataset": data.name, "backend": result.solution.backend, "arguments": vars(args)}
        for path in write_model(Path(args.out), result.model, facts | {"rates": result.rates()}):
            run.log_artifact(path)
    if (status := result.solution.status[0]) is not Status.CONVERGED:
        print(f"not converged: {status.message}", file=sys.stderr)
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
    add("--backend", default="auto", help="see `papershell backends` (default: auto)")
    add("--out", default="outputs", help="folder for the model files (default: outputs)")
    return parser


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")
