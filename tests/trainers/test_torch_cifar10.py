"""The CIFAR-10 trainer as a user runs it, on a small data set in the official layout."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from papershell.kernels.cifar10_net.on_torch import Net  # noqa: E402
from papershell.kernels.files import PARTIAL  # noqa: E402
from papershell.orchestration.cli import main as papershell  # noqa: E402
from papershell.trainers import cifar10_model, torch_cifar10  # noqa: E402
from papershell.trainers.checkpoint import CheckpointError, DivergenceError  # noqa: E402
from papershell.trainers.cifar10 import read_batch  # noqa: E402
from papershell.trainers.cifar10_fast import FastTraining  # noqa: E402
from papershell.trainers.datasets import read_cifar10  # noqa: E402
from papershell.trainers.provenance import ModelExistsError  # noqa: E402
from papershell.trainers.registry import list_models  # noqa: E402
from papershell.trainers.run_history import list_runs  # noqa: E402

PRINTED = (2.19, 1.82, 1.66, 1.58, 1.52, 1.47, 1.39, 1.38, 1.37, 1.33, 1.31, 1.27)  # by the walk-through
SHOWN = (2.30, 2.09, 1.96, 1.83, 1.70, 1.61, 1.54, 1.51, 1.45, 1.44, 1.44, 1.41)  # by the code beside it
FLAGS = ("--epochs", "8", "--learning-rate", "0.01", "--print-every", "25", "--checkpoint-every", "70")
ROUNDING = 784 * float(np.finfo(np.float32).eps)  # of a weight's gradient, summed over a plane


pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture
def train(project, cifar10_folder, capsys):
    """Train in an empty project; return what was printed."""

    def train(*flags: str) -> str:
        capsys.readouterr()
        torch_cifar10.main(["--data-folder", str(cifar10_folder), *FLAGS, *flags])
        return capsys.readouterr().out

    return train


def state(folder: str = "outputs") -> dict[str, np.ndarray]:
    with np.load(Path(folder) / "cifar10_net_checkpoint.npz") as arrays:
        return {name: arrays[name] for name in ("params", "velocity", "losses")}


def assert_same(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array)


def test_a_run_prints_logs_saves_and_registers(train, project, cifar10_folder):
    printed = train()
    lines = printed.splitlines()
    assert re.fullmatch(r"epoch=1, batch=   25: loss \d\.\d\d", lines[0])
    assert [line[:20] for line in lines[1:4]] == [
        "epoch=1, batch=   50",
        "epoch=2, batch=   25",
        "epoch=2, batch=   50",
    ]
    assert "Finished Training" in lines
    losses = [float(line[-4:]) for line in lines if line.startswith("epoch=")]
    np.testing.assert_allclose(losses, state()["losses"].reshape(-1, 25).mean(axis=1), atol=0.005001)
    assert losses[-1] < 0.5 * losses[0]
    data = read_cifar10(cifar10_folder, name="")
    accuracy = float(re.search(r"accuracy on 40 test images: ([\d.]+)", printed)[1])
    assert accuracy > 0.5

    (net := Net()).load_state_dict(torch.load("outputs/cifar10_net.pt", weights_only=True))
    x = torch.tensor(data.X_test.reshape(-1, 3, 32, 32)) / 127.5 - 1
    predicted = net(x).argmax(1).numpy()
    assert (predicted == data.y_test).mean() == accuracy
    by_class = dict(re.findall(r"^  (\w+) +([\d.]+)% of 4$", printed, re.MULTILINE))
    assert len(by_class) == 10
    assert float(by_class["bird"]) == 100 * (predicted[data.y_test == 2] == 2).mean()

    record = json.loads(Path("outputs/cifar10_net.json").read_text())
    assert record["recipe"]["learning_rate"] == 0.01 and record["test_accuracy"] == [accuracy]
    assert {"git", "versions", "device", "command"} <= set(record)
    (run,) = list_runs()
    assert (run.experiment, run.metrics["accuracy"]) == ("day1-experiment-train", accuracy)
    assert run.metrics["loss"] == pytest.approx(losses[-1], abs=0.005001)
    assert list_models()[0].id == "cifar10-net-cifar-10-batches-bin:1"


def test_the_model_file_predicts_through_the_command(train, project, cifar10_folder, capsys):
    train("--zero-to-one")
    accuracy = json.loads(Path("outputs/cifar10_net.json").read_text())["test_accuracy"][0]
    test_batch = str(cifar10_folder / "test_batch.bin")
    with pytest.raises(SystemExit) as end:
        papershell(["predict", "outputs/cifar10_net.npz", test_batch, "--labels", test_batch])
    assert not end.value.code
    assert f"accuracy {accuracy:.4f}" in capsys.readouterr().out
    images, _ = read_batch(cifar10_folder / "test_batch.bin")
    planes = images.reshape(-1, 3, 32, 32)
    path = Path("outputs/cifar10_net.npz")
    side_by_side = cifar10_model.read_model(path)[1](np.moveaxis(planes, 1, 3))
    np.testing.assert_array_equal(side_by_side, cifar10_model.read_model(path)[1](planes))
    with pytest.raises(ValueError, match="wants colour images of 32 x 32"):
        cifar10_model.read_model(path)[1](np.zeros((1, 28, 28), np.uint8))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match="not a model that papershell wrote"):
        cifar10_model.read_model(path)[1](planes)


def test_seeds_decide_and_train_together_as_they_train_alone(train):
    printed = train("--seeds", "3", "--seed", "5", "--out", "three")
    assert re.search(r"epoch=1, batch=   25: loss \d\.\d\d \(\d\.\d\d to \d\.\d\d\)", printed)
    assert "over 3 seeds" in printed
    together = state("three")
    for s in range(3):
        train("--seed", str(5 + s), "--out", f"alone{s}")
        assert_same({name: array[s : s + 1] for name, array in together.items()}, state(f"alone{s}"))
    assert not np.array_equal(together["params"][0], together["params"][1])


def test_a_last_batch_may_be_smaller(train):
    train("--batch-size", "48", "--epochs", "2")
    assert state()["losses"].shape == (1, 10)  # 200 images: 4 batches of 48 and one of 8


def test_training_goes_on_in_a_second_command(train):
    train("--out", "whole")
    train("--epochs", "3", "--out", "parts")
    printed = train("--resume", "--out", "parts")
    assert printed.startswith("epoch=4, batch=   25")
    assert_same(state("parts"), state("whole"))


@pytest.mark.slow
def test_the_process_that_compiles_ends_at_the_bits_of_those_that_load(project, cifar10_folder):
    command = [
        sys.executable,
        "-m",
        "papershell.trainers.torch_cifar10",
        *FLAGS,
        "--data-folder",
        str(cifar10_folder),
    ]
    for out in ("compiled", "loaded"):
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(project / "numba")}
        subprocess.run([*command, "--out", out], check=True, stdout=subprocess.DEVNULL, env=environment)
    assert_same(state("compiled"), state("loaded"))


def test_a_killed_run_resumes_to_the_same_bits(train, cifar10_folder):
    train("--epochs", "60", "--out", "whole")
    flags = [*FLAGS, "--epochs", "60", "--out", "killed", "--data-folder", str(cifar10_folder)]
    command = [sys.executable, "-m", "papershell.trainers.torch_cifar10", *flags]
    rng = np.random.default_rng(int.from_bytes(os.urandom(4), "little"))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as victim:
        lines = int(rng.integers(3, 100))
        for _ in range(lines):
            victim.stdout.readline()
        os.kill(victim.pid, signal.SIGKILL)
    assert 0 < state("killed")["losses"].shape[1] < 3000, f"killed after {lines} lines"
    train("--epochs", "60", "--out", "killed", "--resume")
    assert_same(state("killed"), state("whole"))


def test_an_interrupted_run_says_what_is_kept_and_that_resumes(train, cifar10_folder):
    flags = [*FLAGS, "--epochs", "5000", "--data-folder", str(cifar10_folder), "--name", "mine"]
    command = [sys.executable, "-m", "papershell.orchestration.cli", "train", "torch-cifar10", *flags]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}

    def listen() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it

    with subprocess.Popen(command, preexec_fn=listen, **pipes) as victim:
        for _ in range(12):
            victim.stdout.readline()
        victim.send_signal(signal.SIGINT)
        _, told = victim.communicate()
    assert victim.returncode == 130 and told.count("\n") == 1
    step = re.search(r"interrupted: outputs/cifar10_net_checkpoint.npz holds step (\d+); --resume", told)[1]
    assert state()["losses"].shape[1] == int(step) >= 280
    assert [run.status for run in list_runs()] == ["KILLED"]


def test_fifty_trainings_leave_no_more_threads_and_memory_than_two(project, cifar10_folder):
    script = f"""
import gc
from pathlib import Path
import numpy as np
from papershell.trainers.cifar10_recipe import Recipe
from papershell.trainers.cifar10_walkthrough import Training
from papershell.trainers.data_parallel import Processes
from papershell.trainers.datasets import Dataset, read_cifar10

small = read_cifar10(Path({str(cifar10_folder)!r}), name="")
many = Dataset("", np.tile(small.X_train, (40, 1)), np.tile(small.y_train, 40),
               small.X_test, small.y_test, small.image_shape, small.classes)

def train(times):
    for _ in range(times):
        Training(Recipe(seeds=2), many, Processes(0, 1, "numba")).advance(3)
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return len(list(Path("/proc/self/task").iterdir())), pages * 4096

threads, memory = train(2)
more_threads, more_memory = train(48)
print(more_threads - threads, (more_memory - memory) / many.X_train.nbytes)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    threads, copies = map(float, done.stdout.split())
    assert threads == 0 and copies < 2, "48 trainings, each on its own copy of the data set"


def test_resume_without_a_checkpoint_starts_at_the_beginning(train):
    assert train("--resume").startswith("epoch=1, batch=   25")


def test_a_checkpoint_of_other_settings_is_refused_by_name(train, cifar10_folder):
    train()
    with pytest.raises(CheckpointError, match=r"made with momentum 0\.9, not 0\.5; continue with the same"):
        train("--resume", "--momentum", "0.5")
    with (cifar10_folder / "data_batch_1.bin").open("r+b") as file:
        file.seek(1)
        file.write(b"\x01\x02\x03")
    with pytest.raises(ModelExistsError, match=r"was made from cifar-10-batches-bin.*--overwrite"):
        train("--resume")
    with pytest.raises(CheckpointError, match="made with data"):
        train("--resume", "--overwrite")


def test_a_damaged_or_foreign_checkpoint_is_refused(train):
    path = Path("outputs/cifar10_net_checkpoint.npz")
    train()
    arrays = state()
    settings = dict(np.load(path))["settings"]
    for damage in ({"params": arrays["params"][:, :-1]}, {"velocity": arrays["velocity"].astype(float)}):
        np.savez(path, **arrays | damage, settings=settings)
        with pytest.raises(CheckpointError, match="does not hold this network"):
            train("--resume")
    np.savez(path, weights=arrays["params"])
    with pytest.raises(CheckpointError, match="is not a checkpoint that papershell wrote"):
        train("--resume")


def test_divergence_stops_with_its_batch_and_keeps_the_last_good_checkpoint(train):
    train("--epochs", "2", "--momentum", "0")
    good = state()
    path = Path("outputs/cifar10_net_checkpoint.npz")
    settings = json.loads(str(dict(np.load(path))["settings"]))
    np.savez(path, **good, settings=json.dumps(settings | {"learning_rate": 1e18}))
    kept = path.read_bytes()
    with pytest.raises(
        DivergenceError, match=r"diverged at epoch 3, batch \d+: its loss is .*lower --learning-rate"
    ):
        train("--resume", "--momentum", "0", "--learning-rate", "1e18")
    assert path.read_bytes() == kept


def test_a_full_disk_leaves_the_old_checkpoint_and_says_so(train, cifar10_folder):
    train("--epochs", "2")
    old = state()
    flags = ["--data-folder", str(cifar10_folder), *FLAGS, "--resume"]
    script = f"""
import resource, signal, sys
from papershell.trainers import torch_cifar10
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a write beyond the limit fails as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
start_run = torch_cifar10.start_run
torch_cifar10.start_run = lambda *names, record: start_run(*names, record=False)  # its database is larger
try:
    torch_cifar10.main({flags!r})
except OSError as error:
    sys.exit(str(error))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert "cifar10_net_checkpoint.npz cannot be written: " in done.stderr and "untouched" in done.stderr
    assert_same(state(), old)
    assert not [path for path in Path("outputs").iterdir() if path.name.startswith(PARTIAL)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_sentence(train):
    with pytest.raises(RuntimeError, match="no CUDA device is here, and --device cuda asks for one"):
        train("--device", "cuda")


def test_two_processes_train_as_one_with_twice_the_batch(train, cifar10_folder):
    flags = ["--data-folder", str(cifar10_folder), *FLAGS, "--out", "two"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [*torchrun, "-m", "papershell.trainers.torch_cifar10", *flags]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Finished Training") == 1
    train("--batch-size", "8", "--out", "one")
    two, one = state("two"), state("one")
    assert two["losses"].shape == one["losses"].shape == (1, 200)
    np.testing.assert_allclose(two["losses"], one["losses"], atol=ROUNDING * one["losses"].max())
    assert len(list_runs()) == 2


FAST = ("--recipe", "fast", "--batch-size", "40", "--learning-rate", "0.1", "--print-every", "5")


def test_the_fast_recipe_learns_predicts_and_resumes_to_the_same_bits(train, cifar10_folder, monkeypatch):
    printed = train(*FAST, "--out", "whole")
    losses = re.findall(r"^epoch=\d, batch= +5: loss ([\d.]+)$", printed, re.MULTILINE)
    assert len(losses) == 8 and float(losses[-1]) < 0.7 * float(losses[0])
    record = json.loads(Path("whole/cifar10_net.json").read_text())
    assert record["test_accuracy"][0] > 0.5
    images, labels = read_batch(cifar10_folder / "test_batch.bin")
    predicted = cifar10_model.read_model(Path("whole/cifar10_net.npz"))[1](
        images.reshape(-1, 3, 32, 32)
    ).argmax(1)
    assert (predicted == labels).mean() == record["test_accuracy"][0]

    class Killed(BaseException):
        """What no handler expects, as a kill."""

    def die(self, stop, advance=FastTraining.advance):
        if self.step >= 20:
            raise Killed
        advance(self, stop)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(FastTraining, "advance", die)
        train(*FAST, "--checkpoint-every", "15", "--out", "killed")
    train(*FAST, "--checkpoint-every", "15", "--out", "killed", "--resume")
    ours, theirs = (np.load(f"{name}/cifar10_net_checkpoint.npz") for name in ("killed", "whole"))
    assert set(ours.files) == set(theirs.files)
    for name in ours.files:
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_the_fast_recipe_refuses_what_it_cannot_do_and_says_where_it_diverged(train):
    with pytest.raises(ValueError, match="trains one network in one process"):
        train(*FAST, "--seeds", "2")
    with pytest.raises(DivergenceError, match=r"diverged at epoch \d, batch \d+.*lower --learning-rate"):
        train(*FAST, "--learning-rate", "1e30")
    train(*FAST)
    with pytest.raises(CheckpointError, match="made with model cifar10-fast, not cifar10-net"):
        train("--resume")


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "table"), [((), PRINTED), (("--zero-to-one",), SHOWN)])
def test_the_walk_through_is_reproduced_on_the_real_data(project, real_cifar10, capsys, flags, table):
    torch_cifar10.main(["--data-folder", str(real_cifar10), *flags])
    losses = [float(line[-4:]) for line in capsys.readouterr().out.splitlines() if line.startswith("epoch=")]
    np.testing.assert_allclose(losses, table, atol=0.12)
