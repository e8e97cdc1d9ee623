"""scikit-learn compatible estimators, fitted by `kernels.fit_path`.

They take scikit-learn's parameters and keep its attributes; predicting, probabilities and scoring are
scikit-learn's own methods. The differences: all rates and folds of the CV are solved in one batch, bytes are
fitted as they are, and a fit has converged only if ``tol`` holds in float64 and the loss is proven to lie within
`GAP` of its optimum, so that it exceeds scikit-learn's by no more.
"""

from __future__ import annotations

import inspect
import warnings
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn import linear_model
from sklearn.base import _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import check_scoring, make_scorer
from sklearn.model_selection import check_cv
from sklearn.utils import compute_class_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metadata_routing import _raise_for_params, _routing_enabled, process_routing
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_method_params,
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)

from papershell.kernels import PathSolution, fit_path
from papershell.trainers import array_api
from papershell.trainers.callbacks import Told
from papershell.trainers.linear_model import to_sklearn

GAP = 1e-3  # proven bound of (loss - optimum) / loss; without a penalty there is no such bound, only tol

_SHARED_CONSTRAINTS: dict[str, Any] = {
    "penalty": [StrOptions({"l2", "l1", "elasticnet", "deprecated"}), None],
    "fit_intercept": ["boolean"],
    "tol": [Interval(Real, 0, None, closed="neither")],
    "max_iter": [Interval(Integral, 0, None, closed="left")],
    "class_weight": [dict, StrOptions({"balanced"}), None],
    "multi_class": [StrOptions({"multinomial", "ovr"})],
    "backend": [str],
}


class _BatchedFit(linear_model.LogisticRegression):
    """The common part of both estimators: checking, encoding, weighting, and reading a solution."""

    classes_: np.ndarray
    coef_: np.ndarray
    intercept_: np.ndarray

    def _checked(self, X: Any, y: Any, sample_weight: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return X (N, P) as bytes or floats where it lies, labels 0..K-1 and weights (N,); set ``classes_``."""
        self._refuse_unsupported()
        X = array_api.lying(X)
        checked = array_api.narrow(X)  # fit_path looks at halves, in blocks
        X, y = validate_data(self, X, y, dtype=array_api.types(X), ensure_all_finite=not checked)
        check_classification_targets(y)
        self.classes_, labels = np.unique(array_api.on_host(y), return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                "This solver needs samples of at least 2 classes in the data, but the data contains only one"
                f" class: {self.classes_[0]!r}"
            )
        return array_api.features(X), labels, self._weights(labels, array_api.on_host(sample_weight))

    def _weights(self, labels: np.ndarray, sample_weight: Any) -> np.ndarray:
        """Return the weight of each sample (N,): its own times that of its class."""
        options: dict[str, Any] = {"dtype": np.float64, "ensure_non_negative": True, "copy": True}
        weight = _check_sample_weight(sample_weight, labels[:, None], **options)
        if self.class_weight is not None:
            options = {"classes": self.classes_, "y": self.classes_[labels], "sample_weight": sample_weight}
            weight *= compute_class_weight(self.class_weight, **options)[labels]
        with np.errstate(over="ignore"):
            if not np.isfinite(weight.sum()):
                text = "sample_weight sums to more than float64 holds; divide the weights by a number"
                raise ValueError(text)
        return weight

    def _refuse_unsupported(self) -> None:
        """Raise ValueError for a loss that `fit_path` does not minimize; warn as scikit-learn does."""
        if self.penalty != "deprecated":
            warnings.warn(
                "'penalty' was deprecated in scikit-learn 1.8; leave it out, and use C=np.inf for no penalty",
                FutureWarning,
                stacklevel=5,
            )
        if self.penalty not in ("l2", "deprecated", None):
            raise ValueError(f"penalty={self.penalty!r} is not supported; papershell fits L2 or no penalty")
        if self.dual or self.intercept_scaling != 1:
            raise ValueError(
                "dual=True and intercept_scaling other than 1 belong to liblinear; leave them out"
            )
        if self.solver == "liblinear":
            raise ValueError(
                "solver='liblinear' penalizes the intercept; use scikit-learn's, or kernels.fit_path"
            )

    def _solve(
        self, X: np.ndarray, labels: np.ndarray, rates: Any, weight: np.ndarray, **options: Any
    ) -> PathSolution:
        """Fit all rates; two classes are one logistic regression, as in scikit-learn."""
        solution = fit_path(
            X, labels, rates, loss=self._loss(), fit_intercept=self.fit_intercept, sample_weight=weight,
            tol=self.tol, gap=GAP, max_iter=self.max_iter, backend=self.backend, **options,
        )  # fmt: skip
        stopped = [status for status in solution.status.ravel() if not status.reached]
        if stopped:
            warnings.warn(
                f"lbfgs failed to converge in {len(stopped)} of {solution.status.size} fits: {stopped[0].message} "
                f"(largest gradient {solution.grad_norm.max():.1e}, tol {self.tol:g}, gap {GAP:g})",
                ConvergenceWarning,
                stacklevel=4,
            )
        return solution

    def _loss(self) -> str:
        return "ovr" if len(self.classes_) == 2 else self.multi_class

    def _keep(self, coef: np.ndarray, intercept: np.ndarray, dtype: Any) -> None:
        """Set ``coef_`` and ``intercept_`` in the precision of X."""
        self.coef_, self.intercept_ = self._kept(coef, intercept, dtype)

    def _kept(self, coef: np.ndarray, intercept: np.ndarray, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of two classes that scikit-learn keeps, in the precision of X."""
        kept = np.float32 if str(dtype).endswith(("float32", "float16")) else np.float64
        rows = slice(1 if len(self.classes_) == 2 else 0, None)
        return coef[rows].astype(kept), intercept[rows].astype(kept)

    def decision_function(self, X: Any) -> Any:
        """Return the logits (N, K), or (N,) for two classes; bytes and halves become floats block by block."""
        X = array_api.lying(X)
        if not array_api.narrow(X):
            return super().decision_function(X)
        check_is_fitted(self)
        array_api.check_same_namespace(X, self, attribute="coef_", method="decision_function")
        X = validate_data(self, X, reset=False, dtype=array_api.types(X), ensure_all_finite=False)
        return array_api.scores(X, self.coef_, self.intercept_)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, (N, K): softmax, or normalized sigmoids for one-vs-rest."""
        check_is_fitted(self)
        if self.multi_class == "ovr":
            array_api.check_same_namespace(X, self, attribute="coef_", method="predict_proba")
            return self._predict_proba_lr(X)
        return super().predict_proba(X)

    def to_sklearn(self) -> Any:
        """Return a genuine scikit-learn estimator with the same coefficients; it does not import papershell."""
        check_is_fitted(self)
        fitted = (self.coef_, self.intercept_, self.classes_, self.n_iter_)
        coef, intercept, classes, n_iter = map(array_api.on_host, fitted)
        if len(classes) == 2:
            coef, intercept = np.concatenate([-coef, coef]), np.concatenate([-intercept, intercept])
        loss = self._loss()
        return to_sklearn(coef, intercept, classes, l2=self._l2(), loss=loss, n_iter=int(np.max(n_iter)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        tags.array_api_support = True
        return tags


class LogisticRegression(_BatchedFit):
    """Logistic regression with an L2 penalty, or none (``C=np.inf``).

    Parameters are scikit-learn's, and two more: ``multi_class``, ``"multinomial"`` or ``"ovr"`` for K
    independent logistic regressions; ``backend``, a name of `kernels.available_backends` or ``"auto"``.
    ``solver``, ``random_state``, ``n_jobs`` and ``verbose`` are accepted and ignored.

    Attributes
    ----------
    coef_ : (K, P), or (1, P) for two classes.
    intercept_ : (K,) or (1,).
    classes_ : (K,).
    n_iter_ : (1,) accepted steps.

    Raises
    ------
    ValueError
        Another penalty than L2, sparse X, one class only, and all that scikit-learn refuses.
    """

    _parameter_constraints = _SHARED_CONSTRAINTS | {
        "C": [Interval(Real, 0, None, closed="right")],
        "l1_ratio": [Interval(Real, 0, 1, closed="both"), None],
        "warm_start": ["boolean"],
    }

    def __init__(
        self, penalty="deprecated", *, C=1.0, l1_ratio=0.0, dual=False, tol=1e-4, fit_intercept=True,
        intercept_scaling=1, class_weight=None, random_state=None, solver="lbfgs", max_iter=100, verbose=0,
        warm_start=False, n_jobs=None, multi_class="multinomial", backend="auto",
    ):  # fmt: skip
        super().__init__(
            penalty, C=C, l1_ratio=l1_ratio, dual=dual, tol=tol, fit_intercept=fit_intercept,
            intercept_scaling=intercept_scaling, class_weight=class_weight, random_state=random_state,
            solver=solver, max_iter=max_iter, verbose=verbose, warm_start=warm_start, n_jobs=n_jobs,
        )  # fmt: skip
        self.multi_class = multi_class
        self.backend = backend

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LogisticRegression:
        """Fit X (N, P), bytes or floats, to the labels y (N,); return self.

        Bytes, halves and floats are fitted as they are, where they lie. With scikit-learn's ``array_api_dispatch``
        fitted attributes and predictions are arrays of the library and device of X, ``classes_`` of y's.
        """
        self._warn()
        given = X
        X, labels, weight = self._checked(X, y, sample_weight)
        if self.l1_ratio:
            raise ValueError(f"l1_ratio={self.l1_ratio} is not supported; papershell fits L2 or no penalty")
        start = self._warm_start() if self.warm_start and hasattr(self, "coef_") else None
        told = (
            Told(self, X, self.classes_[labels], sample_weight) if hasattr(self, "_skl_callbacks") else None
        )
        on_step = told.step if told and self.solver == "lbfgs" else None
        solution = self._solve(X, labels, [self._l2()], weight, warm_start=start, on_step=on_step)
        self._keep(solution.coef[0], solution.intercept[0], X.dtype)
        self.n_iter_ = solution.n_iter.astype(np.int32)
        if told:
            told.end()
        array_api.give_back(self, given, y)
        return self

    def _warn(self) -> None:
        """Warn of parameters that are ignored, in scikit-learn's words."""
        if self.penalty is None and self.C != 1.0:
            warnings.warn("Setting penalty=None will ignore the C and l1_ratio parameters", stacklevel=4)
        if self.l1_ratio is None:
            text = "'l1_ratio=None' was deprecated in scikit-learn 1.8; use l1_ratio=0"
            warnings.warn(text, FutureWarning, stacklevel=4)
        if self.n_jobs is not None:
            text = f"'n_jobs' has no effect; leave it out (found n_jobs={self.n_jobs})"
            warnings.warn(text, FutureWarning, stacklevel=4)

    def _l2(self) -> float:
        return 0.0 if self.penalty is None else 1.0 / self.C

    def _warm_start(self) -> PathSolution:
        """Return the present coefficients as a solution to start from."""
        fitted = (array_api.on_host(self.coef_), array_api.on_host(self.intercept_))
        coef, intercept = (values[None].astype(np.float64) for values in fitted)
        if len(self.classes_) == 2:
            coef, intercept = (
                np.concatenate([-coef, coef], axis=1),
                np.concatenate([-intercept, intercept], axis=1),
            )
        unused = np.zeros(1)
        return PathSolution(coef, intercept, unused, unused, unused, unused, "")


def knowing_labels(scorer: Any, classes: np.ndarray) -> Any:
    """Return ``scorer`` told of all classes if its metric asks for them: a fold may lack one."""
    metric = getattr(scorer, "_score_func", None)
    if metric is None or "labels" not in inspect.signature(metric).parameters:
        return scorer
    options = {"labels": classes} | scorer._kwargs
    if len(classes) == 2 and "pos_label" in inspect.signature(metric).parameters:
        options = {"pos_label": classes[1]} | options
    higher = scorer._sign > 0
    return make_scorer(metric, greater_is_better=higher, response_method=scorer._response_method, **options)


class LogisticRegressionCV(_BatchedFit, linear_model.LogisticRegressionCV):
    """Logistic regression whose C is chosen by cross-validation: all folds and all C in one batch.

    Parameters are scikit-learn's, plus ``multi_class`` and ``backend`` as in `LogisticRegression`.
    ``scoring=None`` means accuracy. Attributes have scikit-learn's shapes for ``use_legacy_attributes``;
    the default here is False, as it will be there from 1.10 on.

    Attributes
    ----------
    coef_, intercept_, classes_ : as in `LogisticRegression`, of the final fit.
    Cs_ : (R,).
    C_ : float, the best.
    scores_ : (F, 1, R) on the held-out part of each fold.
    coefs_paths_ : (F, 1, R, K, P + 1), K = 1 for two classes; the last column is the intercept.
    n_iter_ : (F, 1, R).

    Raises
    ------
    ValueError
        ``l1_ratios`` other than zero, sparse X, and all that scikit-learn refuses.
    """

    C_: Any  # a number or, for use_legacy_attributes, (K,)
    l1_ratio_: Any
    coefs_paths_: Any
    scores_: Any

    _parameter_constraints = _SHARED_CONSTRAINTS | {
        "Cs": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "refit": ["boolean"],
        "use_legacy_attributes": ["boolean"],
    }

    def __init__(
        self, *, Cs=10, l1_ratios=None, fit_intercept=True, cv=None, dual=False, penalty="deprecated",
        scoring=None, solver="lbfgs", tol=1e-4, max_iter=100, class_weight=None, n_jobs=None, verbose=0,
        refit=True, intercept_scaling=1.0, random_state=None, use_legacy_attributes=False,
        multi_class="multinomial", backend="auto",
    ):  # fmt: skip
        super().__init__(
            Cs=Cs, l1_ratios=l1_ratios, fit_intercept=fit_intercept, cv=cv, dual=dual, penalty=penalty,
            scoring=scoring, solver=solver, tol=tol, max_iter=max_iter, class_weight=class_weight,
            n_jobs=n_jobs, verbose=verbose, refit=refit, intercept_scaling=intercept_scaling,
            random_state=random_state, use_legacy_attributes=use_legacy_attributes,
        )  # fmt: skip
        self.multi_class = multi_class
        self.backend = backend

    def set_callbacks(self, *callbacks: Any) -> LogisticRegressionCV:
        """Warn that none will be called: all rates and folds are one batch, without an estimator between steps."""
        if callbacks:
            text = "LogisticRegressionCV calls no callbacks; give kernels.fit_path a callback to follow a fit"
            warnings.warn(text, UserWarning, stacklevel=2)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None, **params: Any) -> LogisticRegressionCV:
        """Fit X (N, P), bytes or floats, to the labels y (N,); return self.

        X, y and the attributes are as in `LogisticRegression.fit`; the folds are scored on the host, with a copy of an
        X that lies elsewhere. Metadata routing passes ``params`` and ``sample_weight`` on to the splitter and the
        scorer, as in scikit-learn.
        """
        _raise_for_params(params, self, "fit")
        routed, given = self._routed(sample_weight, params), (X, y)
        X, labels, weight = self._checked(X, y, sample_weight)
        if self.l1_ratios is not None and np.any(self.l1_ratios):
            raise ValueError(f"l1_ratios={self.l1_ratios} is not supported; papershell fits L2 only")
        self.Cs_ = (
            np.logspace(-4, 4, self.Cs) if isinstance(self.Cs, Integral) else np.asarray(self.Cs, float)
        )
        y = self.classes_[labels]
        measured = array_api.on_host(X)  # a scorer may be any function of NumPy arrays
        splits = list(check_cv(self.cv, y, classifier=True).split(measured, y, **routed["splitter"]))
        rows = np.arange(len(y))  # a splitter may name a row twice, or give a mask
        folds = [np.bincount(rows[train], minlength=len(y)) for train, _ in splits]
        solution = self._solve(X, labels, 1.0 / self.Cs_, weight, folds=np.array(folds, np.float64))
        options = [_check_method_params(measured, routed["scorer"], test) for _, test in splits]
        scores = [
            self._scores(solution, f, measured[test], y[test], options[f])
            for f, (_, test) in enumerate(splits)
        ]
        self._choose(X, labels, weight, solution, np.array(scores))
        array_api.give_back(self, *given)
        return self

    def _routed(self, sample_weight: Any, params: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the arguments of the splitter and of the scorer."""
        if _routing_enabled():
            given = process_routing(self, "fit", sample_weight=sample_weight, **params)
            return {"splitter": given.splitter.split, "scorer": given.scorer.score}
        return {"splitter": {}, "scorer": {} if sample_weight is None else {"sample_weight": sample_weight}}

    def _scores(
        self, solution: PathSolution, f: int, X: np.ndarray, y: np.ndarray, options: dict[str, Any]
    ) -> list[float]:
        """Return the score of every C on the held-out part of fold ``f``."""
        model = LogisticRegression(multi_class=self.multi_class)
        model.classes_, model.n_features_in_ = self.classes_, X.shape[1]
        scorer = knowing_labels(check_scoring(model, scoring=self.scoring), self.classes_)
        scores = []
        for coef, intercept in zip(solution.coef[f], solution.intercept[f], strict=True):
            model._keep(coef, intercept, X.dtype)
            scores.append(scorer(model, X, y, **options))
        return scores

    def _choose(self, X: Any, labels: Any, weight: Any, solution: PathSolution, scores: np.ndarray) -> None:
        """Set the fitted attributes: the best C, the final coefficients, the paths."""
        if self.refit:
            self.C_ = float(self.Cs_[scores.mean(axis=0).argmax()])
            final = self._solve(X, labels, [1.0 / self.C_], weight)
            self._keep(final.coef[0], final.intercept[0], X.dtype)
        else:
            best = np.arange(len(scores)), scores.argmax(axis=1)
            self.C_ = float(self.Cs_[best[1]].mean())
            self._keep(solution.coef[best].mean(axis=0), solution.intercept[best].mean(axis=0), X.dtype)
        self.l1_ratio_, self.l1_ratios_ = 0.0, np.array([0.0])
        paths = np.concatenate([solution.coef, solution.intercept[..., None]], axis=-1)
        paths = paths if self.fit_intercept else solution.coef
        paths = paths[:, :, 1:] if len(self.classes_) == 2 else paths
        self.coefs_paths_, self.scores_ = paths[:, None], scores[:, None]
        self.n_iter_ = solution.n_iter[:, None].astype(np.int32)
        if self.use_legacy_attributes:
            self._use_legacy(paths, scores)

    def _use_legacy(self, paths: np.ndarray, scores: np.ndarray) -> None:
        """Reshape the attributes as scikit-learn had them before 1.10: an axis of l1_ratios only if they were given."""
        classes = self.classes_[-paths.shape[2] :]
        n_iter = self.n_iter_.reshape(1, *scores.shape)
        if self.l1_ratios is not None:
            paths, scores, n_iter = paths[:, :, :, None], scores[..., None], n_iter[..., None]
        self.coefs_paths_ = {label: paths[:, :, k] for k, label in enumerate(classes)}
        self.scores_ = dict.fromkeys(classes, scores)
        self.C_, self.l1_ratio_ = np.repeat(self.C_, len(classes)), np.repeat(0.0, len(classes))
        self.n_iter_ = n_iter

    def _l2(self) -> float:
        return 1.0 / float(np.max(self.C_))
