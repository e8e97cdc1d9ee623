"""The Keras trainer as a user runs it; always in processes of its own, which PyTorch does not share."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("keras", "tensorflow"))), reason="no Keras on TensorFlow"
)
REPOSITORY = Path(__file__).parents[2]
EPS = float(np.finfo(np.float32).eps)
REDUCTION = 330  # images whose gradients are summed in an epoch of `keras_checks`
EPOCHS = 12


def run(*command: object, folder: Path, backend: str = "tensorflow") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(REPOSITORY)}
    words = [sys.executable, *map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, cwd=folder, env=environment, timeout=200)


def train(folder: Path, *flags: object) -> subprocess.CompletedProcess[str]:
    words = (
        "-m",
        "papershell.orchestration.cli",
        "train",
        "keras-mnist",
        "--data-folder",
        "digits",
        "--epochs",
        EPOCHS,
    )
    return run(*words, *flags, folder=folder)


@pytest.fixture(scope="module")
def home(tmp_path_factory, empty_store):
    """A project in which the network was trained once, into ``outputs``."""
    folder = tmp_path_factory.mktemp("keras")
    if empty_store:
        shutil.copytree(empty_store, folder / empty_store.name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAPERSHELL_CACHE", str(folder / "cache"))
        done = train(folder)
        assert done.returncode == 0, done.stderr
        (folder / "printed").write_text(done.stdout)
        yield folder


@pytest.mark.parametrize(
    "backend", ["tensorflow", *(pytest.param(other, marks=pytest.mark.slow) for other in ("jax", "torch"))]
)
def test_an_epoch_is_that_of_fit(tmp_path, backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    done = run("-m", "tests.trainers.keras_checks", folder=tmp_path, backend=backend)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    found = report["against_fit"]
    assert report["backend"] == backend
    assert max(found["weights"], found["optimizer"], found["logs"]) <= REDUCTION * EPS * found["moved"]
    assert report["diverged"] == "training diverged at batch 3"


def test_a_run_prints_logs_saves_and_registers(home, monkeypatch):
    from papershell.trainers.registry import list_models
    from papershell.trainers.run_history import list_runs

    monkeypatch.chdir(home)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    printed = (home / "printed").read_text()
    epochs = re.findall(r"^epoch +(\d+)/12: loss ([\d.]+), accuracy ([\d.]+)$", printed, re.MULTILINE)
    assert [int(number) for number, _, _ in epochs] == list(range(1, EPOCHS + 1))
    loss, accuracy = (
        float(re.search(rf"^Test {name}: ([\d.]+)$", printed, re.MULTILINE)[1])
        for name in ("loss", "accuracy")
    )
    assert accuracy > 0.9 and loss < 0.5
    record = json.loads((home / "outputs/model/keras_mnist.json").read_text())
    assert record["final test accuracy"] == pytest.approx(accuracy, abs=5e-5)
    assert record["history"]["loss"] == pytest.approx([float(loss) for _, loss, _ in epochs], abs=5e-5)
    assert record["arguments"]["first_layer_neurons"] == 300 and record["keras_backend"] == "tensorflow"
    assert (home / "outputs/accuracy_vs_loss.png").read_bytes().startswith(b"\x89PNG")
    metrics = next(found for found in list_runs() if found.experiment == "keras-mnist").metrics
    assert metrics["final test accuracy"] == pytest.approx(accuracy, abs=5e-5)
    assert {"loss", "accuracy", "final test loss"} <= set(metrics)
    assert "keras-digits:1" in {model.id for model in list_models()}


def test_keras_alone_reads_the_model_as_the_command_does(home):
    script = """
        import keras, numpy as np
        from sklearn.datasets import load_digits
        model = keras.saving.load_model("outputs/model/keras_mnist.keras")
        shapes = [tuple(w.shape) for w in model.weights]
        assert shapes == [(64, 300), (300,), (300, 100), (100,), (100, 10), (10,)], shapes
        X = np.load("images.npy").reshape(360, 64).astype("float32") / 255
        before = model.predict(X, verbose=0)
        model.load_weights("outputs/model/keras_mnist.weights.h5")
        assert (before == model.predict(X, verbose=0)).all()
        print(*before.argmax(1))
    """
    from papershell.kernels import read_idx

    images, labels = (next((home / "cache").rglob(f"test-{kind}.gz")) for kind in ("images", "labels"))
    np.save(home / "images.npy", read_idx(images))
    alone = run("-c", "\n".join(line.strip() for line in script.splitlines()), folder=home)
    assert alone.returncode == 0, alone.stderr
    words = (
        "predict",
        "outputs/model/keras_mnist.keras",
        images,
        "--labels",
        labels,
        "--out",
        "predicted.csv",
    )
    command = run("-m", "papershell.orchestration.cli", *words, folder=home)
    assert command.returncode == 0, command.stderr
    predicted = [line.split(",")[1] for line in (home / "predicted.csv").read_text().splitlines()[1:]]
    assert predicted == alone.stdout.split()
    accuracy = re.search(r"Test accuracy: ([\d.]+)", (home / "printed").read_text())[1]
    assert f"accuracy {accuracy}" in command.stdout


def test_a_killed_run_resumes_to_the_same_bits(home):
    flags = ("train", "keras-mnist", "--data-folder", "digits", "--epochs", str(EPOCHS), "--out", "killed")
    environment = os.environ | {"KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, "-m", "papershell.orchestration.cli", *flags]
    lines = int(np.random.default_rng(int.from_bytes(os.urandom(4), "little")).integers(2, EPOCHS))
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=home, env=environment
    ) as victim:
        for _ in range(lines):
            victim.stdout.readline()
        os.kill(victim.pid, signal.SIGKILL)
    resumed = train(home, "--out", "killed", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    first = int(re.match(r"epoch +(\d+)/", resumed.stdout)[1])
    assert lines <= first <= EPOCHS, f"killed after {lines} lines"
    ours, theirs = (np.load(home / name / "keras_mnist_checkpoint.npz") for name in ("killed", "outputs"))
    assert set(ours.files) == set(theirs.files)
    for name in ours.files:
        np.testing.assert_array_equal(ours[name], theirs[name])


FAULTS = """
import json, shutil
from pathlib import Path
import numpy as np
from papershell.kernels.backends import gpu_count
from papershell.trainers import keras_mnist

def fails(*flags):
    try:
        keras_mnist.main(["--data-folder", "digits", *flags])
    except (ValueError, OSError, RuntimeError) as error:
        return str(error)

keras_mnist.main(["--data-folder", "digits", "--reference-fit", "--epochs", "2", "--out", "fit"])
shutil.copytree("outputs", "faulty")
checkpoint = Path("faulty/keras_mnist_checkpoint.npz")
resume = ("--resume", "--out", "faulty", "--epochs", "13")
report = {
    "diverging": fails("--learning-rate", "1e38", "--epochs", "3", "--out", "new"),
    "another network": fails(*resume, "--first-layer-neurons", "200"),
    "missing data": fails("--data-folder", "nowhere"),
}
content = checkpoint.read_bytes()
checkpoint.write_bytes(content[:9000])
report["cut checkpoint"] = fails(*resume)
model = Path("faulty/model/keras_mnist.keras")
images = np.zeros((2, 8, 8), np.uint8)
for name, wrong in (("wrong size", np.zeros((2, 9, 9), np.uint8)), ("cut model", images)):
    try:
        keras_mnist.read_model(model)[1](wrong)
    except ValueError as error:
        report[name] = str(error)
    model.write_bytes(model.read_bytes()[:4000])
if not gpu_count("tensorflow"):
    report["no GPU"] = fails("--device", "cuda")
print(json.dumps(report))
"""


def test_every_fault_is_one_sentence_and_fit_gives_the_same_numbers(home):
    done = run("-c", FAULTS, folder=home)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    wanted = {
        "diverging": r"diverged at batch \d+ of epoch [123]: the loss is not a number any more; lower --learning-rate",
        "another network": r"made with first_layer_neurons 300, not 200",
        "missing data": r"no folder nowhere",
        "cut checkpoint": r"keras_mnist_checkpoint.npz is not a checkpoint that papershell wrote",
        "wrong size": r"trained on images of 64 pixels, these have 81 of uint8",
        "cut model": r"keras_mnist.keras is not a Keras model",
        "no GPU": r"sees no GPU, and --device cuda asks for one",
    }
    for name, message in report.items():
        assert re.search(wanted[name], message), (name, message)
        assert "\n" not in message
    assert set(wanted) - {"no GPU"} <= set(report)
    fit, ours = (
        json.loads((home / name / "model/keras_mnist.json").read_text()) for name in ("fit", "outputs")
    )
    losses, wanted = fit["history"]["loss"], ours["history"]["loss"][:2]
    assert losses == pytest.approx(wanted, rel=1437 * EPS)  # digits has 1,437 images to train
