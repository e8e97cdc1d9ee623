"""The same job for Azure ML's version 2: a command job and its assets as YAML, for ``az ml`` or azure-ai-ml.

This module does not import the client of version 2: the files are plain data, and the tests load them with
azure-ai-ml's own loaders.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from papershell.kernels.files import replacing, replacing_path
from papershell.orchestration.azure.job import TrainJob
from papershell.orchestration.azure.snapshot import Snapshot, stage
from papershell.orchestration.errors import OrchestrationError

_SCHEMAS = "https://azuremlschemas.azureedge.net/latest"
_INPUT = "data"
_MARKER = ".papershell-export"  # tells a folder of an export from any other
_MODES = {"download": "download", "mount": "ro_mount"}
_CONDA_ENVIRONMENT = """COPY conda.yml /tmp/conda.yml
RUN conda env create -p /azureml-envs/job -f /tmp/conda.yml && conda clean -afy
ENV PATH=/azureml-envs/job/bin:$PATH
"""


def export(job: TrainJob, target: Path) -> list[Path]:
    """Write ``target`` (the command job) and, beside it, its environment, data and code.

    The job refers to the other files by relative paths, so ``az ml job create -f job.yml`` creates
    everything that it needs. Each file is written whole or not at all.

    Returns
    -------
    paths : the YAML files, the job's first, then the folders of the image and the code.

    Raises
    ------
    OrchestrationError
        The target is a folder, the job's environment file is missing, or the folder for the code is in use.
    """
    import yaml

    if target.is_dir():
        raise OrchestrationError(f"{target} is a folder; name a file in it, as in {target / 'job.yml'}")
    conda = Path(job.environment)
    if not conda.is_file():
        raise OrchestrationError(f"there is no environment file {conda}; name one with --environment")
    beside = target.with_suffix("")
    image, code = Path(f"{beside}.image"), Path(f"{beside}.code")
    documents = {target: _command_job(job, beside.name), Path(f"{beside}.environment.yml"): {
        "$schema": f"{_SCHEMAS}/environment.schema.json",
        "name": conda.stem,
        "build": {"path": f"./{image.name}"},
    }}  # fmt: skip
    if job.data_folder:
        documents[Path(f"{beside}.data.yml")] = {
            "$schema": f"{_SCHEMAS}/data.schema.json", "name": job.dataset_name, **_folder(job)
        }  # fmt: skip
    files = {path: yaml.safe_dump(d, sort_keys=False, width=120).encode() for path, d in documents.items()}
    files[image / "conda.yml"] = conda.read_bytes()
    files[image / "Dockerfile"] = (job.dockerfile + _CONDA_ENVIRONMENT).encode()
    _write_code(job.snapshot(), code)
    for path, content in files.items():
        with replacing(path, parents=True) as file:
            file.write(content)
    return [*documents, image, code]


def _command_job(job: TrainJob, stem: str) -> dict[str, Any]:
    data = None if job.data is None else f"${{{{inputs.{_INPUT}}}}}"
    document = {
        "$schema": f"{_SCHEMAS}/commandJob.schema.json",
        "type": "command",
        "experiment_name": job.experiment_name,
        "display_name": job.name,
        "code": f"./{stem}.code",
        "command": " ".join(map(str, job.command(data))),
        "environment": f"file:./{stem}.environment.yml",
        "compute": f"azureml:{job.cluster.name}",
        "tags": {"trainer": job.name},
    }
    return document | _options(job)


def _options(job: TrainJob) -> dict[str, Any]:
    """Return the parts of the command job that not every job has."""
    options: dict[str, Any] = {}
    if job.data is not None:
        options["inputs"] = {_INPUT: {**_folder(job), "mode": _MODES[job.data_mode]}}
    if job.distributed:
        options["distribution"] = {"type": "pytorch", "process_count_per_instance": job.processes_per_node}
        options["resources"] = {"instance_count": job.nodes}
    if job.time_limit_min is not None:
        options["limits"] = {"timeout": int(job.time_limit_min * 60)}
    return options


def _folder(job: TrainJob) -> dict[str, str]:
    """Return the job's data: a folder of this machine, or a registered asset."""
    path = str(job.data_folder.resolve()) if job.data_folder else f"azureml:{job.dataset_name}@latest"
    return {"type": "uri_folder", "path": path}


def _write_code(source: Snapshot, folder: Path) -> None:
    """Copy the source beside the job; replace only a folder that an earlier export made."""
    if folder.exists() and not (folder / _MARKER).exists():
        raise OrchestrationError(f"{folder} exists and was not made by an export; move it away")
    with replacing_path(folder, parents=True) as fresh:
        fresh.mkdir()
        (fresh / _MARKER).touch()
        stage(source, fresh)
