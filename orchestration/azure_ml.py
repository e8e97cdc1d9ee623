"""Azure ML through azureml-core: a `TrainJob` becomes a run, and a run's record is read back.

With `orchestration.loopback.client` the only module that imports azureml, and it does so when it
is used. Every call of the SDK that can fail for a reason outside this program is made inside
`asking`, which turns whatever the SDK raises into one sentence.

The SDK is version 1, whose support ended in June 2026; `orchestration.export_v2` writes the same
job for version 2.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration import base_images, snapshot, vm_sizes
from orchestration.errors import OrchestrationError
from orchestration.job import DATASET_PREFIX, TRAINERS, Cluster, TrainJob
from orchestration.run_handle import RunHandle, asking, waits

if TYPE_CHECKING:
    from azureml.core import Dataset, Environment, ScriptRunConfig, Workspace
    from azureml.core.compute import AmlCompute

LOOPBACK = "loopback"
AUTHENTICATIONS = ("auto", "service-principal", "cli", "interactive")
PROVISION_TIMEOUT_S = 20 * 60.0
_INPUT = "data"
_CONFIG_FIELDS = ("subscription_id", "resource_group", "workspace_name")
_PRINCIPAL = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET")


def sdk_version() -> str:
    """Return the version of azureml-core."""
    import azureml.core

    return azureml.core.VERSION


def user_workspace_folder() -> Path:
    """Return the folder of the user's own loopback workspace."""
    import platformdirs

    chosen = os.environ.get("PAPERSHELL_WORKSPACE")
    return Path(chosen) if chosen else platformdirs.user_data_path("papershell") / LOOPBACK


def open_workspace(where: str, *, auth: str = "auto") -> Workspace:
    """Return the workspace that ``where`` names.

    Parameters
    ----------
    where : ``loopback`` for the user's own workspace on this machine, started if need be; else the
        path of a ``config.json`` or of a folder that holds one. A folder made by
        ``papershell workspace serve`` leads to its own service, any other to Azure.
    auth : for Azure, how to sign in, see `authentication`.

    Raises
    ------
    OrchestrationError
        There is no such file, it lacks a field, nobody can be signed in, or the service refuses.
    """
    from orchestration import loopback

    if where == LOOPBACK:
        loopback.start(user_workspace_folder(), arguments=("--idle-seconds", "900"))
        return loopback.connect(user_workspace_folder())
    path = Path(where) / "config.json" if Path(where).is_dir() else Path(where)
    _check_config(path)
    if is_loopback(where):
        with asking(f"open the workspace of {path.parent}"):
            return loopback.connect(path.parent)
    from azureml.core import Workspace

    with asking(f"open the workspace of {path}"):
        return Workspace.from_config(path=str(path), auth=authentication(auth, os.environ))


def is_loopback(where: str) -> bool:
    """Return whether ``where`` (see `open_workspace`) is a workspace of this machine."""
    from orchestration import loopback

    folder = Path(where) if Path(where).is_dir() else Path(where).parent
    return where == LOOPBACK or (folder / loopback.IDENTITY_FILE).exists()


def _check_config(path: Path) -> None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise OrchestrationError(
            f"there is no {path}; download it from the workspace's page of the portal, or use "
            f"--workspace {LOOPBACK}"
        ) from error
    except (OSError, ValueError) as error:
        raise OrchestrationError(f"{path} is not a JSON file: {error}") from error
    missing = [name for name in _CONFIG_FIELDS if not isinstance(document, dict) or not document.get(name)]
    if missing:
        raise OrchestrationError(f"{path} lacks {', '.join(missing)}; download it again from the portal")


def authentication(kind: str, environment: Mapping[str, str]) -> Any:
    """Return the azureml authentication of a kind.

    Parameters
    ----------
    kind : ``service-principal`` reads ``AZURE_TENANT_ID``, ``AZURE_CLIENT_ID`` and
        ``AZURE_CLIENT_SECRET``; ``cli`` takes the login of ``az``; ``interactive`` opens a browser;
        ``auto`` takes the first of them that can work here.

    Raises
    ------
    OrchestrationError
        None can.
    """
    from azureml.core import authentication as sdk

    if kind not in AUTHENTICATIONS:
        raise OrchestrationError(f"authentication {kind!r} is unknown; choose {', '.join(AUTHENTICATIONS)}")
    missing = [name for name in _PRINCIPAL if not environment.get(name)]
    if kind == "service-principal" and missing:
        raise OrchestrationError(f"a service principal needs {', '.join(missing)} in the environment")
    if kind == "service-principal" or (kind == "auto" and not missing):
        tenant, client, secret = (environment[name] for name in _PRINCIPAL)
        return sdk.ServicePrincipalAuthentication(tenant, client, secret)
    if kind == "cli" or (kind == "auto" and importlib.util.find_spec("azure.cli")):
        return sdk.AzureCliAuthentication()
    if kind == "interactive" or sys.stdin.isatty():
        return sdk.InteractiveLoginAuthentication()
    raise OrchestrationError(
        f"there are no credentials for Azure: set {', '.join(_PRINCIPAL)}, or pip install azure-cli "
        f"and run az login"
    )


def find_cluster(workspace: Workspace, name: str) -> AmlCompute | None:
    """Return a cluster of the workspace, or None."""
    from azureml.core.compute import ComputeTarget
    from azureml.core.compute_target import ComputeTargetException

    with asking(f"look for cluster {name}"):
        try:
            return ComputeTarget(workspace, name)
        except ComputeTargetException as error:
            if "NotFound" in str(error):
                return None
            raise


def require_cluster(workspace: Workspace, name: str) -> AmlCompute:
    """Return a cluster of the workspace.

    Raises
    ------
    OrchestrationError
        There is none of that name.
    """
    found = find_cluster(workspace, name)
    if found is None:
        raise OrchestrationError(
            f"workspace {workspace.name} has no cluster {name!r}; papershell cluster create {name} makes it"
        )
    return found


def ensure_cluster(
    workspace: Workspace,
    cluster: Cluster,
    *,
    timeout_s: float = PROVISION_TIMEOUT_S,
    show: Callable[[str], None] = print,
) -> AmlCompute:
    """Attach to the cluster of that name, or create it and wait until it is there.

    Parameters
    ----------
    timeout_s : how long to wait, in seconds.
    show : told each state once.

    Raises
    ------
    OrchestrationError
        It cannot be created, or is not there in time.
    """
    from azureml.core.compute import AmlCompute, ComputeTarget

    found = find_cluster(workspace, cluster.name)
    if found is None:
        settings = AmlCompute.provisioning_configuration(
            vm_size=cluster.vm_size, min_nodes=cluster.min_nodes, max_nodes=cluster.max_nodes
        )
        with asking(f"create cluster {cluster.name}"):
            found = ComputeTarget.create(workspace, cluster.name, settings)
    elif found.vm_size and found.vm_size.upper() != cluster.vm_size.upper():
        show(f"cluster {cluster.name} exists already, with {found.vm_size} instead of {cluster.vm_size}")
    _wait_for_cluster(found, timeout_s, show)
    return found


def cluster_state(workspace: Workspace, name: str) -> dict[str, Any]:
    """Return a cluster's size, limits, state and number of nodes."""
    cluster = require_cluster(workspace, name)
    with asking(f"ask for the state of cluster {name}"):
        status = cluster.get_status().serialize()
    scale = status.get("scaleSettings") or {}
    return {
        "vm size": cluster.vm_size,
        "state": cluster.provisioning_state,
        "nodes": status.get("currentNodeCount"),
        "min nodes": scale.get("minNodeCount"),
        "max nodes": scale.get("maxNodeCount"),
    }


def _wait_for_cluster(cluster: AmlCompute, timeout_s: float, show: Callable[[str], None]) -> None:
    shown = ""
    for _ in waits(timeout_s):
        with asking(f"ask for the state of cluster {cluster.name}"):
            cluster.refresh_state()
        state = str(cluster.provisioning_state)
        if state != shown:
            show(f"cluster {cluster.name}: {state}")
            shown = state
        if state == "Succeeded":
            return
        if state in ("Failed", "Canceled"):
            raise OrchestrationError(
                f"cluster {cluster.name} could not be created: {cluster.provisioning_errors}; delete it "
                f"and try another size or region"
            )
    raise OrchestrationError(f"cluster {cluster.name} is still {shown} after {timeout_s:.0f} seconds")


def delete_cluster(workspace: Workspace, name: str, *, timeout_s: float = PROVISION_TIMEOUT_S) -> None:
    """Delete a cluster and wait until it is gone."""
    with asking(f"delete cluster {name}"):
        require_cluster(workspace, name).delete()
    for _ in waits(timeout_s):
        if find_cluster(workspace, name) is None:
            return
    raise OrchestrationError(f"cluster {name} is still there after {timeout_s:.0f} seconds")


def free_cores(workspace: Workspace) -> dict[str, int] | None:
    """Return the cores that the quota leaves, by VM family; None where the service does not tell."""
    from azureml.core.compute import AmlCompute

    try:
        usages = AmlCompute.list_usages(workspace)
        return {u["name"]["value"]: int(u["limit"]) - int(u["currentValue"]) for u in usages}
    except Exception:  # a quota that cannot be read is no reason to stop
        return None


def upload_folder(workspace: Workspace, folder: Path, target: str) -> dict[str, int]:
    """Upload a folder to ``target`` of the default datastore; return its names and sizes there.

    Raises
    ------
    OrchestrationError
        A listing of the datastore does not show every file with its size: the SDK itself reports
        a failed upload in its log only.
    """
    wanted = folder_sizes(folder)
    with asking(f"upload {folder}"):
        datastore = workspace.get_default_datastore()
        with _quiet("Datastore.upload"):
            datastore.upload(str(folder), target_path=target, overwrite=True, show_progress=False)
        container = datastore.blob_service.get_container_client(datastore.container_name)
        blobs = container.list_blobs(name_starts_with=f"{target}/")
        there = {blob.name.removeprefix(f"{target}/"): blob.size for blob in blobs}
    wrong = [name for name, size in wanted.items() if there.get(name) != size]
    if wrong:
        raise OrchestrationError(
            f"{len(wrong)} of {len(wanted)} files of {folder} did not arrive whole, such as {wrong[0]} "
            f"({there.get(wrong[0], 0)} of {wanted[wrong[0]]} bytes); submit again"
        )
    return {name: there[name] for name in wanted}


def register_dataset(workspace: Workspace, name: str, paths: Sequence[str]) -> Dataset:
    """Register a FileDataset as the next version of ``name``.

    Parameters
    ----------
    paths : web addresses, or paths of the default datastore.
    """
    from azureml.core import Dataset

    with asking(f"register dataset {name}"):
        datastore = workspace.get_default_datastore()
        sources = [p if "://" in p else (datastore, p) for p in paths]
        # A mix of both is refused by the SDK; validation would need the data preparation engine,
        # which reads its own network settings.
        dataset = Dataset.File.from_files(sources, validate=False)
        return dataset.register(workspace, name, create_new_version=True)


def build_environment(job: TrainJob) -> Environment:
    """Return the Environment of a job: its conda file on the base image for its GPU."""
    from azureml.core import Environment

    path = Path(job.environment)
    size = vm_sizes.find(job.cluster.vm_size)
    capability = size.compute_capability if size else None
    image = job.image or base_images.image_for(capability)
    with asking(f"read {path}"):
        environment = Environment.from_conda_specification(name=path.stem, file_path=str(path))
    if capability is None:
        environment.docker.base_image = image
    else:
        # conda-forge's GPU packages want the virtual package __cuda, and the machine that builds the
        # image has no GPU: the variable stands in for it.
        environment.docker.base_image = None
        environment.docker.base_dockerfile = (
            f"FROM {image}\nENV CONDA_OVERRIDE_CUDA={base_images.CONDA_CUDA}\n"
        )
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
    plan: dict[str, Any] = {"dataset": dataset_of(job), "mode": job.data_mode}
    if not job.data.startswith(DATASET_PREFIX):
        plan |= {"upload_to": target_of(job), "bytes": folder_sizes(Path(job.data))}
    return plan


def folder_sizes(folder: Path) -> dict[str, int]:
    """Return the size in bytes of every file below ``folder``, by its POSIX name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def target_of(job: TrainJob) -> str:
    """Return where below the datastore the job's folder goes: its own name, as in ``mnist``."""
    return Path(job.data or "").resolve().name


def dataset_of(job: TrainJob) -> str:
    """Return the name of the job's dataset, as in ``mnist-dataset``."""
    if job.data and job.data.startswith(DATASET_PREFIX):
        return job.data.removeprefix(DATASET_PREFIX)
    return f"{target_of(job)}-dataset"


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
        sizes = upload_folder(workspace, Path(job.data), target_of(job))
        show(f"uploaded {len(sizes)} files, {sum(sizes.values()) / 1e6:.1f} MB, to {target_of(job)}")
        dataset = register_dataset(workspace, dataset_of(job), [f"{target_of(job)}/"])
    else:
        with asking(f"find dataset {dataset_of(job)}"):
            dataset = Dataset.get_by_name(workspace, dataset_of(job))
    show(f"dataset {dataset.name}, version {dataset.version}")
    named = dataset.as_named_input(_INPUT)
    return named.as_mount() if job.data_mode == "mount" else named.as_download()


def find_run(workspace: Workspace, run_id: str) -> RunHandle:
    """Return a run of the workspace by its id.

    Raises
    ------
    OrchestrationError
        There is none.
    """
    from azureml.core import Run

    with asking(f"find run {run_id}"):
        return RunHandle(Run.get(workspace, run_id))


def list_runs(workspace: Workspace, limit: int = 20) -> list[RunHandle]:
    """Return the newest runs of all experiments of the workspace, newest first."""
    from azureml.core import Experiment

    with asking("list the runs"):
        experiments = Experiment.list(workspace)
        found = [run for e in experiments for _, run in zip(range(limit), e.get_runs(), strict=False)]
        found.sort(key=lambda run: str(run._run_dto["created_utc"]), reverse=True)
    return [RunHandle(run) for run in found[:limit]]


@contextmanager
def _quiet(what: str) -> Iterator[None]:
    """Keep the SDK from printing that ``what`` is deprecated: its replacement loses errors."""
    import contextlib
    import io
    import logging

    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
