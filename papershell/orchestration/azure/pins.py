"""Pins of an environment file that cannot hold together, by rules read from the packages' own metadata."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from papershell.orchestration.azure.conda_file import CondaFile, Pin


@dataclass(frozen=True)
class Rule:
    """If the file lists ``package`` in versions that meet ``at``, its ``other`` must allow ``needs``.

    Attributes
    ----------
    pip : whether the rule is about pip's package, conda's (False), or both (None).
    why : the source of the rule.
    """

    package: str
    other: str
    needs: str
    why: str
    at: str = ""
    pip: bool | None = None


_CORE = "metadata of azureml-core 1.61.0.post4"
_RUNTIME = "metadata of azureml-dataset-runtime 1.62.0.post1"
_MLFLOW = "metadata of azureml-mlflow 1.62.0.post6"
_FORGE = "recipes of conda-forge, 2026-01 to 2026-09"

RULES = (
    Rule("azureml-core", "packaging", "<26", _CORE),
    Rule("azureml-core", "pathspec", "<1.0", _CORE),
    Rule("azureml-core", "msal", "<2", _CORE),
    Rule("azureml-core", "argcomplete", "<4", _CORE),
    Rule("azureml-core", "knack", "<0.13", _CORE),
    Rule("azureml-core", "paramiko", "<4", _CORE),
    Rule("azureml-core", "pyopenssl", "<=26.0.0", _CORE),
    Rule("azureml-core", "cryptography", "<47", _CORE + " through pyopenssl"),
    Rule("azureml-core", "urllib3", ">1.26.17,<3", _CORE),
    Rule("azureml-core", "python", ">=3.8,<4.0", _CORE),
    Rule("azureml-dataset-runtime", "numpy", "<2.3.3", _RUNTIME),
    Rule("azureml-dataset-runtime", "pyarrow", ">=23.0.1,<24", _RUNTIME),
    Rule("azureml-dataset-runtime", "cloudpickle", "<3", _RUNTIME),
    Rule("azureml-dataset-runtime", "python", ">=3.10,<3.14", "azureml-dataprep's native wheels"),
    Rule("azureml-mlflow", "mlflow", "<3.16", _MLFLOW),
    Rule("azureml-mlflow", "mlflow-skinny", "<=3.15.0", _MLFLOW),
    Rule("azureml-mlflow", "azure-storage-blob", "<=12.27.1", _MLFLOW),
    Rule("tensorflow-gpu", "tensorflow-gpu", "<2.20", "conda-forge ends at tensorflow-gpu 2.19.1", pip=False),
    Rule("tensorflow-gpu", "python", "<3.13", _FORGE, pip=False),
    Rule("tensorflow-gpu", "cuda-version", ">=12.8,<13", _FORGE, pip=False),
    Rule("pytorch-gpu", "pytorch-gpu", "<2.14", "conda-forge ends at pytorch-gpu 2.13.0", pip=False),
    Rule("pytorch-gpu", "python", ">=3.10,<3.15", _FORGE, pip=False),
    Rule("pytorch-gpu", "cuda-version", ">=12.9,<13.1", _FORGE, at=">=2.13", pip=False),
    Rule("cupy", "cupy", "<14.2", "conda-forge ends at cupy 14.1.1", pip=False),
    Rule("cupy", "cuda-version", ">=12", "CuPy 14 needs CUDA 12", at=">=14"),
    Rule("cudatoolkit", "cuda-version", "<12", "cudatoolkit is CUDA 11"),
    Rule("cupy-cuda11x", "cuda-version", "<12", "cupy-cuda11x is CUDA 11; conda-forge has cupy"),
    Rule("numba-cuda", "cuda-version", ">=12", _FORGE),
    Rule("numba-cuda", "numba", ">=0.60", _FORGE),
    Rule("numba-cuda", "numba-cuda", "<0.30.3", "conda-forge ends at numba-cuda 0.30.2", pip=False),
    Rule("torch", "python", ">=3.11", "metadata of torch 2.15.0", at=">=2.15", pip=True),
    Rule("tensorflow", "python", ">=3.10,<3.14", "metadata of tensorflow 2.21.0", at=">=2.20", pip=True),
    Rule("tensorflow", "keras", ">=3.12", "metadata of tensorflow 2.21.0", at=">=2.21", pip=True),
    Rule("tensorflow", "numpy", ">=1.26", "metadata of tensorflow 2.21.0", at=">=2.21", pip=True),
)


def conflicts(file: CondaFile) -> Iterator[str]:
    """Yield one sentence for each set of pins that cannot hold together."""
    for name in dict.fromkeys(pin.name for pin in file.pins):
        versions = file.versions(name)
        if versions is not None and not satisfiable(versions):
            yield f"no version of {name} meets {_written(versions)}"
    for rule in RULES:
        pin, versions = file.pin(rule.package, pip=rule.pip), file.versions(rule.other)
        if pin is None or versions is None or not _holds_for_the_newest(rule, pin):
            continue
        if not satisfiable(versions & SpecifierSet(rule.needs)):
            written = f"{rule.other} {_written(versions)}".rstrip()
            yield f"{rule.package} needs {rule.other}{rule.needs}, the file says {written} ({rule.why})"
    yield from _beyond_versions(file)


def _beyond_versions(file: CondaFile) -> Iterator[str]:
    """Yield the conflicts that a range of versions cannot express."""
    if file.pin("tensorflow-gpu", pip=True):
        yield "tensorflow-gpu of pip is an empty package that fails to install; take conda-forge's"
    tensorflow = file.pin("tensorflow", pip=True)
    if tensorflow and "and-cuda" in tensorflow.extras and file.pin("torch", pip=True):
        yield "tensorflow[and-cuda] brings CUDA 12 and torch from PyPI CUDA 13; take both from conda-forge"
    python = file.versions("python")
    new_python = python is not None and not satisfiable(python & SpecifierSet("<3.12"))
    if new_python and file.pin("azureml-core") and not file.pin("setuptools"):
        yield "azureml-core imports distutils, which Python 3.12 dropped; list setuptools"


def satisfiable(versions: SpecifierSet) -> bool:
    """Return whether some version meets all of ``versions``."""
    return any(versions.contains(version, prereleases=True) for version in _telling_versions(versions))


def leaves_room_below(pin: Pin, version: str) -> bool:
    """Return whether a pin allows a version below ``version``."""
    return satisfiable(pin.versions & SpecifierSet(f"<{version}"))


def _telling_versions(versions: SpecifierSet) -> Iterator[str]:
    """Yield versions that together meet ``versions`` if any version does.

    The answer is the same everywhere between two neighbouring versions that the specifiers name, so each of
    them suffices, with one version just below and one just above it.
    """
    yield from ("0.0.1", "99999")
    for text in (specifier.version.removesuffix(".*") for specifier in versions):
        release = list(Version(text).release)
        yield text
        yield ".".join(map(str, [*release, 0, 1]))
        while release and release[-1] == 0:
            release.pop()
        if release:
            yield ".".join(map(str, [*release[:-1], release[-1] - 1, 99999]))


def _holds_for_the_newest(rule: Rule, pin: Pin) -> bool:
    """Return whether a rule holds for the newest version that the pin allows."""
    allowed = [v for v in _telling_versions(pin.versions) if pin.versions.contains(v)]
    return not rule.at or (bool(allowed) and max(map(Version, allowed)) in SpecifierSet(rule.at))


def _written(versions: SpecifierSet) -> str:
    return ",".join(sorted(map(str, versions)))
