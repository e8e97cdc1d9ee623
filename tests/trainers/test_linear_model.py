"""Model files: whole or refused, and nothing in them is run."""

from __future__ import annotations

import csv
import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from papershell.trainers.linear_model import LinearModel, ModelError, to_sklearn
from papershell.trainers.onnx_model import write_onnx
from papershell.trainers.predictions import writing_predictions

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
        assert np.isfinite(model.coef).all() and model.coef.dtype == np.float64
        assert model.predict(np.zeros((2, model.coef.shape[1]), np.uint8)).shape == (2,)


def altered(tmp_path: Path, **fields) -> Path:
    np.savez(tmp_path / "model.npz", **vars(SMALL) | fields)
    return tmp_path / "model.npz"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"coef": SMALL.coef + 1j}, "its coef is of type complex128"),
        ({"coef": SMALL.coef.astype(int)}, "its coef is of type int64"),
        ({"coef": np.full((3, 4), np.nan)}, "numbers that are not finite"),
        ({"coef": np.full((3, 4), 1e308)}, "numbers that are not finite or larger than 1e"),
        ({"intercept": np.array([0, -np.inf, 0])}, "numbers that are not finite"),
        ({"l2": np.inf}, "numbers that are not finite"),
        ({"l2": -1.0}, "l2 -1.0"),
        ({"n_iter": -1}, "n_iter -1"),
        ({"loss": "hinge"}, "its loss is 'hinge'"),
        ({"loss": np.array(["ovr", "ovr"])}, "not a model"),
        ({"classes": np.array([1, 1, 2])}, "names a class twice"),
        ({"classes": np.arange(4)}, "do not fit together"),
        ({"coef": np.zeros((3, 0))}, r"the shape \(3, 0\)"),
        ({"coef": np.zeros((1, 3, 4))}, r"the shape \(1, 3, 4\)"),
    ],
)
def test_numbers_that_no_fit_gives_are_refused(tmp_path, fields, message):
    with pytest.raises(ModelError, match=message):
        LinearModel.load(altered(tmp_path, **fields))


def test_a_missing_array_is_named(tmp_path):
    np.savez(tmp_path / "model.npz", coef=SMALL.coef)
    with pytest.raises(ModelError, match="it has no classes, intercept, l2, loss, n_iter"):
        LinearModel.load(tmp_path / "model.npz")


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text + data


LARGE = "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 1000000000), }"


@pytest.mark.parametrize(
    ("compression", "data", "message"),
    [
        (
            zipfile.ZIP_DEFLATED,
            npy(LARGE, bytes(100_000_000)),
            "more bytes than the file has: one is compressed",
        ),
        (zipfile.ZIP_DEFLATED, npy(LARGE, bytes(96)), "is compressed"),
        (zipfile.ZIP_STORED, npy(LARGE, bytes(96)), "bytes cannot hold"),
        (zipfile.ZIP_STORED, npy("(" * 100), "not a model"),
        (zipfile.ZIP_STORED, npy(LARGE.replace("1000000000", "-4")), "not a model"),
    ],
)
def test_a_file_that_would_take_much_memory_is_refused_before_it_is_read(
    tmp_path, compression, data, message
):
    path = saved(tmp_path)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "bomb.npz", "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, data if name == "coef.npy" else old.read(name))
    tracemalloc.start()
    with pytest.raises(ModelError, match=message):
        LinearModel.load(tmp_path / "bomb.npz")
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 1 << 22


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
    with pytest.raises(ModelError, match="4 numbers, these have 9"):
        SMALL.predict(np.zeros((1, 9), np.uint8))


def test_two_classes_of_softmax_become_one_sigmoid():
    coef, intercept = np.array([[1.0, -2.0], [0.5, 3.0]]), np.array([0.25, -1.0])
    X = np.random.default_rng(3).normal(size=(50, 2))
    scores = np.exp(X @ coef.T + intercept)
    estimator = to_sklearn(coef, intercept, np.array([3, 8]), l2=2.0, loss="multinomial", n_iter=9)
    np.testing.assert_allclose(estimator.predict_proba(X), scores / scores.sum(axis=1, keepdims=True))
    assert estimator.C == 0.5 and estimator.n_iter_.tolist() == [9]


def test_a_model_without_a_penalty_becomes_scikit_learns_without_one():
    estimator = to_sklearn(SMALL.coef, SMALL.intercept, SMALL.classes, l2=0.0, loss="multinomial", n_iter=9)
    assert np.isinf(estimator.C)


LABELS = st.lists(
    st.text(max_size=5) | st.sampled_from(["=1+1", "-2", "@x", "+", 'a"b', "a,b", "\ta", "line\nbreak"])
)


def cells(path: Path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@settings(max_examples=40)
@given(labels=LABELS, batch=st.integers(1, 4))
def test_no_cell_of_predictions_is_a_formula_and_all_come_back(tmp_path_factory, labels, batch):
    path = tmp_path_factory.mktemp("csv") / "new" / "predictions.csv"
    with writing_predictions(path) as write:
        for first in range(0, len(labels), batch):
            write(np.array(labels[first : first + batch], dtype=str), None)
    head, *rows = cells(path)
    assert head == ["image", "label"] and [row[0] for row in rows] == [
        str(index) for index in range(len(labels))
    ]
    for label, (_, cell) in zip(np.array(labels, dtype=str).tolist(), rows, strict=True):
        assert cell in (label, f"'{label}") and not cell.startswith(("=", "+", "-", "@", "\t", "\r"))


def test_numbers_are_written_bare(tmp_path):
    with writing_predictions(tmp_path / "p.csv") as write:
        write(np.array([7, -1]), None)
    assert (tmp_path / "p.csv").read_text() == "image,label\n0,7\n1,-1\n"


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_probabilities_are_written_block_after_block(tmp_path, suffix):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    classes, chances = np.array(["=a", "b"]), np.random.default_rng(1).random((5, 2))
    with writing_predictions(tmp_path / f"p.{suffix}", "sample", classes) as write:
        write(classes[[0, 1, 1]], chances[:3])
        write(classes[[0, 0]], chances[3:])
    exact = {"float_precision": "round_trip"} if suffix == "csv" else {}
    table = getattr(pandas, f"read_{suffix}")(tmp_path / f"p.{suffix}", **exact)
    assert table.columns.tolist() == ["sample", "label", "p_=a", "p_b"] and table["sample"].tolist() == [
        *range(5)
    ]
    first = "'=a" if suffix == "csv" else "=a"
    assert table["label"].tolist() == [first, "b", "b", first, first]
    np.testing.assert_array_equal(table[["p_=a", "p_b"]].to_numpy(), chances)


def test_an_error_leaves_no_predictions(tmp_path):
    for suffix in ("csv", "parquet"):
        with pytest.raises(KeyError), writing_predictions(tmp_path / f"p.{suffix}") as write:
            write(np.array([1, 2]), None)
            raise KeyError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int8"])
@pytest.mark.parametrize("loss", ["multinomial", "ovr"])
def test_scores_and_probabilities_follow_their_formulas(monkeypatch, dtype, loss):
    rng = np.random.default_rng(2)
    model = LinearModel(rng.normal(size=(3, 4)), rng.normal(size=3), np.array(["a", "b", "c"]), loss, 1.0, 1)
    X = rng.integers(0, 100, (50, 4)).astype(dtype)
    scores = X.astype(float) / (255 if dtype == "uint8" else 1) @ model.coef.T + model.intercept
    with monkeypatch.context() as patch:
        patch.setattr("papershell.kernels.arrays.BLOCK_BYTES", 100)  # three rows
        np.testing.assert_allclose(model.scores(X), scores, rtol=1e-12)
    each = np.exp(scores) if loss == "multinomial" else 1 / (1 + np.exp(-scores))
    np.testing.assert_allclose(model.probabilities(scores), each / each.sum(axis=1, keepdims=True), rtol=1e-9)
    assert np.isfinite(model.probabilities(1e4 * np.ones((1, 3)))).all()
    assert np.isfinite(model.probabilities(-1e4 * np.ones((1, 3)))).all()
    assert model.predict(X).tolist() == model.classes[scores.argmax(axis=1)].tolist()


@pytest.mark.parametrize(
    "classes", [np.array([3, 8]), np.array(["Ärger", "b", "c", "d"]), np.arange(50, dtype=np.uint8)]
)
@pytest.mark.parametrize("loss", ["multinomial", "ovr"])
def test_an_exported_model_predicts_the_same_elsewhere(tmp_path, loss, classes):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    rng, K = np.random.default_rng(4), len(classes)
    model = LinearModel(rng.normal(size=(K, 784)), rng.normal(size=K), classes, loss, 1.0, 1)
    write_onnx(tmp_path / "new" / "model.onnx", model)
    session = onnxruntime.InferenceSession(
        tmp_path / "new" / "model.onnx", providers=["CPUExecutionProvider"]
    )
    for n in (1, 200):
        X = rng.random((n, 784), dtype=np.float32) - np.float32(0.5)
        label, probabilities = session.run(["label", "probabilities"], {"X": X})
        assert label.tolist() == model.predict(X).tolist()
        np.testing.assert_allclose(probabilities, model.probabilities(model.scores(X)), atol=1e-6, rtol=0)
