"""The command, as a user types it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from papershell.kernels import read_idx, write_idx

HEAVY = "numba scipy sklearn matplotlib mlflow torch cupy keras tensorflow azureml pandas requests pooch"
RATE_FIELDS = {
    "l2", "C", "loss", "gap", "grad_norm", "n_iter", "status", "validation_accuracy", "validation_log_loss",
    "test_accuracy", "test_log_loss",
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAPERSHELL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def swept(run):
    """The same, after a sweep over two rates."""
    code, _, _ = run("sweep", "--regularization", "0.5", "50")
    assert code == 0
    return run


def images_file(folder: Path, shape: tuple[int, ...] = (5, 8, 8)) -> Path:
    write_idx(folder / "images.gz", np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    return folder / "images.gz"


def test_help_loads_nothing_heavy():
    script = (
        "import sys; from papershell.orchestration.cli import main\n"
        "try: main(['--help'])\n"
        f"finally: print({{name.split('.')[0] for name in sys.modules}} & set('{HEAVY}'.split()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0 and "sweep" in done.stdout
    assert done.stdout.splitlines()[-1] == "set()"


def test_sweep_does_the_main_job(run, project):
    code, out, _ = run("sweep", "--regularization", "0.01:100:4", "--json", "sweep.json")
    assert code == 0
    result = json.loads((project / "sweep.json").read_text())
    assert result.keys() == {
        "dataset", "fingerprint", "n_train", "n_validation", "n_test", "backend", "loss", "chosen_on", "seconds",
        "rates", "best", "report", "model_path",
    }  # fmt: skip
    assert result["seconds"].keys() == {"decode", "fit", "total"}
    assert (result["dataset"], result["n_train"], result["n_test"]) == ("digits", 1437, 360)
    assert all(rate.keys() == RATE_FIELDS for rate in [*result["rates"], result["best"]])
    np.testing.assert_allclose(
        [rate["l2"] for rate in result["rates"]], [0.01, 10 ** (-2 / 3), 10 ** (2 / 3), 100]
    )
    chosen = [rate["validation_accuracy"] for rate in result["rates"]]
    assert result["best"]["validation_accuracy"] == max(chosen) > 0.9 and result["n_validation"] == 287
    report = result["report"]
    assert report["accuracy"] == result["best"]["test_accuracy"] > 0.9 and np.sum(report["confusion"]) == 360
    assert f"accuracy {report['accuracy']:.4f}, 95 % interval {report['interval'][0]:.4f}" in out
    (marked,) = [line for line in out.splitlines() if line.rstrip().endswith("best")]
    assert f"{result['best']['test_accuracy']:.4f}" in marked
    assert "registered sklearn_digits, id sklearn_digits:1, version 1" in out
    written = {path.name for path in (project / "outputs").iterdir()}
    assert written == {
        "sklearn_mnist_model.pkl", "sklearn_mnist_model.npz", "sklearn_mnist_model.json",
        "accuracy_by_rate.png", "confusion_matrix.png", "samples.png", "mistakes.png",
    }  # fmt: skip
    for figure in (project / "outputs").glob("*.png"):
        assert figure.read_bytes().startswith(b"\x89PNG") and figure.stat().st_size > 5000


@pytest.mark.parametrize(
    "words", [["0.5", "0.8"], ["0.5 0.8"], ["0.5,0.8"], ["0.5", "--regularization", "0.8"], ["0.5:0.8:2"]]
)
def test_rates_may_be_written_in_every_way(run, project, words):
    code, _, _ = run("sweep", "--regularization", *words, "--json", "sweep.json", "--loss", "ovr")
    assert code == 0
    result = json.loads((project / "sweep.json").read_text())
    np.testing.assert_allclose([rate["l2"] for rate in result["rates"]], [0.5, 0.8])
    assert result["loss"] == "ovr"


@pytest.mark.parametrize("rates", ["-1", "0", "nan", "high", "1:2", "0.1:0:3", "1:2:3:4", "1:10:0", ""])
def test_rates_that_cannot_be_are_wrong_use(run, rates):
    code, out, err = run("sweep", "--regularization", rates)
    assert code == 2 and out == "" and "FIRST:LAST:COUNT" in err


@pytest.mark.parametrize(
    "words", [["sweep", "--colour", "red"], ["swoop"], ["sweep", "--loss", "hinge"], ["train"]]
)
def test_wrong_use_ends_with_two(run, words):
    assert run(*words)[0] == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sweep", "--data", "nowhere"], "no folder nowhere"),
        (["sweep", "--backend", "abacus"], "unknown back end 'abacus'"),
        (["predict", "absent.npz", "absent.gz"], "absent.gz: No such file"),
        (["runs", "show", "xyz"], "no run begins with 'xyz'"),
        (["models", "download", "nothing"], "no model nothing"),
        (["data", "fetch", "imagenet"], "no download called 'imagenet'"),
        (["train", "logreg", "--data-folder", "nowhere"], "no folder nowhere"),
    ],
)
def test_a_failure_is_one_sentence_and_ends_with_one(run, words, expected):
    code, out, err = run(*words)
    assert code == 1 and out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert expected in err


def test_debug_shows_where_an_error_came_from(run):
    code, _, err = run("sweep", "--data", "nowhere", "--debug")
    assert code == 1 and "Traceback" in err and "no folder nowhere" in err.splitlines()[-1]


def test_predict_reads_the_safe_file_and_measures_accuracy(swept, project):
    from papershell.trainers.datasets import find_idx_files, resolve

    files = find_idx_files(resolve("digits"))
    model = project / "outputs" / "sklearn_mnist_model.npz"
    code, out, _ = swept(
        "predict", model, files["test-images"], "--labels", files["test-labels"], "--out", "p.csv"
    )
    assert code == 0 and "accuracy 0.9" in out
    folder = files["test-images"].parent
    assert swept("predict", model, folder, "--labels", folder, "--out", "q.csv")[1].splitlines()[1] in out
    assert (project / "q.csv").read_text() == (project / "p.csv").read_text()
    rows = list(csv.DictReader((project / "p.csv").open()))
    assert [row["image"] for row in rows] == [str(i) for i in range(360)]
    accuracy = json.loads(model.with_suffix(".json").read_text())["best"]["test_accuracy"]
    assert f"accuracy {accuracy:.4f}" in out


def test_predict_never_unpickles_unless_told(swept, project):
    import joblib

    class Bomb:
        def __reduce__(self):
            return (Path.touch, (project / "exploded",))

    images = images_file(project)
    safe, pickled = (project / "outputs" / f"sklearn_mnist_model.{suffix}" for suffix in ("npz", "pkl"))
    assert swept("predict", safe, images, "--out", "safe.csv")[0] == 0
    assert swept("predict", pickled, images, "--out", "pickled.csv", "--trust-pickle")[0] == 0
    assert (project / "safe.csv").read_text() == (project / "pickled.csv").read_text()
    for disguise in ("bomb.pkl", "bomb.npz"):
        joblib.dump(Bomb(), project / disguise)
        code, _, err = swept("predict", project / disguise, images)
        assert code == 1 and err.count("\n") == 1
    assert not (project / "exploded").exists() and not (project / "predictions.csv").exists()


def embeddings(folder: Path) -> dict[str, np.ndarray]:
    """Twelve numbers a sample, of which one tells the class, and strings as labels."""
    rng, names = np.random.default_rng(3), np.array(["cat", "dog", "eel"])
    labels = rng.integers(0, 3, 300)
    X = rng.normal(size=(300, 12)).astype(np.float16)
    X[np.arange(300), labels] += 5
    return {
        "X_train": X[:200],
        "y_train": names[labels[:200]],
        "X_test": X[200:],
        "y_test": names[labels[200:]],
    }


def test_embeddings_are_swept_and_predicted_from_every_kind_of_file(run, project):
    pytest.importorskip("pyarrow")
    from safetensors.numpy import save_file

    found = embeddings(project)
    np.savez("probe.npz", **found)
    (project / "probe").mkdir()
    for name, array in found.items():
        np.save(project / "probe" / f"{name}.npy", array)
    save_file(
        {name: array for name, array in found.items() if array.dtype != "<U3"}, project / "probe.safetensors"
    )
    printed = []
    for source in ("probe.npz", "probe", "probe/X_train.npy"):
        code, out, _ = run("sweep", "--data", source, "--regularization", "0.1", "10", "--json", "s.json")
        assert code == 0 and "probe: 200 samples to train (40 of them held out), 100 to test" in out
        printed.append(out.partition("\n")[2])
    assert (
        printed[0].split("registered")[0]
        == printed[1].split("registered")[0]
        == printed[2].split("registered")[0]
    )
    report = json.loads((project / "s.json").read_text())["report"]
    assert [each["class"] for each in report["per_class"]] == ["cat", "dog", "eel"]
    assert not (project / "outputs" / "mistakes.png").exists()
    tables = []
    for source, labels in (
        ("probe.npz", "probe.npz"), ("probe", "probe"), ("probe.safetensors", "probe/y_test.npy"),
        ("probe/X_test.npy", "probe/y_test.npy"),
    ):  # fmt: skip
        words = (
            "outputs/sklearn_mnist_model.npz",
            source,
            "--labels",
            labels,
            "--probabilities",
            "--batch",
            7,
        )
        code, out, err = run("predict", *words, "--out", "p.csv")
        assert code == 0 and f"accuracy {report['accuracy']:.4f}" in out, err
        tables.append((project / "p.csv").read_text())
    assert len(set(tables)) == 1
    rows = list(csv.DictReader(tables[0].splitlines()))
    assert len(rows) == 100 and rows[0].keys() == {"sample", "label", "p_cat", "p_dog", "p_eel"}
    for row in rows:
        chances = {name: float(row[f"p_{name}"]) for name in ("cat", "dog", "eel")}
        assert max(chances, key=chances.get) == row["label"] and abs(sum(chances.values()) - 1) < 1e-12
    code, _, _ = run("predict", "outputs/sklearn_mnist_model.npz", "probe", "--out", "p.parquet")
    import pyarrow.parquet

    assert code == 0 and pyarrow.parquet.read_table("p.parquet")["label"].to_pylist() == [
        row["label"] for row in rows
    ]
    code, out, _ = run("models", "export", "outputs/sklearn_mnist_model.npz")
    assert code == 0 and out == "wrote outputs/sklearn_mnist_model.onnx\n"


def test_samples_that_could_be_several_arrays_are_one_sentence(swept, project):
    np.savez("many.npz", a=np.zeros((2, 64)), b=np.zeros((2, 64)))
    code, _, err = swept("predict", "outputs/sklearn_mnist_model.npz", "many.npz")
    assert code == 1 and "many.npz holds a, b; call the one to use X_test" in err and err.count("\n") == 1


def test_the_best_is_chosen_on_the_test_part_only_if_told(run, project):
    for part in ("validation", "test"):
        code, out, _ = run(
            "sweep", "--regularization", "0.1:100:3", "--choose-on", part, "--json", "sweep.json"
        )
        result = json.loads((project / "sweep.json").read_text())
        assert code == 0 and result["chosen_on"] == part
        assert result["best"][f"{part}_accuracy"] == max(rate[f"{part}_accuracy"] for rate in result["rates"])
    assert "validation" not in out and "held out" not in out


def test_predict_on_images_of_another_size_is_one_sentence(swept, project):
    images = images_file(project, (2, 9, 9))
    code, _, err = swept("predict", "outputs/sklearn_mnist_model.npz", images)
    assert code == 1 and "64 numbers, these have 81" in err


def test_runs_and_models_are_listed_shown_compared_and_downloaded(swept, project):
    code, out, _ = swept("train", "logreg", "--data-folder", "digits", "--regularization", "0.8")
    assert code == 0 and "'regularization rate': 0.8" in out
    assert "registered sklearn_digits, id sklearn_digits:2, version 2" in out
    _, out, _ = swept("runs", "list")
    trained, first = (line.split()[0] for line in out.splitlines() if "digits" in line)
    _, shown, _ = swept("runs", "show", first)
    assert "accuracy: 0.9" in shown and "model/sklearn_mnist_model.npz" in shown
    _, compared, _ = swept("runs", "compare", first, trained)
    assert first in compared and trained in compared and "regularization rate" in compared
    assert "sklearn_digits:1" in swept("models", "list")[1]
    model = "outputs/sklearn_mnist_model.npz"
    assert "id mine:1, version 1" in swept("models", "register", "mine", model)[1]
    assert swept("models", "download", "mine", "--out", "got")[0] == 0
    assert (project / "got/sklearn_mnist_model.npz").read_bytes() == (project / model).read_bytes()


def test_test_accuracies_are_compared_with_each_other(swept):
    """Keras's metric accuracy is that of the training images."""
    from papershell.trainers.tracking import start_run

    with start_run("keras-mnist", "train keras-mnist on digits") as recorder:
        recorder.log_metrics({"accuracy": 0.987}, step=1)
        recorder.log_metrics({"final test accuracy": 0.951})
    _, out, _ = swept("runs", "list")
    (listed,) = [line for line in out.splitlines() if "keras" in line]
    assert listed.endswith("0.951")
    _, out, _ = swept("runs", "compare", *(line.split()[0] for line in out.splitlines() if "digits" in line))
    rows = {line.split("  ")[0].strip(): line.split() for line in out.splitlines() if line.strip()}
    assert "0.951" in rows["accuracy"] and "0.987" in rows["training accuracy"]
    assert "final test accuracy" not in rows


def test_data_is_shown_and_verified(run, project):
    code, out, _ = run("data", "show", "digits", "--out", "samples.png")
    assert code == 0 and "1,437" in out and (project / "samples.png").exists()
    code, out, _ = run("data", "verify", "digits")
    assert code == 0 and "digits is whole: 1,437 + 360 images, 10 classes" in out


def test_a_picture_goes_where_out_says(run, project):
    (project / "folder").mkdir()
    for out, path in (("folder", "folder/samples.png"), ("new/some.png", "new/some.png"), ("a.pdf", "a.pdf")):
        code, printed, _ = run("data", "show", "digits", "--out", out)
        assert code == 0 and f"wrote {path}" in printed
    assert (project / "a.pdf").read_bytes().startswith(b"%PDF")
    assert not (project / "samples.png").exists()


def test_a_model_of_other_data_is_not_replaced_unless_told(swept, project):
    from papershell.trainers.datasets import find_idx_files, resolve

    (project / "mine").mkdir()
    for role, path in find_idx_files(resolve("digits")).items():
        array = read_idx(path)
        write_idx(project / "mine" / f"{role}.gz", array[::-1].copy())
    model = project / "outputs" / "sklearn_mnist_model.npz"
    kept = model.read_bytes()
    for words in (["sweep", "--data"], ["train", "logreg", "--data-folder"]):
        code, out, err = swept(*words, "mine", "--regularization", "1")
        assert code == 1 and out == "" and model.read_bytes() == kept
        assert "was made from digits" in err and "--overwrite" in err and err.count("\n") == 1
    code, out, _ = swept("sweep", "--data", "mine", "--regularization", "1", "--overwrite")
    assert code == 0 and "registered sklearn_mine, id sklearn_mine:1" in out and model.read_bytes() != kept
    code, out, _ = swept("sweep", "--data", "mine", "--regularization", "1", "--name", "chosen")
    assert code == 0 and "registered chosen, id chosen:1" in out
    model.with_suffix(".json").write_text("[]")
    code, _, err = swept("sweep", "--data", "mine", "--regularization", "1")
    assert code == 1 and "does not say from which data it was made" in err


def test_the_table_is_the_same_on_every_back_end(run):
    tables = []
    for backend in ("numpy", "numba"):
        code, out, _ = run("sweep", "--regularization", "0.1:10:3", "--backend", backend)
        assert code == 0
        table, _ = out.partition("\n")[2].split(
            "wrote", 1
        )  # the first line says how long it took, and on what
        tables.append(table)
    assert tables[0] == tables[1] and "proven" in tables[0]


@pytest.mark.mnist
def test_published_data_is_verified_and_a_changed_file_is_not(run, project, mnist_folder, monkeypatch):
    monkeypatch.setenv("PAPERSHELL_DATA", str(mnist_folder))
    code, out, _ = run("data", "verify", "mnist")
    assert code == 0 and out.count("the published file") == 4
    from papershell.trainers.datasets import resolve

    for path in resolve("mnist").glob("*-ubyte.gz"):
        (project / path.name).symlink_to(path)
    changed = project / "t10k-labels-idx1-ubyte.gz"
    changed.unlink()
    write_idx(changed, np.zeros(10_000, np.uint8))
    monkeypatch.setenv("PAPERSHELL_DATA", str(project))
    code, out, err = run("data", "verify", "mnist")
    assert code == 1 and "NOT the published file" in out and "data fetch" in err


def test_backends_are_listed_with_reasons(run):
    code, out, _ = run("backends")
    assert code == 0
    assert {"numpy", "numba", "torch", "cupy", "numba-cuda"} <= set(out.split())


def test_the_solvers_plan_is_explained(run):
    code, out, _ = run("backends", "--explain", "300", "20", "3", "5", "--dtype", "uint8")
    assert code == 0 and "5 problems of 300 samples, 20 features (uint8) and 3 classes" in out
    assert out.count("(chosen by auto)") == 1 and "Newton's method" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["300", "0", "3", "5"], "name samples, features and rates >= 1"),
        (["300", "20", "1", "5"], "classes >= 2"),
        (["300", "20", "3", "5", "--dtype", "complex64"], "--dtype complex64: name a real type"),
        (["300", "20", "3", "5", "--dtype", "decimal"], "--dtype decimal: name a real type"),
    ],
)
def test_sizes_that_no_problem_has_are_one_sentence(run, words, says):
    code, _, err = run("backends", "--explain", *words)
    assert code == 1 and says in err and err.count("\n") == 1


def test_a_trainers_own_help_is_shown(run):
    code, out, _ = run("train", "logreg", "--help")
    assert code == 0 and "--regularization" in out and "liblinear" in out
