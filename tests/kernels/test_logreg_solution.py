"""What a fitted path says about samples, beside SciPy's formulas and scikit-learn's metrics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import accuracy_score, log_loss

from papershell.kernels import fit_path
from papershell.kernels.logreg import solution as module
from tests.kernels.logreg_reference import ON_HOST, PASS_UNIT, blobs, in_bytes, rounding

RATES = [0.1, 1.0, 30.0]
NEW, NEW_Y = blobs(150, seed=5)


def expected(coef, intercept, X, loss) -> np.ndarray:
    """Probabilities (N, K) from the definition."""
    scores = np.asarray(X, np.float64) @ coef.T + intercept
    if loss == "multinomial":
        return softmax(scores, axis=1)
    return expit(scores) / expit(scores).sum(axis=1, keepdims=True)


def solve(kind, backend, K=3, **options):
    """A path, the unscaled new samples, and what they are multiplied with."""
    X, y = blobs(200, K=K)
    new, scale = blobs(150, K=K, seed=5)[0], 1.0
    if kind == "bytes":
        X, new, scale = in_bytes(X), in_bytes(new), 1 / 255
    return fit_path(X, y, RATES, scale=scale, backend=backend, **options), new, scale


@pytest.mark.parametrize("kind", ["floats", "bytes"])
@pytest.mark.parametrize("loss", ["multinomial", "ovr"])
@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("backend", ON_HOST)
def test_probabilities_and_labels_are_the_definitions(backend, K, loss, kind):
    path, X, scale = solve(kind, backend, K, loss=loss)
    found, labels = path.predict_proba(X), path.predict(X)
    assert found.shape == (3, 150, K) and labels.shape == (3, 150) and labels.dtype == np.int64
    for r in range(3):
        want = expected(path.coef[r], path.intercept[r], X * scale, loss)
        error = rounding(X * scale, path.coef[r], path.intercept[r], backend)
        np.testing.assert_allclose(found[r], want, rtol=0, atol=error)
        top = np.sort(want, axis=1)
        clear = top[:, -1] - top[:, -2] > 2 * error  # rounding may turn a tie either way
        assert clear.sum() > 140
        np.testing.assert_array_equal(labels[r][clear], want.argmax(axis=1)[clear])


@pytest.mark.parametrize("loss", ["multinomial", "ovr"])
@pytest.mark.parametrize("backend", ON_HOST)
def test_accuracy_and_log_loss_are_scikit_learns(backend, loss):
    path, X, _ = solve("floats", backend, loss=loss)
    weight = np.arange(150) % 4
    for options in ({}, {"sample_weight": weight}):
        found = path.evaluate(X, NEW_Y, **options)
        np.testing.assert_array_equal(path.score(X, NEW_Y, **options), found.accuracy)
        for r in range(3):
            p = path.predict_proba(X)[r]
            assert found.accuracy[r] == pytest.approx(accuracy_score(NEW_Y, p.argmax(axis=1), **options))
            assert found.log_loss[r] == pytest.approx(log_loss(NEW_Y, p, **options))


def test_folds_are_judged_each_by_its_own_samples():
    X, y = blobs(200)
    training = np.arange(200) % 4 != np.arange(4)[:, None]
    path = fit_path(X, y, RATES, folds=training, backend="numba")
    assert path.predict(X).shape == (4, 3, 200) and path.predict_proba(NEW).shape == (4, 3, 150, 3)
    held_out = path.evaluate(X, y, sample_weight=~training)
    everywhere = path.evaluate(X, y)
    for f, mask in enumerate(training):
        one = replace(path, coef=path.coef[f], intercept=path.intercept[f])
        rest = one.evaluate(X[~mask], y[~mask])
        np.testing.assert_allclose(held_out.accuracy[f], rest.accuracy)
        np.testing.assert_allclose(held_out.log_loss[f], rest.log_loss)
        np.testing.assert_allclose(everywhere.log_loss[f], one.evaluate(X, y).log_loss)


@pytest.mark.parametrize("backend", ON_HOST)
def test_blocks_of_rows_change_nothing(backend, monkeypatch):
    path, X, _ = solve("bytes", backend)
    whole = path.predict_proba(X), path.predict(X), path.evaluate(X, NEW_Y)
    monkeypatch.setattr(module, "LOGITS_BYTES", 8 * 9 * 7)
    close = {"rtol": 0, "atol": 100 * PASS_UNIT[backend]}
    np.testing.assert_allclose(path.predict_proba(X), whole[0], **close)
    np.testing.assert_array_equal(path.predict(X), whole[1])
    np.testing.assert_allclose(path.evaluate(X, NEW_Y).log_loss, whole[2].log_loss)


def test_certain_models_have_finite_losses():
    """Where every sigmoid underflows scikit-learn's division is 0 / 0."""
    path, X, _ = solve("floats", "numpy", loss="ovr")
    certain = replace(path, coef=path.coef * 0, intercept=np.full_like(path.intercept, -800.0))
    np.testing.assert_allclose(certain.predict_proba(X), 1 / 3)
    np.testing.assert_allclose(certain.evaluate(X, NEW_Y).log_loss, np.log(3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda path: path.predict(NEW[:, :9]), "X has 9 features, but the path was fitted with 10"),
        (lambda path: path.predict_proba(NEW * np.nan), "X holds NaN or infinity in 150 rows"),
        (lambda path: path.score(NEW, NEW_Y[:9]), r"X has 150 samples but y has shape \(9,\)"),
        (lambda path: path.score(NEW, NEW_Y + 1), r"integer labels 0\.\.2, the classes that the path"),
        (lambda path: path.evaluate(NEW, NEW_Y, np.ones(7)), r"sample_weight has shape \(7,\)"),
        (lambda path: path.evaluate(NEW, NEW_Y, np.zeros(150)), "fold 0 has no sample"),
    ],
)
def test_bad_samples_are_one_sentence(call, message):
    path, _, _ = solve("floats", "numpy")
    with pytest.raises(ValueError, match=message) as caught:
        call(path)
    assert "\n" not in str(caught.value)
