"""A real loopback workspace and the genuine azureml-core client, in a home folder of their own."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import pytest

if importlib.util.find_spec("azureml") is None:  # papershell without its extra azure
    collect_ignore_glob = ["test_azure_*", "test_export_*", "test_loopback_*", "test_control_*"]

# Read by the client when it is imported: retry soon, for the service is near.
os.environ.update(
    AZUREML_DEFAULT_BACKOFF="0", AZUREML_DEFAULT_500_BACKOFF="0", AZUREML_DEFAULT_503_BACKOFF="0"
)

FAST = {"_WAIT_COMPLETION_POLLING_INTERVAL_MIN": 0.05, "_WAIT_COMPLETION_POLLING_INTERVAL_MAX": 0.2}


def log_of(root: Path, run, name: str = "std_log.txt") -> Path:
    """Return where a workspace keeps the log of a run."""
    return root / "blobs/azureml/ExperimentRun" / f"dcid.{run.id}" / "user_logs" / name


@contextmanager
def served(folder: Path, *flags: str) -> Iterator[Path]:
    """Serve a workspace of ``folder`` that has a cluster ``c1``."""
    from papershell.orchestration import loopback
    from papershell.orchestration.azure.cluster import ensure_cluster
    from papershell.orchestration.azure.job import Cluster

    loopback.start(folder, arguments=flags)
    try:
        cluster = Cluster("c1", "STANDARD_D2s_v5")
        ensure_cluster(loopback.connect(folder), cluster, show=lambda line: None)
        yield folder
    finally:
        loopback.stop(folder)


@pytest.fixture(scope="package", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's home folder, where the client keeps its caches; the environment is put back afterwards."""
    before = dict(os.environ)
    folder = tmp_path_factory.mktemp("home")
    os.environ["HOME"] = str(folder)
    os.environ["PAPERSHELL_WORKSPACE"] = str(folder / "workspace")
    os.environ["PAPERSHELL_CACHE"] = str(folder / "cache")
    yield folder
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="package")
def root(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Iterator[Path]:
    """The folder of a workspace that is served by a process of its own."""
    folder = tmp_path_factory.mktemp("workspace")
    with served(folder, "--slots", "4"):
        yield folder


@pytest.fixture
def workspace(root: Path, monkeypatch: pytest.MonkeyPatch):
    """The genuine `azureml.core.Workspace` on ``root``."""
    from azureml.core import Run

    from papershell.orchestration import loopback

    for name, value in FAST.items():
        monkeypatch.setattr(Run, name, value)
    return loopback.connect(root)


@pytest.fixture
def submit_script(workspace, tmp_path: Path) -> Callable:
    """Submit a script's text through the client; return the run."""
    from azureml.core import Environment, Experiment, ScriptRunConfig

    def submit(text: str, *, experiment: str = "probe", name: str = "train.py", **settings):
        folder = tmp_path / f"source-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / name).write_text(dedent(text))
        settings = {"script": name, "environment": Environment("probe"), "compute_target": "c1"} | settings
        if "command" in settings:
            del settings["script"]
        return Experiment(workspace, experiment).submit(ScriptRunConfig(str(folder), **settings))

    return submit


@pytest.fixture
def run(project, capsys):
    """Run the command in an empty project; return exit code, stdout and stderr."""

    from papershell.orchestration.cli import main

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            printed = capsys.readouterr()
            return end.code or 0, printed.out, printed.err
        raise AssertionError("the command did not end with an exit code")

    return run
