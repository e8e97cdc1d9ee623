"""Azure ML's base images: their CUDA and their maintenance, from the table ``base_images.csv``."""

from __future__ import annotations

from dataclasses import dataclass

from papershell.orchestration.azure.tables import read_table, version

REGISTRY = "mcr.microsoft.com/azureml/"
CPU_IMAGE = REGISTRY + "openmpi5.0-ubuntu24.04"
GPU_IMAGE = REGISTRY + "openmpi5.0-cuda12.8-ubuntu24.04"
LAST_CUDA_11_IMAGE = REGISTRY + "openmpi4.1.0-cuda11.8-cudnn8-ubuntu22.04"
CONDA_CUDA = "12.9"


@dataclass(frozen=True)
class BaseImage:
    """One base image: its CUDA toolkit (None: for the CPU), and the day that ended its maintenance."""

    name: str
    cuda: tuple[int, int] | None = None
    deprecated_on: str = ""
    source: str = ""
    read_on: str = ""


IMAGES: dict[str, BaseImage] = {
    row["name"]: BaseImage(
        row["name"], version(row["cuda"]), row["deprecated_on"], row["source"], row["read_on"]
    )
    for row in read_table("base_images")
}

# The compute capabilities that a CUDA major compiles for, from the oldest to below the first that it does
# not know. CUDA 12 dropped Kepler, 13 everything below Turing (release notes of each); Blackwell needs
# 12.8, which `supports` handles.
_CAPABILITIES = {10: ((3, 0), (8, 0)), 11: ((3, 5), (9, 1)), 12: ((5, 0), (13, 0)), 13: ((7, 5), (13, 0))}
_BLACKWELL, _BLACKWELL_CUDA = (10, 0), (12, 8)


def find(image: str) -> BaseImage | None:
    """Return the row of an image reference, with or without registry and tag; None for a foreign image."""
    return IMAGES.get(image.removeprefix(REGISTRY).partition(":")[0])


def supports(cuda: tuple[int, int], capability: tuple[int, int]) -> bool:
    """Return whether a CUDA toolkit has code for a GPU of that compute capability."""
    oldest, beyond = _CAPABILITIES.get(cuda[0], ((0, 0), (99, 0)))
    return oldest <= capability < beyond and (capability < _BLACKWELL or cuda >= _BLACKWELL_CUDA)


def image_for(capability: tuple[int, int] | None) -> str:
    """Return the image for a GPU of that compute capability (None: for a CPU).

    CUDA 12.8 if it has code for the GPU, because it runs on drivers from 525 on and knows every GPU from
    Maxwell to Blackwell; the last CUDA 11 for the K80.
    """
    if capability is None:
        return CPU_IMAGE
    return GPU_IMAGE if supports((12, 8), capability) else LAST_CUDA_11_IMAGE


def dockerfile(image: str, *, gpu: bool) -> str:
    """Return the lines that begin a Dockerfile on a base image.

    conda-forge's GPU packages want the virtual package __cuda, and the machine that builds the image has no
    GPU: a variable tells conda which CUDA the driver supports.
    """
    return f"FROM {image}\n" + (f"ENV CONDA_OVERRIDE_CUDA={CONDA_CUDA}\n" if gpu else "")
