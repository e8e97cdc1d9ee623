"""Model files: whole or refused, and nothing in them is run."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from papershell.trainers.linear_model import LinearModel, ModelError, to_sklearn

SMALL = LinearModel(np.arange(12.0).reshape(3, 4), np.zeros(3), np.array([1, 5, 9]), "ovr", 0.8, 9)


def saved(tmp_path: Path) -> Path:
    SMALL.save(tmp_path / "model.npz")
    return tmp_path / "model.npz"


def test_the_safe_file_brings_back_the_same_model(tmp_path):
    model = LinearModel.load(saved(tmp_path))
    np.testing.assert_array_equal(model.coef, SMALL.coef)
    assert (model.loss, model.l2, model.classes.tolist()) == ("ovr", 0.8, [1, 5, 9])


@settings(max_examples=150)
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


def test_two_classes_of_softmax_become_one_sigmoid():
    coef, intercept = np.array([[1.0, -2.0], [0.5, 3.0]]), np.array([0.25, -1.0])
    X = np.random.default_rng(3).normal(size=(50, 2))
    scores = np.exp(X @ coef.T + intercept)
    estimator = to_sklearn(coef, intercept, np.array([3, 8]), l2=2.0, loss="multinomial", n_iter=9)
    np.testing.assert_allclose(estimator.predict_proba(X), scores / scores.sum(axis=1, keepdims=True))
    assert estimator.C == 0.5 and estimator.n_iter_.tolist() == [9]
