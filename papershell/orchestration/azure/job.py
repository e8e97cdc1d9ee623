"""What to run, as data: a `TrainJob` says everything that a submission needs, and nothing about how."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from papershell.orchestration.errors import OrchestrationError

DATASET_PREFIX = "dataset:"
DATA_MODES = ("download", "mount")
# Limits of the service: azureml-core checks experiments, AmlCompute itself refuses cluster names.
_EXPERIMENT_NAME = re.compile(r"[a-zA-Z0-9][\w-]{0,254}")
_CLUSTER_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]{0,14}[a-zA-Z0-9]")


class JobError(OrchestrationError, ValueError):
    """A job's description is wrong; the message names the field and what it may hold."""


@dataclass(frozen=True)
class Trainer:
    """What the shell knows of a trainer, with the defaults of the walk-through it comes from."""

    module: str
    summary: str
    experiment: str
    data: str
    gpu: bool = False
    distributed: bool = False


TRAINERS: dict[str, Trainer] = {
    "logreg": Trainer(
        "papershell.trainers.logreg",
        "Logistic regression, as in the walk-through on MNIST.",
        "sklearn-mnist",
        "mnist",
    ),
    "keras-mnist": Trainer(
        "papershell.trainers.keras_mnist", "Keras network on MNIST.", "keras-mnist", "mnist", gpu=True
    ),
    "torch-cifar10": Trainer(
        "papershell.trainers.torch_cifar10",
        "PyTorch network on CIFAR-10.",
        "day1-experiment-train",
        "cifar10",
        gpu=True,
        distributed=True,
    ),
}


def trainer(name: str) -> Trainer:
    """Return the trainer of that name; a `JobError` lists the names there are."""
    _choice("trainer", name, TRAINERS)
    return TRAINERS[name]


@dataclass(frozen=True)
class Cluster:
    """A cluster to attach to, or to create if it is not there."""

    name: str
    vm_size: str
    min_nodes: int = 0
    max_nodes: int = 4


GPU_CLUSTER = Cluster("gpu-cluster", "STANDARD_NC6")


def default_cluster(trainer: str, environment: Mapping[str, str]) -> Cluster:
    """Return the walk-through's cluster for a trainer.

    For the CPU, ``AML_COMPUTE_CLUSTER_NAME``, ``_SKU``, ``_MIN_NODES`` and ``_MAX_NODES`` of
    ``environment`` take the place of ``cpucluster``, ``STANDARD_D2_V2``, 0 and 4.

    Raises
    ------
    JobError
        A number of nodes is none.
    """
    if TRAINERS[trainer].gpu:
        return GPU_CLUSTER
    asked = {key: environment.get(f"AML_COMPUTE_CLUSTER_{key}") for key in ("MIN_NODES", "MAX_NODES")}
    for key, text in asked.items():
        if text is not None and not text.isdecimal():
            raise JobError(f"AML_COMPUTE_CLUSTER_{key}={text!r} is not a number of nodes")
    return Cluster(
        environment.get("AML_COMPUTE_CLUSTER_NAME", "cpucluster"),
        environment.get("AML_COMPUTE_CLUSTER_SKU", "STANDARD_D2_V2"),
        int(asked["MIN_NODES"] or 0),
        int(asked["MAX_NODES"] or 4),
    )


@dataclass(frozen=True)
class TrainJob:
    """One training run.

    Attributes
    ----------
    trainer : a name of `TRAINERS`.
    arguments : the trainer's own flags, without ``--data-folder``.
    data : a local folder to upload, ``dataset:NAME`` for one that is registered, or None when the
        arguments say where the data is.
    data_name : where below the datastore an uploaded folder goes, as in ``mnist``, registered as
        ``mnist-dataset``; None takes the folder's own name.
    data_mode : ``download`` onto the node, or ``mount``.
    cluster : where it runs.
    nodes, processes_per_node : more than one of either starts the trainer under torchrun.
    environment : path of the conda file.
    image : base image; None takes the one for the VM's GPU (`papershell.orchestration.azure.images`).
    experiment : None takes the trainer's.
    time_limit_min : minutes until the run is ended; None leaves it to the service.

    Raises
    ------
    JobError
        A value cannot be right.
    """

    trainer: str
    cluster: Cluster
    environment: str
    arguments: tuple[str, ...] = ()
    data: str | None = None
    data_name: str | None = None
    data_mode: str = "download"
    nodes: int = 1
    processes_per_node: int = 1
    image: str | None = None
    experiment: str | None = None
    time_limit_min: float | None = None

    def __post_init__(self) -> None:
        _choice("trainer", self.trainer, TRAINERS)
        _choice("data_mode", self.data_mode, DATA_MODES)
        _at_least("nodes", self.nodes, 1)
        _at_least("processes_per_node", self.processes_per_node, 1)
        _at_least("cluster.min_nodes", self.cluster.min_nodes, 0)
        _at_least("cluster.max_nodes", self.cluster.max_nodes, max(1, self.cluster.min_nodes))
        if self.time_limit_min is not None and not self.time_limit_min > 0:
            raise JobError(f"time_limit_min must be above 0, not {self.time_limit_min}")
        if not _EXPERIMENT_NAME.fullmatch(self.experiment_name):
            raise JobError(
                f"experiment {self.experiment_name[:40]!r} must be 1 to 255 letters, digits, - or _, "
                "beginning with a letter or digit"
            )
        if not _CLUSTER_NAME.fullmatch(self.cluster.name):
            raise JobError(
                f"cluster {self.cluster.name[:40]!r} must be 2 to 16 letters, digits or -, "
                "beginning with a letter and not ending with -"
            )

    @property
    def experiment_name(self) -> str:
        """The experiment, the trainer's own unless one is given."""
        return TRAINERS[self.trainer].experiment if self.experiment is None else self.experiment

    @property
    def data_target(self) -> str:
        """Where below the datastore the data goes, or lies."""
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

    def command(self, data: object = None) -> list[Any]:
        """Return the words of the shell command that runs the trainer, the arguments quoted.

        ``data`` stands for the data's folder: a path, or what the service puts a path in place of.
        """
        where = [] if data is None else ["--data-folder", data]
        return ["python", "-m", TRAINERS[self.trainer].module, *where, *map(shlex.quote, self.arguments)]

    def to_json(self) -> str:
        """Return the job as a JSON text; `from_json` reads it back."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> TrainJob:
        """Read a job.

        Raises
        ------
        JobError
            The text is no JSON object, or has a field that a job does not have, or lacks one that it needs.
        """
        try:
            document = json.loads(text)
        except ValueError as error:
            raise JobError(f"the job is not JSON: {error}") from error
        document = _known(cls, document, "job")
        document["cluster"] = Cluster(**_known(Cluster, document["cluster"], "cluster"))
        document["arguments"] = tuple(map(str, document.get("arguments", ())))
        try:
            return cls(**document)
        except TypeError as error:
            raise JobError(f"a field of the job has the wrong type: {error}") from error


def _known(cls: type, document: Any, what: str) -> dict[str, Any]:
    """Return a JSON object whose fields are those of a dataclass."""
    names = [field.name for field in fields(cls)]
    required = {"TrainJob": ("trainer", "cluster", "environment"), "Cluster": ("name", "vm_size")}
    if not isinstance(document, dict):
        raise JobError(f"the {what} is not a JSON object with the fields {', '.join(names)}")
    unknown = [name for name in document if name not in names]
    missing = [name for name in required[cls.__name__] if name not in document]
    if unknown or missing:
        problem = f"has no field {unknown[0]!r}" if unknown else f"lacks {missing[0]!r}"
        raise JobError(f"the {what} {problem}; its fields are {', '.join(names)}")
    return dict(document)


def _choice(name: str, value: str, choices: Any) -> None:
    if value not in choices:
        raise JobError(f"{name} {value!r} is unknown; choose one of {', '.join(choices)}")


def _at_least(name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or value < least:
        raise JobError(f"{name} must be a whole number of at least {least}, not {value!r}")
