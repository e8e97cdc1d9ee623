"""The logistic-regression trainer: its models, their files, and `python -m trainers.logreg`."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import BackendError
from trainers.datasets import Dataset, load_dataset
from trainers.logreg import MODEL_STEM, LinearModel, ModelError, main, sweep, to_sklearn, write_model

TOLERANCE = 1e-4  # fit_path's default: the largest gradient of the mean objective


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
        result = sweep(digits, rates, loss=loss)
        coef, intercept = result.solution.coef[r], result.solution.intercept[r]
        model = LinearModel(coef, intercept, result.classes, loss, rate)
        assert gradient(model, digits, penalize_intercept=loss == "ovr") <= TOLERANCE * (1 + 1e-9)


@pytest.mark.parametrize("kind", ["digits", "pair"])
@pytest.mark.parametrize("loss", ["multinomial", "ovr"])
def test_the_scikit_learn_model_scores_what_the_sweep_measured(request, kind, loss):
    data = request.getfixturevalue(kind)
    result = sweep(data, [0.5, 8.0], loss=loss)
    estimator = result.model.to_sklearn()
    assert estimator.score(data.X_test / 255, data.y_test) == result.test_accuracy[result.best]
    np.testing.assert_array_equal(estimator.predict(data.X_test / 255), result.model.predict(data.X_test))
    np.testing.assert_allclose(estimator.predict_proba(data.X_test / 255).sum(axis=1), 1)
    assert estimator.n_features_in_ == 64 and estimator.classes_.tolist() == data.classes.tolist()


def test_probabilities_are_the_softmax_of_all_classes(digits):
    model = sweep(digits, [1.0]).model
    scores = digits.X_test / 255 @ model.coef.T + model.intercept
    expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    actual = model.to_sklearn().predict_proba(digits.X_test / 255)
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)


def test_two_classes_of_softmax_become_one_sigmoid():
    coef, intercept = np.array([[1.0, -2.0], [0.5, 3.0]]), np.array([0.25, -1.0])
    X = np.random.default_rng(3).normal(size=(50, 2))
    scores = np.exp(X @ coef.T + intercept)
    estimator = to_sklearn(coef, intercept, np.array([3, 8]), l2=2.0, loss="multinomial")
    np.testing.assert_allclose(estimator.predict_proba(X), scores / scores.sum(axis=1, keepdims=True))
    assert estimator.C == 0.5


def test_one_vs_rest_agrees_with_scikit_learns_own_on_liblinear(digits):
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    ours = sweep(digits, [1.0], loss="ovr").model.to_sklearn()
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
            "import sys; sys.modules.update(dict.fromkeys(['kernels', 'trainers', 'orchestration']))\n"
            f"import joblib, numpy; model = joblib.load('{MODEL_STEM}.pkl')\n"
            "print(type(model).__module__, *model.predict(numpy.load('X.npy')))"
        )
        done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
        module, *labels = done.stdout.split()
        assert module.startswith("sklearn.") and done.stderr == ""
        expected = LinearModel.load(tmp_path / f"{MODEL_STEM}.npz").predict(digits.X_test)
        assert labels == [str(label) for label in expected]


def test_the_best_is_the_most_accurate_and_of_equals_the_largest_rate(digits):
    result = sweep(digits, [100.0, 0.5, 0.5, 1e-2])
    accuracy = result.test_accuracy
    equals = [rate for rate, a in zip(result.l2, accuracy, strict=True) if a == accuracy.max()]
    assert result.l2[result.best] == max(equals)
    assert result.rates()[0].keys() == {"l2", "C", "loss", "grad_norm", "n_iter", "status", "test_accuracy"}
    assert result.rates()[0]["C"] == 0.01 and result.rates()[0]["status"] == "converged"


@pytest.mark.parametrize("rates", [[], [-1.0], [0.0], [0.5, math.nan], [math.inf]])
def test_rates_that_cannot_be_are_one_sentence(digits, rates):
    with pytest.raises(ValueError, match="regularization rate"):
        sweep(digits, rates)


def test_an_absent_back_end_is_an_error_and_not_another_one(digits):
    with pytest.raises(BackendError, match="abacus"):
        sweep(digits, [1.0], backend="abacus")


SMALL = LinearModel(np.arange(12.0).reshape(3, 4), np.zeros(3), np.array([1, 5, 9]), "ovr", 0.8)


def saved(tmp_path: Path) -> Path:
    SMALL.save(tmp_path / "model.npz")
    return tmp_path / "model.npz"


def test_the_safe_file_brings_back_the_same_model(tmp_path):
    model = LinearModel.load(saved(tmp_path))
    np.testing.assert_array_equal(model.coef, SMALL.coef)
    assert (model.loss, model.l2, model.classes.tolist()) == ("ovr", 0.8, [1, 5, 9])


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_model_file_is_refused_or_read_never_anything_else(data, tmp_path_factory):
    buffer = io.BytesIO()
    np.savez(buffer, **vars(SMALL))
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("fuzz") / "model.npz"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        model = LinearModel.load(path)
    except ModelError as error:
        assert str(path) in str(error)
    else:
        assert model.predict(np.zeros((2, model.coef.shape[1]), np.uint8)).shape == (2,)


def test_a_file_with_objects_in_it_is_not_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    fields = vars(SMALL) | {"coef": np.array([Bomb()], dtype=object)}
    np.savez(tmp_path / "model.npz", **fields)
    with pytest.raises(ModelError):
        LinearModel.load(tmp_path / "model.npz")
    assert not (tmp_path / "exploded").exists()


def test_images_of_another_size_are_one_sentence():
    with pytest.raises(ModelError, match="4 pixels, these have 9"):
        SMALL.predict(np.zeros((1, 9), np.uint8))


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
        "try: runpy.run_module('trainers.logreg', run_name='__main__')\n"
        "finally: print(sorted({m.split('.')[0] for m in sys.modules} & {'azureml', 'mlflow', 'torch'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout.strip() == "[]"
    assert done.stderr.startswith("error: there is no folder nowhere") and done.stderr.count("\n") == 1


@pytest.mark.mnist
def test_mnist_gives_the_walk_throughs_accuracy(mnist_folder, monkeypatch):
    """0.9202 at C = 1 is what the walk-through prints; 0.9202 and 0.9193 are the optima at 0.8 and 0.5."""
    monkeypatch.setenv("PAPERSHELL_DATA", str(mnist_folder))
    result = sweep(load_dataset("mnist"), [1.0, 0.8, 0.5], loss="ovr")
    np.testing.assert_array_almost_equal(result.test_accuracy, [0.9202, 0.9202, 0.9193], decimal=3)
