"""The same job for Azure ML's version 2: a command job and its assets as YAML, for ``az ml`` or azure-ai-ml.

Nothing here imports the client of version 2: the files are plain data, and the tests load them with
azure-ai-ml's own loaders.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from papershell.kernels.files import replacing
from papershell.orchestration.azure import images, sizes, snapshot
from papershell.orchestration.azure.job import DATASET_PREFIX, TrainJob
from papershell.orchestration.errors import OrchestrationError

_SCHEMAS = "https://azuremlschemas.azureedge.net/latest"
_INPUT = "data"
_MODES = {"download": "download", "mount": "ro_mount"}
# The machine that builds the image has no GPU; the variable stands in for the virtual package __cuda.
_DOCKERFILE = """FROM {image}
{variables}COPY conda.yml /tmp/conda.yml
RUN conda env create -p /azureml-envs/job -f /tmp/conda.yml && conda clean -afy
ENV PATH=/azureml-envs/job/bin:$PATH
"""


def export(job: TrainJob, target: Path) -> list[Path]:
    """Write ``target`` (the command job) and, beside it, its environment, data and code.

    The job refers to the other files by relative paths, so ``az ml job create -f job.yml`` creates
    everything that it needs. Each file is written whole or not at all.

    Returns
    -------
    paths : the YAML files, the job's first.

    Raises
    ------
    OrchestrationError
        The job's environment file is missing, or the folder for the code is in use.
    """
    import yaml

    conda = Path(job.environment)
    if not conda.is_file():
        raise OrchestrationError(f"there is no environment file {conda}; name one with --environment")
    folder, stem = target.resolve().parent, target.stem
    documents = {target: _command_job(job, stem), folder / f"{stem}.environment.yml": _environment(job, stem)}
    files = {folder / f"{stem}.image" / "conda.yml": conda.read_bytes()}
    files[folder / f"{stem}.image" / "Dockerfile"] = _dockerfile(job).encode()
    if data := _data(job):
        documents[folder / f"{stem}.data.yml"] = data
    _write_code(folder / f"{stem}.code")
    for path, document in documents.items():
        files[path] = yaml.safe_dump(document, sort_keys=False, width=120).encode()
    for path, content in files.items():
        with replacing(path, parents=True) as file:
            file.write(content)
    return list(documents)


def _command_job(job: TrainJob, stem: str) -> dict[str, Any]:
    where = None if job.data is None else f"${{{{inputs.{_INPUT}}}}}"
    document: dict[str, Any] = {
        "$schema": f"{_SCHEMAS}/commandJob.schema.json",
        "type": "command",
        "experiment_name": job.experiment_name,
        "display_name": job.trainer,
        "code": f"./{stem}.code",
        "command": " ".join(map(str, job.command(where))),
        "environment": f"file:./{stem}.environment.yml",
        "compute": f"azureml:{job.cluster.name}",
        "tags": {"trainer": job.trainer},
    }
    if job.data is not None:
        document["inputs"] = {
            _INPUT: {"type": "uri_folder", "path": _data_path(job), "mode": _MODES[job.data_mode]}
        }
    if job.distributed:
        document["distribution"] = {
            "type": "pytorch",
            "process_count_per_instance": job.processes_per_node,
        }
        document["resources"] = {"instance_count": job.nodes}
    if job.time_limit_min is not None:
        document["limits"] = {"timeout": int(job.time_limit_min * 60)}
    return document


def _data_path(job: TrainJob) -> str:
    """Return the job's data as version 2 names it: a registered asset, or a folder that it uploads."""
    if job.data is None or not job.data.startswith(DATASET_PREFIX):
        return str(Path(job.data or "").resolve())
    return f"azureml:{job.data.removeprefix(DATASET_PREFIX)}@latest"


def _environment(job: TrainJob, stem: str) -> dict[str, Any]:
    return {
        "$schema": f"{_SCHEMAS}/environment.schema.json",
        "name": Path(job.environment).stem,
        "build": {"path": f"./{stem}.image"},
    }


def _dockerfile(job: TrainJob) -> str:
    size = sizes.find(job.cluster.vm_size)
    capability = size.compute_capability if size else None
    variables = f"ENV CONDA_OVERRIDE_CUDA={images.CONDA_CUDA}\n" if capability else ""
    return _DOCKERFILE.format(image=job.image or images.image_for(capability), variables=variables)


def _data(job: TrainJob) -> dict[str, Any] | None:
    if job.data is None or job.data.startswith(DATASET_PREFIX):
        return None
    folder = Path(job.data).resolve()
    return {
        "$schema": f"{_SCHEMAS}/data.schema.json",
        "name": job.dataset_name,
        "type": "uri_folder",
        "path": str(folder),
    }


def _write_code(folder: Path) -> None:
    """Lay the source folders beside the job, in a folder that this function made before or makes now."""
    marker = folder / ".papershell-export"
    if folder.exists() and not marker.exists():
        raise OrchestrationError(f"{folder} exists and was not made by an export; move it away")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    marker.touch()
    snapshot.stage(snapshot.measure(snapshot.source_root()), folder)
