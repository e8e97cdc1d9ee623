"""The description of a job: a `TrainJob` is data, and holds everything that a submission needs."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any

from papershell.orchestration.azure import conda_file, images, sizes, snapshot
from papershell.orchestration.catalogue import (
    PACKAGE_ONLY,
    PACKAGE_SOURCE,
    TRAINERS,
    Trainer,
    script_trainer,
)
from papershell.orchestration.errors import OrchestrationError

DATASET_PREFIX = "dataset:"
DATA_WORD = "{data}"  # the argument that stands for the data's folder
DATA_MODES = ("download", "mount")
# Limits of the service: azureml-core checks experiments, AmlCompute itself refuses cluster names.
_EXPERIMENT_NAME = re.compile(r"[a-zA-Z0-9][\w-]{0,254}")
_CLUSTER_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]{0,14}[a-zA-Z0-9]")


class JobError(OrchestrationError, ValueError):
    """A job's description is wrong; the message names the field and its allowed values."""


def _choice(name: str, value: str, choices: Any) -> None:
    if value not in choices:
        raise JobError(f"{name} {value!r} is unknown; choose one of {', '.join(choices)}")


def _at_least(name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or value < least:
        raise JobError(f"{name} must be a whole number of at least {least}, not {value!r}")


@dataclass(frozen=True)
class Cluster:
    """A cluster to attach to, or to create if the workspace has none of that name.

    Raises
    ------
    JobError
        The service would refuse the name, or the numbers of nodes contradict each other.
    """

    name: str
    vm_size: str
    min_nodes: int = 0
    max_nodes: int = 4

    def __post_init__(self) -> None:
        _at_least("the cluster's min_nodes", self.min_nodes, 0)
        _at_least("the cluster's max_nodes", self.max_nodes, max(1, self.min_nodes))
        if not _CLUSTER_NAME.fullmatch(self.name):
            raise JobError(
                f"cluster {self.name[:40]!r} must be 2 to 16 letters, digits or -, "
                "beginning with a letter and not ending with -"
            )


CPU_CLUSTER = Cluster("cpucluster", "STANDARD_D2_V2")
GPU_CLUSTER = Cluster("gpu-cluster", "STANDARD_NC6")


def default_cluster(gpu: bool | None, environment: Mapping[str, str]) -> Cluster:
    """Return the walk-through's cluster for a trainer that is made for a GPU, or is not.

    For the CPU, ``AML_COMPUTE_CLUSTER_NAME``, ``_SKU``, ``_MIN_NODES`` and ``_MAX_NODES`` of
    ``environment`` replace ``cpucluster``, ``STANDARD_D2_V2``, 0 and 4.

    Raises
    ------
    JobError
        A number of nodes is not a number.
    """
    if gpu:
        return GPU_CLUSTER
    asked = {key: environment.get(f"AML_COMPUTE_CLUSTER_{key}") for key in ("MIN_NODES", "MAX_NODES")}
    for key, text in asked.items():
        if text is not None and not text.isdecimal():
            raise JobError(f"AML_COMPUTE_CLUSTER_{key}={text!r} is not a number of nodes")
    return Cluster(
        environment.get("AML_COMPUTE_CLUSTER_NAME", CPU_CLUSTER.name),
        environment.get("AML_COMPUTE_CLUSTER_SKU", CPU_CLUSTER.vm_size),
        int(asked["MIN_NODES"] or CPU_CLUSTER.min_nodes),
        int(asked["MAX_NODES"] or CPU_CLUSTER.max_nodes),
    )


@dataclass(frozen=True)
class TrainJob:
    """One training run: of a trainer of papershell's, or of a script of one's own.

    Attributes
    ----------
    trainer : a name of `TRAINERS`, or empty beside a script.
    cluster : the cluster that runs it.
    environment : path of the conda file.
    arguments : the program's own flags. The folder of the data takes the place of the argument ``{data}``; if
        there is none, it arrives as ``--data-folder``.
    data : a local folder to upload, ``dataset:NAME`` for a registered one, or None if the
        arguments name the data.
    data_name : the place below the datastore for an uploaded folder, as in ``mnist``, registered as
        ``mnist-dataset``; None takes the folder's own name.
    data_mode : ``download`` onto the node, or ``mount``.
    nodes, processes_per_node : more than one of either starts the program under torchrun.
    image : base image; None takes the one for the VM's GPU (`papershell.orchestration.azure.images`).
    experiment : None takes the trainer's, or the script's name.
    time_limit_min : minutes until the service ends the run; None leaves that to the service.
    script : a Python file, by its POSIX path below ``source``, as in ``train.py``.
    source : the folder of code that travels with the job; None takes the papershell that runs.

    Raises
    ------
    JobError
        A value cannot be right.
    """

    trainer: str = ""
    cluster: Cluster = CPU_CLUSTER
    environment: str = str(conda_file.shipped("cpu"))
    arguments: tuple[str, ...] = ()
    data: str | None = None
    data_name: str | None = None
    data_mode: str = "download"
    nodes: int = 1
    processes_per_node: int = 1
    image: str | None = None
    experiment: str | None = None
    time_limit_min: float | None = None
    script: str | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        self._check_program()
        _choice("data_mode", self.data_mode, DATA_MODES)
        _at_least("nodes", self.nodes, 1)
        _at_least("processes_per_node", self.processes_per_node, 1)
        if self.time_limit_min is not None and not self.time_limit_min > 0:
            raise JobError(f"time_limit_min must be above 0, not {self.time_limit_min}")
        if not _EXPERIMENT_NAME.fullmatch(self.experiment_name):
            raise JobError(
                f"experiment {self.experiment_name[:40]!r} must be 1 to 255 letters, digits, - or _, "
                "beginning with a letter or digit"
            )
        if self.data is None and DATA_WORD in self.arguments:
            raise JobError(
                f"the argument {DATA_WORD} stands for the job's data, and the job has none; name the data"
            )

    def _check_program(self) -> None:
        if self.script is None:
            return _choice("trainer", self.trainer, TRAINERS)
        if self.trainer or self.source is None:
            problem = f"trainer {self.trainer} runs beside it" if self.trainer else "its source is missing"
            raise JobError(
                f"script {self.script}: {problem}; a job runs a trainer, or a script of a source folder"
            )
        path = PurePosixPath(self.script)
        if path.is_absolute() or ".." in path.parts:
            raise JobError(f"script {path} is outside the source {self.source}; name a folder that holds it")

    @property
    def known(self) -> Trainer:
        """What is known about the program."""
        return TRAINERS[self.trainer] if self.script is None else script_trainer(self.script)

    @property
    def name(self) -> str:
        """The trainer's name, or the script's path."""
        return self.script or self.trainer

    def snapshot(self) -> snapshot.Snapshot:
        """Return the files that travel with the job, measured now; see `papershell.orchestration.azure.snapshot`."""
        source = PACKAGE_SOURCE if self.source is None else Path(self.source)
        return snapshot.measure(source, () if self.script else PACKAGE_ONLY)

    @property
    def experiment_name(self) -> str:
        """The experiment: the program's own unless one is given."""
        return self.known.experiment if self.experiment is None else self.experiment

    @property
    def data_folder(self) -> Path | None:
        """The local folder to upload, if there is one."""
        return Path(self.data) if self.data and not self.data.startswith(DATASET_PREFIX) else None

    @property
    def data_target(self) -> str:
        """The place of the data below the datastore."""
        return self.data_name or Path(self.data or "").resolve().name

    @property
    def dataset_name(self) -> str:
        """The name under which the data is registered, as in ``mnist-dataset``."""
        if self.data and self.data.startswith(DATASET_PREFIX):
            return self.data.removeprefix(DATASET_PREFIX)
        return f"{self.data_target}-dataset"

    @property
    def distributed(self) -> bool:
        """Whether more than one process runs."""
        return self.nodes * self.processes_per_node > 1

    @property
    def vm_size(self) -> sizes.VmSize | None:
        """The size of the cluster's machines; None if the table does not know it."""
        return sizes.find(self.cluster.vm_size)

    @property
    def compute_capability(self) -> tuple[int, int] | None:
        """The CUDA compute capability of the cluster's GPU; None without a GPU."""
        return self.vm_size.compute_capability if self.vm_size else None

    @property
    def base_image(self) -> str:
        """The base image: the one for the cluster's GPU unless one is given."""
        return self.image or images.image_for(self.compute_capability)

    @property
    def dockerfile(self) -> str:
        """The first lines of the Dockerfile of the job's environment."""
        return images.dockerfile(self.base_image, gpu=self.compute_capability is not None)

    def command(self, data: object = None) -> list[Any]:
        """Return the words of the shell command that runs the program, the arguments quoted.

        ``data`` stands for the data's folder: a path, or a placeholder that the service replaces by a path.
        """
        named = data is None or DATA_WORD in self.arguments
        words = [data if word == DATA_WORD else shlex.quote(word) for word in self.arguments]
        program = map(shlex.quote, self.known.program)
        return ["python", *program, *([] if named else ["--data-folder", data]), *words]

    def to_json(self) -> str:
        """Return the job as a JSON text; `from_json` reads it back."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> TrainJob:
        """Read a job; bytes are UTF-8.

        Raises
        ------
        JobError
            The text is not a JSON object, has a field that a job does not have, or lacks one that it needs.
        """
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise JobError(f"the job is not JSON: {error}") from error
        document = _known(cls, document, "job")
        document["arguments"] = tuple(map(str, document.get("arguments", ())))
        try:
            if "cluster" in document:
                document["cluster"] = Cluster(**_known(Cluster, document["cluster"], "cluster"))
            return cls(**document)
        except TypeError as error:
            raise JobError(f"a field of the job has the wrong type: {error}") from error


def build_job(
    program: str,
    arguments: Sequence[str] = (),
    *,
    source: Path | None = None,
    data: str | None = None,
    environment: Path | None = None,
    cluster: str | None = None,
    vm_size: str | None = None,
    max_nodes: int | None = None,
    download: bool = False,
    **others: Any,
) -> TrainJob:
    """Return the job that these choices describe; a default takes the place of None.

    Parameters
    ----------
    program : a name of `TRAINERS`, or the path of a script of one's own: from the current folder, or below ``source``.
    source : the folder of code that travels; of a script, its own folder by default.
    data : a folder, ``dataset:NAME``, or the name of a data set, as in ``mnist``.
    environment : the default is papershell's file for the cluster's machines.
    download : whether to download a data set that is not on this machine; without, nothing is asked over
        the network, and `papershell.orchestration.azure.preflight` reports the missing folder.
    others : fields of `TrainJob`.
    """
    from papershell.trainers import datasets

    what = _program(program, source)
    known = TrainJob(**what).known
    data = data or known.data
    named = data in datasets.SOURCES
    chosen: dict[str, Any] = {"name": cluster, "vm_size": vm_size, "max_nodes": max_nodes}
    chosen = {field: value for field, value in chosen.items() if value is not None}
    machines = replace(default_cluster(known.gpu, os.environ), **chosen)
    size = sizes.find(machines.vm_size)
    return TrainJob(
        **what,
        cluster=machines,
        environment=str(environment or conda_file.shipped("gpu" if size and size.gpus else "cpu")),
        arguments=tuple(arguments),
        data=str(datasets.resolve(data, download=download)) if data and named else data,
        data_name=data if named else None,
        **others,
    )


def _program(program: str, source: Path | None) -> dict[str, Any]:
    """Return the fields of a job that say which program it runs."""
    path = Path(program)
    if program in TRAINERS or not (path.suffix or path.exists() or source):
        _choice("trainer", program, [*TRAINERS, "a script such as train.py"])
        return {"trainer": program, "source": source and str(source)}
    if source and not path.is_absolute() and ((source / path).exists() or not path.exists()):
        return {"script": path.as_posix(), "source": str(source)}
    folder = source or path.parent
    return {"script": Path(os.path.relpath(path, folder)).as_posix(), "source": str(folder)}


def _known(cls: type, document: Any, kind: str) -> dict[str, Any]:
    """Return a JSON object whose fields are those of a dataclass."""
    names = [field.name for field in fields(cls)]
    if not isinstance(document, dict):
        raise JobError(f"the {kind} is not a JSON object with the fields {', '.join(names)}")
    unknown = [name for name in document if name not in names]
    missing = [f.name for f in fields(cls) if f.default is MISSING and f.name not in document]
    if unknown or missing:
        problem = f"has no field {unknown[0]!r}" if unknown else f"lacks {missing[0]!r}"
        raise JobError(f"the {kind} {problem}; its fields are {', '.join(names)}")
    return dict(document)
