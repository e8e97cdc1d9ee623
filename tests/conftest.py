"""Shared fixtures: where the data lies, and skips that CI can turn into failures."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# A shell starts background jobs with interrupts ignored, and their children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("papershell", deadline=None)  # no test asserts absolute times
settings.load_profile("papershell")


def skip_or_fail(variable: str, reason: str) -> None:
    """Skip with ``reason``, unless the environment variable says that the machine must have it."""
    if os.environ.get(variable) == "1":
        pytest.fail(f"{reason}, but {variable}=1")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def mnist_folder() -> Path:
    """The folder below which the four MNIST files lie."""
    root = Path(os.environ.get("PAPERSHELL_DATA", "data"))
    if next(root.rglob("train-images*"), None) is None:
        skip_or_fail("PAPERSHELL_REQUIRE_MNIST", f"no MNIST below {root} (set PAPERSHELL_DATA)")
    return root


@pytest.fixture(scope="session")
def real_cifar10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds CIFAR-10's binary files, unpacked first where the data folder can do that."""
    root = Path(os.environ.get("PAPERSHELL_DATA", "data"))
    if found := next(root.rglob("data_batch_1.bin"), None):
        return found.parent
    if not (script := root / "cifar10" / "unpack.py").is_file():
        pytest.skip(f"no CIFAR-10 below {root} (set PAPERSHELL_DATA)")
    folder = tmp_path_factory.mktemp("cifar10")
    subprocess.run([sys.executable, script, folder], check=True)
    return folder


def require_gpu(backend: str) -> None:
    """Skip unless ``backend``, torch or cupy, sees a CUDA device."""
    from papershell.kernels.backends import available_backends, is_available, torch_has_cuda

    if not is_available(backend):
        skip_or_fail("PAPERSHELL_REQUIRE_GPU", available_backends()[backend])
    if backend == "torch" and not torch_has_cuda():
        skip_or_fail("PAPERSHELL_REQUIRE_GPU", "PyTorch sees no CUDA device")


@pytest.fixture
def one_torch_thread() -> Iterator[None]:
    """Threads that wait for each other on a busy machine take ten times as long as one."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def cuda() -> None:
    """Skip unless CuPy sees a CUDA device."""
    require_gpu("cupy")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """A tracking store without runs; to make its tables takes seconds, to copy them does not."""
    if importlib.util.find_spec("mlflow") is None:
        return None
    from papershell.trainers import mlflow_store

    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        mlflow_store.open_store()
    return folder / mlflow_store.STORE_FOLDER


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path | None) -> Path:
    """A current folder that holds nothing but an empty tracking store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if empty_store:
        shutil.copytree(empty_store, tmp_path / empty_store.name)
    return tmp_path
