"""Jobs for version 2, read back by azure-ai-ml's own loaders."""

from __future__ import annotations

import shlex
import warnings
from pathlib import Path

import pytest

from papershell.orchestration.azure.conda_file import shipped
from papershell.orchestration.azure.export import export
from papershell.orchestration.azure.job import Cluster, TrainJob
from papershell.orchestration.errors import OrchestrationError

warnings.filterwarnings("ignore", module="azure")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "a.gz").touch()
    return tmp_path / "mnist"


def gpu_job(data: Path, **fields) -> TrainJob:
    cluster = Cluster("gpu-cluster", "STANDARD_NC4as_T4_v3")
    return TrainJob("torch-cifar10", cluster, str(shipped("gpu")), data=str(data), **fields)


def test_the_loader_of_version_2_accepts_the_job(data, tmp_path):
    from azure.ai.ml import load_job

    job = gpu_job(
        data,
        arguments=("--note", "a 'b'"),
        nodes=2,
        processes_per_node=1,
        data_mode="mount",
        time_limit_min=3,
    )
    paths = export(job, tmp_path / "out" / "job.yml")
    assert [path.name for path in paths] == [
        "job.yml", "job.environment.yml", "job.data.yml", "job.image", "job.code"
    ]  # fmt: skip
    loaded = load_job(str(paths[0]))
    assert shlex.split(loaded.command) == [
        "python", "-m", "papershell.trainers.torch_cifar10", "--data-folder", "${{inputs.data}}", "--note", "a 'b'"
    ]  # fmt: skip
    assert loaded.experiment_name == "day1-experiment-train" and loaded.compute == "gpu-cluster"
    assert loaded.inputs["data"].path == str(data) and loaded.inputs["data"].mode == "ro_mount"
    assert loaded.distribution.type.lower() == "pytorch"
    assert loaded.distribution.process_count_per_instance == 1 and loaded.resources.instance_count == 2
    assert loaded.limits.timeout == 180
    assert loaded._validate().passed
    code = (paths[0].parent / loaded.code).resolve()
    assert all((code / "papershell" / name / "__init__.py").is_file() for name in ("", "kernels", "trainers"))


def test_the_loaders_of_version_2_accept_the_assets(data, tmp_path):
    from azure.ai.ml import load_data, load_environment

    _, environment, asset, *_ = export(gpu_job(data), tmp_path / "job.yml")
    loaded = load_environment(str(environment))
    folder = tmp_path / loaded.build.path
    assert loaded.name == "environment-gpu"
    dockerfile = (folder / "Dockerfile").read_text()
    assert dockerfile.startswith("FROM mcr.microsoft.com/azureml/openmpi5.0-cuda12.8-ubuntu24.04\n")
    assert "ENV CONDA_OVERRIDE_CUDA=12.9" in dockerfile
    assert (folder / "conda.yml").read_bytes() == shipped("gpu").read_bytes()
    loaded = load_data(str(asset))
    assert (loaded.name, loaded.type, str(loaded.path)) == ("mnist-dataset", "uri_folder", str(data))


def test_a_cpu_job_on_a_registered_asset(tmp_path):
    from azure.ai.ml import load_job

    job = TrainJob(
        "logreg", Cluster("cpucluster", "STANDARD_D4s_v5"), str(shipped("cpu")),
        ("--regularization", "0.8"), data="dataset:mnist-dataset",
    )  # fmt: skip
    paths = export(job, tmp_path / "job.yml")
    assert [path.name for path in paths] == ["job.yml", "job.environment.yml", "job.image", "job.code"]
    loaded = load_job(str(paths[0]))
    assert loaded.inputs["data"].path == "mnist-dataset@latest" and loaded.distribution is None
    assert "CUDA" not in (tmp_path / "job.image" / "Dockerfile").read_text()


def test_an_export_into_a_folder_is_refused(data, tmp_path):
    with pytest.raises(OrchestrationError, match=r"is a folder; name a file in it, as in .*job\.yml"):
        export(gpu_job(data), tmp_path)


def test_an_export_replaces_an_export_and_nothing_else(data, tmp_path):
    export(gpu_job(data), tmp_path / "job.yml")
    (tmp_path / "job.code" / "old.py").touch()
    export(gpu_job(data), tmp_path / "job.yml")
    assert not (tmp_path / "job.code" / "old.py").exists()
    (tmp_path / "other.code").mkdir()
    (tmp_path / "other.code" / "precious").touch()
    with pytest.raises(OrchestrationError, match="was not made by an export"):
        export(gpu_job(data), tmp_path / "other.yml")
    assert (tmp_path / "other.code" / "precious").exists() and not (tmp_path / "other.yml").exists()
