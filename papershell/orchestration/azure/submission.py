"""A `TrainJob` as the SDK's objects, and its submission."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from papershell.orchestration.azure.cluster import ensure_cluster
from papershell.orchestration.azure.job import TrainJob
from papershell.orchestration.azure.run_handle import RunHandle
from papershell.orchestration.azure.sdk import asking
from papershell.orchestration.azure.snapshot import file_sizes, stage
from papershell.orchestration.azure.uploads import register_dataset, upload_folder
from papershell.orchestration.table import size_text

if TYPE_CHECKING:
    from azureml.core import Environment, ScriptRunConfig, Workspace

_INPUT = "data"


def build_environment(job: TrainJob) -> Environment:
    """Return the Environment of a job: its conda file on the base image for its GPU."""
    from azureml.core import Environment

    path = Path(job.environment)
    with asking(f"read {path}"):
        environment = Environment.from_conda_specification(name=path.stem, file_path=str(path))
    if job.compute_capability is None:
        environment.docker.base_image = job.base_image
    else:
        environment.docker.base_image = None
        environment.docker.base_dockerfile = job.dockerfile
    return environment


def run_config(job: TrainJob, source: Path, environment: Environment, data: object) -> ScriptRunConfig:
    """Return the job as the SDK's configuration of a run.

    Parameters
    ----------
    source : the folder that is sent.
    data : stands for the data's folder in the command: an input of the SDK, a path, or None.
    """
    from azureml.core import ScriptRunConfig
    from azureml.core.runconfig import PyTorchConfiguration

    distributed = None
    if job.distributed:
        backend = "Nccl" if job.compute_capability and job.known.gpu is not False else "Gloo"
        processes = job.nodes * job.processes_per_node
        distributed = PyTorchConfiguration(backend, process_count=processes, node_count=job.nodes)
    limit = {"max_run_duration_seconds": int(job.time_limit_min * 60)} if job.time_limit_min else {}
    return ScriptRunConfig(
        source_directory=str(source),
        command=job.command(data),
        compute_target=job.cluster.name,
        environment=environment,
        distributed_job_config=distributed,
        **limit,
    )


def request(job: TrainJob) -> dict[str, Any]:
    """Return everything that a submission would send, without any use of the network."""
    import azureml.core  # noqa: F401  (the next module cannot be the first that is loaded)
    from azureml._execution._commands import _serialize_run_config_to_dict

    source = job.snapshot()
    data = None if job.data is None else f"DatasetConsumptionConfig:{_INPUT}"
    configuration = run_config(job, source.root, build_environment(job), data).run_config
    configuration.command = " ".join(map(str, job.command(data)))  # the SDK does so when it submits
    return {
        "job": asdict(job),
        "experiment": job.experiment_name,
        "snapshot": {"files": len(source.sizes_bytes), "bytes": source.total_bytes},
        "data": _data_plan(job),
        "run_configuration": _serialize_run_config_to_dict(configuration),
    }


def _data_plan(job: TrainJob) -> dict[str, Any] | None:
    """Return the planned upload and the name of the dataset."""
    if job.data is None:
        return None
    plan: dict[str, Any] = {"dataset": job.dataset_name, "mode": job.data_mode}
    if job.data_folder:
        plan |= {"upload_to": job.data_target, "bytes": file_sizes(job.data_folder)}
    return plan


def submit(
    job: TrainJob,
    workspace: Workspace,
    *,
    show: Callable[[str], None] = print,
) -> RunHandle:
    """Submit a job; return when its cluster is ready and its run is queued.

    Uploads and registers the data, registers the environment, and creates the cluster if it is missing.

    Parameters
    ----------
    show : receives a line for each step.

    Raises
    ------
    OrchestrationError
        A step failed; the message names the step and the reason.
    """
    from azureml.core import Experiment

    data = _data_input(job, workspace, show)
    ensure_cluster(workspace, job.cluster, show=show)
    with asking(f"register environment {Path(job.environment).stem}"):
        environment = build_environment(job).register(workspace)
    show(f"environment {environment.name}, version {environment.version}")
    with tempfile.TemporaryDirectory(prefix="papershell-") as folder:
        stage(job.snapshot(), Path(folder))
        config = run_config(job, Path(folder), environment, data)
        with asking(f"submit {job.name} to experiment {job.experiment_name}"):
            tags = {"trainer": job.name, "job": job.to_json()}
            run = Experiment(workspace, job.experiment_name).submit(config, tags=tags)
    return RunHandle(run)


def _data_input(job: TrainJob, workspace: Workspace, show: Callable[[str], None]) -> object:
    """Return the SDK's input for the job's data; a local folder is uploaded and registered first."""
    from azureml.core import Dataset

    if job.data is None:
        return None
    if job.data_folder:
        sent, count = (
            upload_folder(workspace, job.data_folder, job.data_target),
            len(file_sizes(job.data_folder)),
        )
        show(f"uploaded {len(sent)} of {count} files, {size_text(sum(sent.values()))}, to {job.data_target}")
        dataset = register_dataset(workspace, job.dataset_name, [f"{job.data_target}/"])
    else:
        with asking(f"find dataset {job.dataset_name}"):
            dataset = Dataset.get_by_name(workspace, job.dataset_name)
    show(f"dataset {dataset.name}, version {dataset.version}")
    named = dataset.as_named_input(_INPUT)
    return named.as_mount() if job.data_mode == "mount" else named.as_download()
