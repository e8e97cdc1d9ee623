"""The logistic-regression trainer: its models, their files, and `python -m papershell.trainers.logreg`."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from papershell.kernels import BackendError, Status, available_backends, fit_path
from papershell.kernels.backends import is_available
from papershell.trainers.datasets import Dataset, load_dataset
from papershell.trainers.linear_model import MODEL_STEM, LinearModel, write_model
from papershell.trainers.logreg import main
from papershell.trainers.run_history import list_runs
from papershell.trainers.sweep import sweep, warn_unconverged

TOLERANCE = 1e-4  # as scikit-learn has it: the largest gradient of the mean objective


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Dataset:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAPERSHELL_CACHE", str(tmp_path_factory.mktemp("cache")))
        return load_dataset("digits")


@pytest.fixture(scope="module")
def pair(digits) -> Dataset:
    """Threes against eights: two classes whose labels are neither 0 nor 1."""

    def of(X, y):
        keep = np.isin(y, (3, 8))
        return X[keep], y[keep]

    train, test = of(digits.X_train, digits.y_train), of(digits.X_test, digits.y_test)
    return Dataset("pair", *train, *test, (8, 8), np.array([3, 8], np.uint8))


def gradient(model: LinearModel, data: Dataset, *, penalize_intercept: bool) -> float:
    """Largest gradient of the mean objective, from its textbook formula on pixels 0..1."""
    X, Y = data.X_train / 255, data.y_train[:, None] == model.classes
    scores = X @ model.coef.T + model.intercept
    if model.loss == "ovr":
        residual = 1 / (1 + np.exp(-scores)) - Y
    else:
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        residual = weights / weights.sum(axis=1, keepdims=True) - Y
    on_coef = residual.T @ X + model.l2 * model.coef
    on_intercept = residual.sum(axis=0) + penalize_intercept * model.l2 * model.intercept
    return max(np.abs(on_coef).max(), np.abs(on_intercept).max()) / len(X)


@pytest.mark.parametrize("loss", ["multinomial", "ovr"])
def test_each_rate_reaches_the_optimum_of_its_objective_on_scaled_pixels(digits, loss):
    for r, rate in enumerate(rates := [0.1, 1.0, 30.0]):
        result = sweep(digits, rates, loss=loss, tol=TOLERANCE, choose_on="test")
        coef, intercept = result.solution.coef[r], result.solution.intercept[r]
        model = LinearModel(coef, intercept, result.classes, loss, rate, 0)
        assert gradient(model, digits, penalize_intercept=loss == "ovr") <= TOLERANCE * (1 + 1e-9)


def test_each_gap_bounds_the_distance_to_scikit_learns_best_loss(digits):
    from sklearn.linear_model import LogisticRegression

    rates = [0.5, 30.0]
    for rate, record in zip(rates, sweep(digits, rates, gap=1e-5, choose_on="test").rates(), strict=True):
        peer = LogisticRegression(C=1 / rate, tol=1e-8, max_iter=5000)
        peer.fit(digits.X_train / 255, digits.y_train)
        logits = peer.predict_log_proba(digits.X_train / 255)
        loss = rate / 2 * (peer.coef_**2).sum() - logits[np.arange(len(logits)), digits.y_train].sum()
        assert record["status"] == "proven" and record["gap"] <= 1e-5
        assert record["loss"] * (1 - record["gap"]) <= loss


@pytest.mark.parametrize("kind", ["digits", "pair"])
@pytest.mark.parametrize("loss", ["multinomial", "ovr"])
def test_the_scikit_learn_model_scores_what_the_sweep_measured(request, kind, loss):
    data = request.getfixturevalue(kind)
    result = sweep(data, [0.5, 8.0], loss=loss, choose_on="test")
    estimator = result.model.to_sklearn()
    assert estimator.score(data.X_test / 255, data.y_test) == result.test.accuracy[result.best]
    np.testing.assert_array_equal(estimator.predict(data.X_test / 255), result.model.predict(data.X_test))
    np.testing.assert_allclose(estimator.predict_proba(data.X_test / 255).sum(axis=1), 1)
    assert estimator.n_features_in_ == 64 and estimator.classes_.tolist() == data.classes.tolist()


def test_probabilities_are_the_softmax_of_all_classes(digits):
    model = sweep(digits, [1.0]).model
    scores = digits.X_test / 255 @ model.coef.T + model.intercept
    expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    actual = model.to_sklearn().predict_proba(digits.X_test / 255)
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)


def test_one_vs_rest_agrees_with_scikit_learns_own_on_liblinear(digits):
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    ours = sweep(digits, [1.0], loss="ovr", tol=TOLERANCE).model.to_sklearn()
    theirs = OneVsRestClassifier(LogisticRegression(C=1, solver="liblinear", tol=1e-6, max_iter=1000))
    theirs.fit(digits.X_train / 255, digits.y_train)
    assert type(ours) is type(theirs)
    X = digits.X_test / 255
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    np.testing.assert_array_equal(ours.label_binarizer_.classes_, theirs.label_binarizer_.classes_)


def test_a_pickled_model_needs_scikit_learn_alone(digits, tmp_path):
    for loss in ("multinomial", "ovr"):
        write_model(tmp_path, sweep(digits, [1.0], loss=loss).model, {})
        np.save(tmp_path / "X.npy", digits.X_test / 255)
        script = (
            "import sys; sys.modules.update(dict.fromkeys(['papershell']))\n"
            f"import joblib, numpy; model = joblib.load('{MODEL_STEM}.pkl')\n"
            "print(type(model).__module__, *model.predict(numpy.load('X.npy')))"
        )
        done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
        module, *labels = done.stdout.split()
        assert module.startswith("sklearn.") and done.stderr == ""
        expected = LinearModel.load(tmp_path / f"{MODEL_STEM}.npz").predict(digits.X_test)
        assert labels == [str(label) for label in expected]


def test_the_best_on_the_test_part_is_the_surest_of_equals_the_largest_rate(digits):
    result = sweep(digits, [100.0, 0.5, 0.5, 1e-2], choose_on="test")
    merit = zip(-result.test.log_loss, result.l2, strict=True)
    assert result.best == max(enumerate(merit), key=lambda pair: pair[1])[0] and result.chosen_on == "test"
    assert result.rates()[0].keys() == {
        "l2", "C", "loss", "gap", "grad_norm", "n_iter", "status", "test_accuracy", "test_log_loss",
    }  # fmt: skip
    assert result.rates()[0]["C"] == 0.01 and result.rates()[0]["status"] == "proven"


def test_the_best_is_chosen_on_rows_that_its_rivals_did_not_see(digits):
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    rates, tol = [0.5, 5.0, 50.0], TOLERANCE / 100
    result = sweep(digits, rates, tol=tol)
    (seen,), X = result.masks, digits.X_train / 255
    assert abs((~seen).sum() - 0.2 * len(X)) < 1 and result.chosen_on == "validation"
    for r, rate in enumerate(rates):
        peer = LogisticRegression(C=1 / rate, tol=tol, max_iter=3000).fit(X[seen], digits.y_train[seen])
        chances = peer.predict_proba(X[~seen])
        accuracy = (chances.argmax(axis=1) == digits.y_train[~seen]).mean()
        assert abs(result.validation.accuracy[r] - accuracy) <= 3 / (~seen).sum()
        np.testing.assert_allclose(
            result.validation.log_loss[r], log_loss(digits.y_train[~seen], chances), rtol=1e-3
        )
    assert result.best == int(np.argmin(result.validation.log_loss))
    everything = sweep(digits, rates, tol=tol, choose_on="test")
    np.testing.assert_allclose(result.test.log_loss, everything.test.log_loss, rtol=1e-3)


@pytest.mark.parametrize("loss", ["multinomial", "ovr"])
def test_the_report_is_of_the_best_model_on_the_test_part(digits, loss):
    result = sweep(digits, [0.5, 8.0], loss=loss)
    report, estimator = result.report(digits), result.model.to_sklearn()
    chances = estimator.predict_proba(digits.X_test / 255)
    assert report.part == "test" and report.accuracy == result.test.accuracy[result.best]
    np.testing.assert_allclose(report.log_loss, result.test.log_loss[result.best], rtol=1e-6)
    np.testing.assert_allclose(report.confidence, chances[report.mistakes].max(axis=1), rtol=1e-6)
    own, predicted = report.mistaken.T
    np.testing.assert_array_equal(own, digits.y_test[report.mistakes])
    np.testing.assert_array_equal(predicted, chances[report.mistakes].argmax(axis=1))


@pytest.mark.parametrize("folds", [None, 3])
def test_without_a_test_part_the_report_is_of_rows_held_out(digits, folds):
    alone = replace(digits, X_test=digits.X_test[:0], y_test=digits.y_test[:0])
    result = sweep(alone, [1.0], folds=folds)
    report = result.report(alone)
    assert result.test is None and "test_accuracy" not in result.rates()[0] and report.part == "validation"
    assert report.n == (~result.masks).sum() == (len(digits.y_train) if folds else 287)
    np.testing.assert_allclose(report.accuracy, result.validation.accuracy[0], atol=1e-3)
    for row, own, other in zip(report.mistakes, *report.mistaken.T, strict=True):
        assert not result.masks[:, row].all() and digits.y_train[row] == own != other
    with pytest.raises(ValueError, match="no test part to choose on"):
        sweep(alone, [1.0], choose_on="test")


def test_floats_and_strings_are_fitted_as_they_are(digits):
    names = np.array([f"digit {k}" for k in range(10)])
    halves = replace(
        digits, X_train=(digits.X_train / 255).astype(np.float16), X_test=(digits.X_test / 255).astype(np.float16),
        y_train=names[digits.y_train], y_test=names[digits.y_test], classes=names,
    )  # fmt: skip
    ours, wide = sweep(halves, [1.0]), sweep(replace(halves, X_train=halves.X_train.astype(float)), [1.0])
    np.testing.assert_allclose(ours.solution.loss, wide.solution.loss, rtol=1e-4)
    assert ours.model.predict(halves.X_test)[0].startswith("digit ")
    assert (ours.model.predict(halves.X_test) == halves.y_test).mean() == ours.test.accuracy[0]


def test_a_standardized_sweep_keeps_a_model_of_the_features_as_they_are(digits):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    halves = replace(
        digits, X_train=digits.X_train.astype(np.float16), X_test=digits.X_test.astype(np.float16)
    )
    ours = sweep(halves, [10.0], standardize=True, gap=1e-7)
    peer = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-6, max_iter=3000))
    peer.fit(digits.X_train.astype(float), digits.y_train)
    expected = peer.predict_proba(digits.X_test.astype(float))
    np.testing.assert_allclose(
        ours.model.probabilities(ours.model.scores(halves.X_test)), expected, atol=1e-3
    )
    assert ours.test.accuracy[0] == ours.report(halves).accuracy
    with pytest.raises(ValueError, match="bytes cannot be standardized"):
        sweep(digits, [10.0], standardize=True)


def test_cross_validation_chooses_by_images_that_a_fold_did_not_train_on(digits):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from threadpoolctl import threadpool_limits

    rates = [0.1, 10.0, 1000.0]
    result = sweep(digits, rates, folds=3, tol=TOLERANCE)
    X, y = digits.X_train / 255, digits.y_train
    cv = StratifiedKFold(3, shuffle=True, random_state=42)
    for r, rate in enumerate(rates):
        with threadpool_limits(1):  # many small products: a second thread costs more than it brings
            peer = cross_val_score(LogisticRegression(C=1 / rate, tol=TOLERANCE, max_iter=1000), X, y, cv=cv)
        # two solutions within the tolerance may disagree on an image at the border of two classes
        assert abs(result.validation.accuracy[r] - peer.mean()) <= 3 / len(y)
    assert result.best == int(np.argmin(result.validation.log_loss))
    alone = sweep(digits, rates, tol=TOLERANCE, choose_on="test")
    np.testing.assert_array_equal(result.test.accuracy, alone.test.accuracy)
    with pytest.raises(ValueError, match="folds are there to choose on"):
        sweep(digits, rates, folds=3, choose_on="test")


def test_more_folds_than_a_class_has_images_is_one_sentence(digits):
    with pytest.raises(ValueError, match="1000 folds need as many training samples of each class"):
        sweep(digits, [1.0], folds=1000)


def test_rates_that_stopped_short_are_counted_and_explained(digits, capsys):
    problem = {"X": digits.X_train, "y": digits.y_train.astype(int), "l2": [1e6, 1.0, 0.1], "scale": 1 / 255}
    whole = fit_path(**problem)
    warn_unconverged(whole)
    assert capsys.readouterr().err == ""
    warn_unconverged(fit_path(**problem, max_iter=int(whole.n_iter.min())))
    short = np.count_nonzero(whole.n_iter > whole.n_iter.min())
    assert capsys.readouterr().err == f"{short} of 3 rates: {Status.MAX_ITER.message}\n" and short


@pytest.mark.parametrize("rates", [[], [-1.0], [0.0], [0.5, math.nan], [math.inf]])
def test_rates_that_cannot_be_are_one_sentence(digits, rates):
    with pytest.raises(ValueError, match="regularization rate"):
        sweep(digits, rates)


def test_an_absent_back_end_is_an_error_and_not_another_one(digits):
    with pytest.raises(BackendError, match="abacus"):
        sweep(digits, [1.0], backend="abacus")


def test_the_trainer_prints_and_records_the_walk_throughs_metrics(project, capsys, monkeypatch):
    monkeypatch.setenv("PAPERSHELL_CACHE", str(project / "cache"))
    main(["--data-folder", "digits", "--regularization", "0.8", "--out", "out"])
    record = json.loads((project / "out" / f"{MODEL_STEM}.json").read_text())
    accuracy = record["rates"][0]["test_accuracy"]
    assert capsys.readouterr().out.splitlines()[-1] == str({"regularization rate": 0.8, "accuracy": accuracy})
    assert record["arguments"]["loss"] == "ovr" and record["seed"] == 42
    assert accuracy > 0.9


def test_the_trainer_runs_as_a_module_without_a_cloud_sdk(project):
    script = (
        "import sys, runpy; sys.argv = ['x', '--data-folder', 'nowhere']\n"
        "try: runpy.run_module('papershell.trainers.logreg', run_name='__main__')\n"
        "finally: print(sorted({m.split('.')[0] for m in sys.modules} & {'azureml', 'mlflow', 'torch'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout.strip() == "[]"
    assert done.stderr.startswith("error: there is no folder nowhere") and done.stderr.count("\n") == 1


@pytest.mark.skipif(not is_available("torch"), reason=available_backends()["torch"])
def test_two_processes_under_torchrun_train_one_model_and_the_first_tells(digits, project, monkeypatch):
    monkeypatch.setenv("PAPERSHELL_CACHE", str(project / "cache"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2]), *sys.path]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # else torchrun warns that it sets it
    flags = ["--data-folder", "digits", "--regularization", "0.8", "--loss", "multinomial"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "papershell.trainers.logreg", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    recorded = importlib.util.find_spec("mlflow") is not None
    assert done.stdout.splitlines() == [
        "training logistic regression, rate 0.8, 1437 images",
        *(f"wrote outputs/{MODEL_STEM}.{suffix}" for suffix in ("pkl", "npz", "json")),
        *["registered sklearn_digits, id sklearn_digits:1, version 1"] * recorded,
        str(
            {
                "regularization rate": 0.8,
                "accuracy": sweep(digits, [0.8], tol=TOLERANCE).test.accuracy[0].item(),
            }
        ),
    ]
    assert done.stderr == ""
    model = LinearModel.load(project / "outputs" / f"{MODEL_STEM}.npz")
    assert gradient(model, digits, penalize_intercept=False) <= TOLERANCE * (1 + 1e-9)
    assert not recorded or len(list_runs()) == 1


@pytest.mark.mnist
def test_mnist_gives_the_walk_throughs_accuracy(mnist_folder, monkeypatch):
    """0.9202 at C = 1 is what the walk-through prints; 0.9202 and 0.9193 are the optima at 0.8 and 0.5."""
    monkeypatch.setenv("PAPERSHELL_DATA", str(mnist_folder))
    result = sweep(load_dataset("mnist"), [1.0, 0.8, 0.5], loss="ovr", tol=1e-8, choose_on="test")
    np.testing.assert_array_equal(result.test.accuracy, [0.9202, 0.9202, 0.9193])
