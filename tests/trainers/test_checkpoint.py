"""Files are whole at every moment, also when the writer is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np

from papershell.kernels.files import write_json
from papershell.trainers.linear_model import MODEL_STEM, LinearModel, write_model
from papershell.trainers.provenance import manifest

WRITER = """
import sys
from pathlib import Path
import numpy as np
from papershell.trainers.linear_model import LinearModel, write_model

folder, version = Path(sys.argv[1]), 0
while True:
    version += 1
    coef = np.full((10, 2000), float(version))
    write_model(folder, LinearModel(coef, coef[:, 0], np.arange(10), "multinomial", float(version), 9), {})
    print(version, flush=True)
"""


def read_version(folder) -> tuple[float, float]:
    """The versions that the two model files hold, each file checked to be whole."""
    import joblib

    safe = LinearModel.load(folder / f"{MODEL_STEM}.npz")
    trusted = joblib.load(folder / f"{MODEL_STEM}.pkl")
    json.loads((folder / f"{MODEL_STEM}.json").read_text())
    assert (safe.coef == safe.l2).all() and safe.coef.shape == (10, 2000)
    assert (trusted.coef_ == trusted.coef_[0, 0]).all() and trusted.coef_.shape == (10, 2000)
    return safe.l2, trusted.coef_[0, 0]


def test_a_model_is_whole_whenever_its_writer_is_killed(tmp_path):
    rng = np.random.default_rng(7)
    seen = set()
    for models in range(1, 7):
        with subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE) as writer:
            for _ in range(models):
                writer.stdout.readline()
            time.sleep(rng.uniform(0, 0.05))
            os.kill(writer.pid, signal.SIGKILL)
        seen.update(read_version(tmp_path))
    assert len(seen) > 1, "every writer was killed at the same model"


def test_no_model_lies_anywhere_without_its_origin(tmp_path):
    """So a command that is given again after a kill replaces its own half of a result."""
    with subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.DEVNULL) as writer:
        model = tmp_path / f"{MODEL_STEM}.pkl"
        while not model.exists() and writer.poll() is None:
            time.sleep(0.001)
        os.kill(writer.pid, signal.SIGKILL)
    assert model.exists() and model.with_suffix(".json").exists()


def test_the_manifest_names_code_libraries_and_facts(tmp_path):
    write_json(tmp_path / "record.json", manifest(dataset="digits", rates=[0.5]))
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["dataset"] == "digits" and record["rates"] == [0.5]
    assert record["versions"]["numpy"] == np.__version__
    assert record["git"] is None or len(record["git"]["commit"]) == 40


def test_a_model_is_written_three_times(tmp_path):
    model = LinearModel(np.ones((3, 4)), np.zeros(3), np.array([1, 5, 9]), "ovr", 0.8, 9)
    paths = write_model(tmp_path / "out", model, {"dataset": "mine"})
    assert sorted(path.suffix for path in paths) == [".json", ".npz", ".pkl"]
    assert sorted(paths) == sorted((tmp_path / "out").iterdir())
