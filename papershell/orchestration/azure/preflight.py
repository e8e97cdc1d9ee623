"""Faults that would stop a job on the cluster after ten minutes, found here in a second.

`preflight` uses no network: it checks sizes, images and pins against the project's own dated tables, and looks
at files of this machine. `quota` judges the cores that the service reports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from papershell.orchestration.azure import images, sizes
from papershell.orchestration.azure.conda_file import CondaFile, CondaFileError, read_conda_file
from papershell.orchestration.azure.job import TrainJob
from papershell.orchestration.azure.pins import conflicts, leaves_room_below
from papershell.orchestration.azure.program import data_fault, flags_fault, script_fault, unchecked
from papershell.orchestration.azure.sizes import VmSize
from papershell.orchestration.azure.snapshot import MAX_BYTES, MAX_FILES, Snapshot, file_sizes
from papershell.orchestration.catalogue import TRAINERS, Trainer
from papershell.orchestration.table import size_text

ERROR, WARNING = "error", "warning"


class Finding(NamedTuple):
    """One fault of a job.

    Attributes
    ----------
    level : ``error`` stops a submission, ``warning`` does not.
    message : one sentence: what, where, what to do.
    cloud : the fault concerns only Azure's machines or images, not a run on this machine.
    """

    level: str
    message: str
    cloud: bool = False


@dataclass(frozen=True)
class _Case:
    """A job, and the facts that the rules ask for."""

    job: TrainJob
    source: Snapshot
    today: date
    size: VmSize  # without cores if the table does not know the cluster's size
    trainer: Trainer
    image: images.BaseImage | None  # of the job's own base image, if it names one that the table has
    file: CondaFile | None = None

    @property
    def known(self) -> bool:
        return self.size.vcpus > 0

    @property
    def capability(self) -> str:
        return _dotted(self.size.compute_capability or (0, 0))

    @property
    def better_image(self) -> str:
        return images.image_for(self.size.compute_capability)

    def lacks_code(self, cuda: tuple[int, int]) -> bool:
        """Whether a CUDA toolkit has no code for the GPU."""
        capability = self.size.compute_capability
        return capability is not None and not images.supports(cuda, capability)

    @property
    def cuda_has_code(self) -> bool:
        """Whether the environment file allows a CUDA that has code for the GPU."""
        return any(not self.lacks_code((major, 14)) for major in self.cuda_majors)

    @cached_property
    def cuda_majors(self) -> list[int]:
        """The major versions of CUDA that the environment file allows, if it names any."""
        allowed = self.file.versions("cuda-version") if self.file else None
        if allowed is None:
            return []
        return [major for major in (11, 12, 13) if any(allowed.contains(f"{major}.{m}") for m in range(15))]


_REPORTERS = ("azureml-core", "azureml-defaults", "azureml-mlflow")


class _Rule(NamedTuple):
    """``message`` returns the sentence of a fault, or anything false if the job does not have it."""

    level: str
    message: Callable[[_Case], object]
    cloud: bool = True


_RULES = (
    # VM sizes
    _Rule(ERROR, lambda c: not c.known and f"VM size {c.size.name} is unknown; {_hint(c.size.name)}"),
    _Rule(ERROR, lambda c: c.size.retires_on and c.size.retires_on <= c.today and (
        f"VM size {c.size.name} was retired on {c.size.retires_on}; take {c.size.successor}")),
    _Rule(WARNING, lambda c: c.size.retires_on and c.size.retires_on > c.today and (
        f"VM size {c.size.name} retires on {c.size.retires_on}"
        f"{' and new subscriptions cannot deploy it' if c.size.closed_to_new else ''}; "
        f"take {c.size.successor}")),
    _Rule(ERROR, lambda c: c.size.machine != "x86_64" and (
        f"VM size {c.size.name} has an {c.size.machine} processor, and no base image here is built for it; "
        f"take an x86_64 size such as STANDARD_ND96isr_H200_v5")),
    _Rule(WARNING, lambda c: c.size.gpus and c.trainer.gpu is False and (
        f"{c.job.name} leaves the {c.size.gpu} of {c.size.name} idle unless told otherwise; a CPU size "
        f"such as STANDARD_D4s_v5 costs less")),
    _Rule(WARNING, lambda c: c.known and not c.size.gpus and c.trainer.gpu and (
        f"{c.size.name} has no GPU, and {c.job.name} is made for one")),
    # Nodes
    _Rule(ERROR, lambda c: c.job.distributed and not c.trainer.distributed and (
        f"{c.job.name} runs in one process; only "
        f"{', '.join(name for name, t in TRAINERS.items() if t.distributed)} can use several"), cloud=False),
    _Rule(ERROR, lambda c: c.job.nodes > c.job.cluster.max_nodes and (
        f"the job wants {c.job.nodes} nodes and cluster {c.job.cluster.name} has at most "
        f"{c.job.cluster.max_nodes}; it would wait for ever")),
    _Rule(ERROR, lambda c: 0 < c.size.gpus < c.job.processes_per_node and (
        f"{c.job.processes_per_node} processes a node share {c.size.gpus} GPU of {c.size.name}; "
        f"take at most one for each")),
    # Base images
    _Rule(ERROR, lambda c: not c.image and c.job.base_image.startswith(images.REGISTRY) and (
        f"base image {c.job.image} is unknown; take {c.better_image}")),
    _Rule(WARNING, lambda c: c.job.image and c.image and c.image.deprecated_on and (
        f"base image {c.image.name} is no longer maintained since {c.image.deprecated_on}; "
        f"take {c.better_image}")),
    _Rule(ERROR, lambda c: c.size.gpus and c.image and not c.image.cuda and (
        f"base image {c.image.name} has no CUDA for the {c.size.gpu} of {c.size.name}; "
        f"take {c.better_image}")),
    _Rule(WARNING, lambda c: c.known and not c.size.gpus and c.image and c.image.cuda and (
        f"base image {c.image.name} carries CUDA, {c.size.name} no GPU")),
    _Rule(ERROR, lambda c: c.image and c.image.cuda and c.lacks_code(c.image.cuda) and (
        f"CUDA {_dotted(c.image.cuda)} of base image {c.image.name} has no code for the {c.size.gpu} "
        f"(compute capability {c.capability}); "
        f"take {c.better_image}")),
    # Environment files
    _Rule(WARNING, lambda c: c.file and not {"conda-forge", "nodefaults"} & set(c.file.channels) and (
        f"environment file {c.file.path.name} does not name the channel conda-forge")),
    _Rule(ERROR, lambda c: c.trainer.module and c.file and not c.file.pins_any("azureml-core", "azureml-defaults") and (
        f"environment file {c.file.path.name} lists no azureml-core; without it the run logs nothing")),
    _Rule(WARNING, lambda c: not c.trainer.module and c.file and not c.file.pins_any(*_REPORTERS) and (
        f"environment file {c.file.path.name} lists none of {', '.join(_REPORTERS)}; without one of them "
        f"the run logs no metrics")),
    _Rule(ERROR, lambda c: c.file and _without_code(c.file, c)),
    _Rule(ERROR, lambda c: c.file and c.cuda_majors and not c.cuda_has_code and (
        f"environment file {c.file.path.name}: CUDA {c.cuda_majors[0]} has no code for the {c.size.gpu} of "
        f"{c.size.name} (compute capability {c.capability}); "
        f"take a newer GPU or older CUDA")),
    _Rule(ERROR, lambda c: c.file and c.size.gpus and c.image and c.image.cuda and c.cuda_has_code
          and c.image.cuda[0] not in c.cuda_majors and (
        f"environment file {c.file.path.name} asks for CUDA {c.cuda_majors[0]} and base image "
        f"{c.image.name} has CUDA {_dotted(c.image.cuda)}; let both have the same major version")),
    # Snapshot
    _Rule(ERROR, lambda c: c.source.total_bytes > MAX_BYTES and (
        f"the snapshot of {c.source.root} is {c.source.total_bytes / 2**20:.0f} MB, Azure ML takes 300 MB; "
        f"move away or list in .amlignore: "
        f"{', '.join(f'{n} ({size_text(c.source.sizes_bytes[n])})' for n in c.source.largest())}"), cloud=False),
    _Rule(ERROR, lambda c: len(c.source.sizes_bytes) > MAX_FILES and (
        f"the snapshot of {c.source.root} has {len(c.source.sizes_bytes)} files, Azure ML takes 2,000; "
        f"list those that are not source in .amlignore"), cloud=False),
    _Rule(ERROR, lambda c: script_fault(c.trainer.script, c.source), cloud=False),
    _Rule(ERROR, lambda c: flags_fault(c.job), cloud=False),
    _Rule(WARNING, lambda c: unchecked(c.job), cloud=False),
    # Data
    _Rule(WARNING, lambda c: c.trainer.data and c.job.data is None and "--data-folder" not in c.job.arguments and (
        f"no data is given, so {c.job.name} looks in its own folder `data`, which is empty"), cloud=False),
    _Rule(ERROR, lambda c: c.job.data_folder and not c.job.data_folder.is_dir() and (
        f"there is no data folder {c.job.data_folder}; `papershell data fetch` brings the public ones"),
        cloud=False),
    _Rule(ERROR, lambda c: c.job.data_folder and c.job.data_folder.is_dir()
          and not file_sizes(c.job.data_folder) and (
        f"the data folder {c.job.data_folder} holds no file; `papershell data fetch` fills it"), cloud=False),
    _Rule(ERROR, lambda c: data_fault(c.job), cloud=False),
)  # fmt: skip


def preflight(job: TrainJob, *, today: date | None = None) -> list[Finding]:
    """Return every known fault of a job, errors first.

    Parameters
    ----------
    today : the day on which Azure must offer the VM size; None is today.
    """
    size = job.vm_size or VmSize(job.cluster.vm_size, family="", vcpus=0, memory_gib=0)
    found: list[Finding] = []
    file = None
    try:
        file = read_conda_file(Path(job.environment))
        found += [Finding(ERROR, f"environment file {file.path.name}: {s}", True) for s in conflicts(file)]
    except CondaFileError as error:
        found.append(Finding(ERROR, str(error)))
    case = _Case(
        job, job.snapshot(), today or date.today(), size, job.known, images.find(job.base_image), file
    )
    judged = ((rule, rule.message(case)) for rule in _RULES)
    found += [Finding(rule.level, str(message), rule.cloud) for rule, message in judged if message]
    return sorted(found, key=lambda finding: finding.level != ERROR)


def quota(job: TrainJob, free_cores: Mapping[str, int] | None) -> list[Finding]:
    """Return what the quota says against a job.

    ``free_cores`` are the cores left by VM family, or None if the service did not tell.
    """
    size = job.vm_size
    if size is None or free_cores is None or size.family not in free_cores:
        return []
    wanted, free = job.nodes * size.vcpus, free_cores[size.family]
    message = (
        f"{job.nodes} x {size.name} are {wanted} cores and the quota of {size.family} has {free} left; "
        f"ask for more in the portal or take fewer nodes"
    )
    return [Finding(ERROR, message, cloud=True)] if wanted > free else []


# Oldest GPU that the newest packages of each kind have code for: (package, from pip, from version,
# compute capability). Wheels of pytorch.org and PyPI: pytorch/pytorch #190385, test-infra #8739;
# TensorFlow: its .bazelrc. Packages of conda-forge follow `cuda-version`, checked apart.
_OLDEST_GPU = (
    ("torch", True, "2.15", (7, 5)),
    ("torch", True, "2.11", (7, 0)),
    ("tensorflow", True, "2.15", (6, 0)),
    ("tensorflow-gpu", False, "2.15", (6, 0)),
    ("cupy-cuda13x", True, "0", (7, 5)),
    ("cupy-cuda12x", True, "0", (5, 0)),
)


def _without_code(file: CondaFile, case: _Case) -> str:
    """Name the first of the trainer's packages that has no code for the GPU in any allowed version."""
    capability = case.size.compute_capability or (99, 0)
    for name, pip, first, oldest in _OLDEST_GPU:
        pin = file.pin(name, pip=pip)
        used = not case.trainer.libraries or name in case.trainer.libraries
        fails = used and pin and capability < oldest
        if fails and pin and not leaves_room_below(pin, first):
            return (
                f"{name} from {first} on has no code for the {case.size.gpu} of {case.size.name} (compute "
                f"capability {case.capability}, it needs {_dotted(oldest)}); pin {name}<{first} or take a "
                f"newer GPU"
            )
    return ""


def _hint(name: str) -> str:
    """Say which size an unknown name may have meant."""
    similar = sizes.similar(name)
    return f"did you mean {' or '.join(similar)}?" if similar else "take a known one, such as STANDARD_D4s_v5"


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
