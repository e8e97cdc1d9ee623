"""What would fail in ten minutes on the cluster, found in a second here.

`preflight` asks nothing over the network: sizes, images and pins are checked against the project's
own dated tables, files where they lie. `quota` judges what the service has told about cores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from packaging.version import Version

from papershell.orchestration.azure import images, sizes, snapshot
from papershell.orchestration.azure.conda_file import CondaFile, CondaFileError, conflicts, read_conda_file
from papershell.orchestration.azure.job import DATASET_PREFIX, TRAINERS, TrainJob
from papershell.orchestration.azure.sizes import VmSize

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes
    ----------
    level : ``error`` stops a submission, ``warning`` does not.
    message : one sentence: what, where, what to do.
    cloud : only Azure's machines or images are concerned, not a run on this machine.
    """

    level: str
    message: str
    cloud: bool = False


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


def preflight(
    job: TrainJob,
    *,
    root: Path | None = None,
    today: date | None = None,
) -> list[Finding]:
    """Return everything that is known to be wrong with a job, errors first.

    Parameters
    ----------
    root : the folder whose source folders travel with the job; None takes papershell's own.
    today : the day on which sizes must be there; None is today.
    """
    size = sizes.find(job.cluster.vm_size)
    found = [
        *_size(job, size, today or date.today()),
        *_nodes(job, size),
        *_image(job, size),
        *_environment(job, size),
        *_snapshot(snapshot.measure(root or snapshot.source_root())),
        *_data(job),
    ]
    return sorted(found, key=lambda finding: finding.level != ERROR)


def _size(job: TrainJob, size: VmSize | None, today: date) -> Iterator[Finding]:
    name = job.cluster.vm_size
    if size is None:
        similar = sizes.similar(name)
        hint = f"did you mean {' or '.join(similar)}?" if similar else "see orchestration/sizes.py"
        yield Finding(ERROR, f"VM size {name} is unknown; {hint}", cloud=True)
        return
    instead = f"; take {size.successor}" if size.successor else ""
    if size.retires_on and size.retires_on <= today:
        yield Finding(ERROR, f"VM size {name} was retired on {size.retires_on}{instead}", cloud=True)
    elif size.retires_on:
        closed = " and new subscriptions cannot deploy it" if size.closed_to_new else ""
        yield Finding(WARNING, f"VM size {name} retires on {size.retires_on}{closed}{instead}", cloud=True)
    if size.machine != "x86_64":
        yield Finding(
            ERROR,
            f"VM size {name} has an {size.machine} processor, and no base image here is built for it; "
            f"take an x86_64 size such as STANDARD_ND96isr_H200_v5",
            cloud=True,
        )
    if size.gpus and not TRAINERS[job.trainer].gpu:
        yield Finding(
            WARNING, f"{job.trainer} leaves the {size.gpu} of {name} idle unless told otherwise; a CPU size "
            f"such as STANDARD_D4s_v5 costs less", cloud=True
        )  # fmt: skip
    if not size.gpus and TRAINERS[job.trainer].gpu:
        yield Finding(WARNING, f"{name} has no GPU, and {job.trainer} is made for one", cloud=True)


def _nodes(job: TrainJob, size: VmSize | None) -> Iterator[Finding]:
    if job.distributed and not TRAINERS[job.trainer].distributed:
        able = ", ".join(name for name, trainer in TRAINERS.items() if trainer.distributed)
        yield Finding(ERROR, f"{job.trainer} runs in one process; only {able} can use several")
    if job.nodes > job.cluster.max_nodes:
        yield Finding(
            ERROR,
            f"the job wants {job.nodes} nodes and cluster {job.cluster.name} has at most "
            f"{job.cluster.max_nodes}; it would wait for ever",
            cloud=True,
        )
    if size and size.gpus and job.processes_per_node > size.gpus:
        yield Finding(
            ERROR, f"{job.processes_per_node} processes a node share {size.gpus} GPU of {size.name}; "
            f"take at most one for each", cloud=True
        )  # fmt: skip


def _image(job: TrainJob, size: VmSize | None) -> Iterator[Finding]:
    if job.image is None:
        return
    image = images.find(job.image)
    better = images.image_for(size.compute_capability if size else None)
    if image is None:
        if job.image.startswith(images.REGISTRY):
            yield Finding(ERROR, f"base image {job.image} is unknown; take {better}", cloud=True)
        return
    if image.deprecated_on:
        since = f"no longer maintained since {image.deprecated_on}"
        yield Finding(WARNING, f"base image {image.name} is {since}; take {better}", cloud=True)
    if size is None:
        return
    if size.gpus and image.cuda is None:
        yield Finding(
            ERROR, f"base image {image.name} has no CUDA for the {size.gpu} of {size.name}; take {better}",
            cloud=True,
        )  # fmt: skip
    if not size.gpus and image.cuda:
        yield Finding(WARNING, f"base image {image.name} carries CUDA, {size.name} no GPU", cloud=True)
    if size.compute_capability and image.cuda and not images.supports(image.cuda, size.compute_capability):
        yield Finding(
            ERROR,
            f"CUDA {_dotted(image.cuda)} of base image {image.name} has no code for the {size.gpu} "
            f"(compute capability {_dotted(size.compute_capability)}); take {better}",
            cloud=True,
        )


def _environment(job: TrainJob, size: VmSize | None) -> Iterator[Finding]:
    try:
        file = read_conda_file(Path(job.environment))
    except CondaFileError as error:
        yield Finding(ERROR, str(error))
        return
    for sentence in conflicts(file):
        yield Finding(ERROR, f"environment file {file.path.name}: {sentence}", cloud=True)
    if not {"conda-forge", "nodefaults"} & set(file.channels):
        yield Finding(
            WARNING,
            f"environment file {file.path.name} does not name the channel conda-forge",
            cloud=True,
        )
    if file.pin("azureml-core") is None and file.pin("azureml-defaults") is None:
        yield Finding(
            ERROR,
            f"environment file {file.path.name} lists no azureml-core; without it the run logs nothing",
            cloud=True,
        )
    if size and size.compute_capability:
        yield from _gpu_packages(file, size, size.compute_capability)
        yield from _cuda(job, file, size, size.compute_capability)


def _gpu_packages(file: CondaFile, size: VmSize, capability: tuple[int, int]) -> Iterator[Finding]:
    """Compare the wheels' oldest GPU with the one of the VM."""
    for name, pip, first, oldest in _OLDEST_GPU:
        pin = file.pin(name, pip=pip)
        if pin is None or capability >= oldest:
            continue
        if not any(pin.versions.contains(v) for v in _below(first)):
            yield Finding(
                ERROR,
                f"{name} from {first} on has no code for the {size.gpu} of {size.name} (compute capability "
                f"{_dotted(capability)}, it needs {_dotted(oldest)}); pin {name}<{first} or take a newer GPU",
                cloud=True,
            )
            return


def _below(first: str) -> list[str]:
    """Return versions older than ``first``, to try whether a pin leaves room for one."""
    major, *rest = Version(first).release
    minor = rest[0] if rest else 0
    return [f"{major}.{older}.{patch}" for older in range(minor) for patch in (0, 1, 2)]


def _cuda(job: TrainJob, file: CondaFile, size: VmSize, capability: tuple[int, int]) -> Iterator[Finding]:
    """Compare the conda CUDA with the GPU and with the base image."""
    versions = file.versions("cuda-version")
    if versions is None:
        return
    majors = [major for major in (11, 12, 13) if any(versions.contains(f"{major}.{m}") for m in range(15))]
    if majors and not any(images.supports((major, 14), capability) for major in majors):
        yield Finding(
            ERROR,
            f"environment file {file.path.name}: CUDA {majors[0]} has no code for the {size.gpu} of "
            f"{size.name} (compute capability {_dotted(capability)}); take a newer GPU or older CUDA",
            cloud=True,
        )
        return
    image = images.find(job.image or images.image_for(capability))
    if image and image.cuda and majors and image.cuda[0] not in majors:
        yield Finding(
            ERROR,
            f"environment file {file.path.name} asks for CUDA {majors[0]} and base image {image.name} "
            f"has CUDA {_dotted(image.cuda)}; let both have the same major version",
            cloud=True,
        )


def _snapshot(found: snapshot.Snapshot) -> Iterator[Finding]:
    largest = ", ".join(f"{n} ({found.sizes_bytes[n] / 1e6:.1f} MB)" for n in found.largest())
    if found.total_bytes > snapshot.MAX_BYTES:
        yield Finding(
            ERROR,
            f"the snapshot of {found.root} is {found.total_bytes / 2**20:.0f} MB, Azure ML takes 300 MB; "
            f"move away or list in .amlignore: {largest}",
        )
    if len(found.sizes_bytes) > snapshot.MAX_FILES:
        yield Finding(
            ERROR,
            f"the snapshot of {found.root} has {len(found.sizes_bytes)} files, Azure ML takes 2,000; "
            f"list those that are not source in .amlignore",
        )
    for link in found.links[:1]:
        yield Finding(
            ERROR, f"{link} is a symbolic link, which a snapshot does not carry; copy the file there"
        )
    if not found.sizes_bytes:
        yield Finding(ERROR, f"there is no package {snapshot.PACKAGE} below {found.root}")


def _data(job: TrainJob) -> Iterator[Finding]:
    if job.data is None:
        if "--data-folder" not in job.arguments:
            yield Finding(
                WARNING, f"no data is given, so {job.trainer} looks in its own folder `data`, which is empty"
            )
        return
    if job.data.startswith(DATASET_PREFIX):
        return
    folder = Path(job.data)
    if not folder.is_dir():
        yield Finding(
            ERROR, f"there is no data folder {folder}; `papershell data fetch` brings the public ones"
        )
    elif not any(path.is_file() for path in folder.rglob("*")):
        yield Finding(ERROR, f"the data folder {folder} holds no file; `papershell data fetch` fills it")


def quota(job: TrainJob, free_cores: Mapping[str, int] | None) -> list[Finding]:
    """Return what the quota says against a job.

    ``free_cores`` are the cores left by VM family; None where the service did not tell.
    """
    size = sizes.find(job.cluster.vm_size)
    if size is None or free_cores is None or size.family not in free_cores:
        return []
    wanted, free = job.nodes * size.vcpus, free_cores[size.family]
    if wanted <= free:
        return []
    message = (
        f"{job.nodes} x {size.name} are {wanted} cores and the quota of {size.family} has {free} left; "
        f"ask for more in the portal or take fewer nodes"
    )
    return [Finding(ERROR, message, cloud=True)]


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
