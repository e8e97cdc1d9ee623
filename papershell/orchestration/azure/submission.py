"""A `TrainJob` as the SDK's objects, and on its way."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from papershell.orchestration.azure import images, sizes, snapshot
from papershell.orchestration.azure.cluster import ensure_cluster
from papershell.orchestration.azure.job import DATASET_PREFIX, TRAINERS, TrainJob
from papershell.orchestration.azure.run_handle import RunHandle, asking
from papershell.orchestration.azure.uploads import folder_sizes, register_dataset, upload_folder

if TYPE_CHECKING:
    from azureml.core import Environment, ScriptRunConfig, Workspace

_INPUT = "data"


def build_environment(job: TrainJob) -> Environment:
    """Return the Environment of a job: its conda file on the base image for its GPU."""
    from azureml.core import Environment

    path = Path(job.environment)
    size = sizes.find(job.cluster.vm_size)
    capability = size.compute_capability if size else None
    image = job.image or images.image_for(capability)
    with asking(f"read {path}"):
        environment = Environment.from_conda_specification(name=path.stem, file_path=str(path))
    if capability is None:
        environment.docker.base_image = image
    else:
        # conda-forge's GPU packages want the virtual package __cuda, and the machine that builds the
        # image has no GPU: the variable stands in for it.
        environment.docker.base_image = None
        environment.docker.base_dockerfile = f"FROM {image}\nENV CONDA_OVERRIDE_CUDA={images.CONDA_CUDA}\n"
    return environment


def run_config(job: TrainJob, source: Path, environment: Environment, data: object) -> ScriptRunConfig:
    """Return the job as the SDK's configuration of a run.

    Parameters
    ----------
    source : the folder that is sent.
    data : what stands for the data's folder in the command: an input of the SDK, a path, or None.
    """
    from azureml.core import ScriptRunConfig
    from azureml.core.runconfig import PyTorchConfiguration

    distributed = None
    if job.distributed:
        backend = "Nccl" if TRAINERS[job.trainer].gpu else "Gloo"
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


def request(job: TrainJob, *, root: Path | None = None) -> dict[str, Any]:
    """Return everything that a submission would send, without asking anybody: what ``--dry-run`` prints.

    ``root`` is the folder whose source folders travel with the job; None takes papershell's own.
    """
    import azureml.core  # noqa: F401  (the next module cannot be the first that is loaded)
    from azureml._execution._commands import _serialize_run_config_to_dict

    source = snapshot.measure(root or snapshot.source_root())
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
    """Return what would be uploaded, and registered as what."""
    if job.data is None:
        return None
    plan: dict[str, Any] = {"dataset": job.dataset_name, "mode": job.data_mode}
    if not job.data.startswith(DATASET_PREFIX):
        plan |= {"upload_to": job.data_target, "bytes": folder_sizes(Path(job.data))}
    return plan


def submit(
    job: TrainJob,
    workspace: Workspace,
    *,
    root: Path | None = None,
    show: Callable[[str], None] = print,
) -> RunHandle:
    """Submit a job and return at once; the cluster is there, the run is queued.

    Uploads and registers the data, registers the environment and creates the cluster as far as
    they are missing.

    Parameters
    ----------
    root : the folder whose source folders travel with the job; None takes papershell's own.
    show : told what is done, a line at a time.

    Raises
    ------
    OrchestrationError
        A step failed; the message says which and why.
    """
    from azureml.core import Experiment

    data = _data_input(job, workspace, show)
    ensure_cluster(workspace, job.cluster, show=show)
    with asking(f"register environment {Path(job.environment).stem}"):
        environment = build_environment(job).register(workspace)
    show(f"environment {environment.name}, version {environment.version}")
    with tempfile.TemporaryDirectory(prefix="papershell-") as folder:
        snapshot.stage(snapshot.measure(root or snapshot.source_root()), Path(folder))
        config = run_config(job, Path(folder), environment, data)
        with asking(f"submit {job.trainer} to experiment {job.experiment_name}"):
            tags = {"trainer": job.trainer, "job": job.to_json()}
            run = Experiment(workspace, job.experiment_name).submit(config, tags=tags)
    return RunHandle(run)


def _data_input(job: TrainJob, workspace: Workspace, show: Callable[[str], None]) -> object:
    """Return the SDK's input for the job's data, uploaded and registered first where it is a folder."""
    from azureml.core import Dataset

    if job.data is None:
        return None
    if not job.data.startswith(DATASET_PREFIX):
        sizes = upload_folder(workspace, Path(job.data), job.data_target)
        show(f"uploaded {len(sizes)} files, {sum(sizes.values()) / 1e6:.1f} MB, to {job.data_target}")
        dataset = register_dataset(workspace, job.dataset_name, [f"{job.data_target}/"])
    else:
        with asking(f"find dataset {job.dataset_name}"):
            dataset = Dataset.get_by_name(workspace, job.dataset_name)
    show(f"dataset {dataset.name}, version {dataset.version}")
    named = dataset.as_named_input(_INPUT)
    return named.as_mount() if job.data_mode == "mount" else named.as_download()
