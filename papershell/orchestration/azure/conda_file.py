"""Conda environment files: read, and checked for pins that cannot hold together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from papershell.orchestration.errors import OrchestrationError

_CONDA = re.compile(r"(?:[\w.-]+::)?(?P<name>[\w.-]+)\s*(?P<versions>[=<>!~].*|)")


class CondaFileError(OrchestrationError, ValueError):
    """An environment file cannot be read; the message says where it is wrong."""


@dataclass(frozen=True)
class Pin:
    """One line of an environment file."""

    name: str
    versions: SpecifierSet
    pip: bool
    extras: frozenset[str] = frozenset()


@dataclass(frozen=True)
class CondaFile:
    """An environment file: its channels and pins."""

    path: Path
    channels: tuple[str, ...]
    pins: tuple[Pin, ...]

    def pin(self, name: str, *, pip: bool | None = None) -> Pin | None:
        """Return the pin of a package, from the conda part, the pip part, or either."""
        fitting = (p for p in self.pins if p.name == name and pip in (None, p.pip))
        return next(fitting, None)

    def versions(self, name: str) -> SpecifierSet | None:
        """Return everything that the file demands of a package, or None when it does not name it."""
        found = [pin.versions for pin in self.pins if pin.name == name]
        if not found:
            return None
        together = SpecifierSet()
        for versions in found:
            together &= versions
        return together


@dataclass(frozen=True)
class Rule:
    """If ``package`` is listed (in versions that meet ``at``), ``other`` must leave room for ``needs``.

    Attributes
    ----------
    pip : whether the rule is about the package of pip, of conda (False), or of both (None).
    why : who says so.
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
    Rule("numba-cuda", "cuda-version", ">=12", _FORGE),
    Rule("numba-cuda", "numba", ">=0.60", _FORGE),
    Rule("numba-cuda", "numba-cuda", "<0.30.3", "conda-forge ends at numba-cuda 0.30.2", pip=False),
    Rule("torch", "python", ">=3.11", "metadata of torch 2.15.0", at=">=2.15", pip=True),
    Rule("tensorflow", "python", ">=3.10,<3.14", "metadata of tensorflow 2.21.0", at=">=2.20", pip=True),
    Rule("tensorflow", "keras", ">=3.12", "metadata of tensorflow 2.21.0", at=">=2.21", pip=True),
    Rule("tensorflow", "numpy", ">=1.26", "metadata of tensorflow 2.21.0", at=">=2.21", pip=True),
)


def shipped(device: str) -> Path:
    """Return the environment file that comes with papershell, for jobs on a ``cpu`` or a ``gpu``."""
    return Path(__file__).with_name(f"environment-{device}.yml")


def read_conda_file(path: Path) -> CondaFile:
    """Read an environment file.

    Raises
    ------
    CondaFileError
        It is missing, no YAML, or holds a line that is no requirement.
    """
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CondaFileError(f"there is no environment file {path}; name one with --environment") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CondaFileError(
            f"environment file {path} cannot be read: {' '.join(str(error).split())}"
        ) from error
    entries = document.get("dependencies") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise CondaFileError(f"environment file {path} has no list of dependencies")
    channels = document.get("channels") or []
    return CondaFile(path, tuple(map(str, channels)), tuple(_pins(path, entries)))


def _pins(path: Path, entries: list[object]) -> Iterator[Pin]:
    for entry in entries:
        if isinstance(entry, dict) and isinstance(entry.get("pip"), list):
            yield from (_pip_pin(path, str(line)) for line in entry["pip"] if not str(line).startswith("-"))
        elif isinstance(entry, str):
            yield _conda_pin(path, entry)
        else:
            raise CondaFileError(f"environment file {path}: {entry!r} is neither a package nor a pip list")


def _conda_pin(path: Path, line: str) -> Pin:
    match = _CONDA.fullmatch(line.strip())
    try:
        if match is None:
            raise InvalidSpecifier(line)
        return Pin(
            canonicalize_name(match["name"]), SpecifierSet(",".join(_pep440(match["versions"]))), False
        )
    except InvalidSpecifier as error:
        raise CondaFileError(f"environment file {path}: {line!r} is no conda requirement") from error


def _pep440(versions: str) -> Iterator[str]:
    """Turn conda's ``=1.2`` (any 1.2.x) and ``=1.2.*`` into the words of PEP 440."""
    for part in filter(None, (part.strip() for part in versions.split(","))):
        fuzzy = re.fullmatch(r"=([^=]+)(=.*)?", part)  # a build string may follow
        yield f"=={fuzzy[1].strip().removesuffix('.*')}.*" if fuzzy else part


def _pip_pin(path: Path, line: str) -> Pin:
    try:
        found = Requirement(line)
    except InvalidRequirement as error:
        raise CondaFileError(f"environment file {path}: {line!r} is no pip requirement") from error
    return Pin(canonicalize_name(found.name), found.specifier, True, frozenset(found.extras))


def satisfiable(versions: SpecifierSet) -> bool:
    """Return whether some version meets all of ``versions``.

    Between two neighbouring versions that the specifiers name nothing changes, so it is enough
    to try each of them, and one just below and one just above it.
    """
    named = [specifier.version.removesuffix(".*") for specifier in versions]
    return any(versions.contains(candidate, prereleases=True) for candidate in _candidates(named))


def _candidates(named: list[str]) -> Iterator[str]:
    yield from ("0.0.1", "99999")
    for text in named:
        release = list(Version(text).release)
        yield text
        yield ".".join(map(str, [*release, 0, 1]))
        while release and release[-1] == 0:
            release.pop()
        if release:
            yield ".".join(map(str, [*release[:-1], release[-1] - 1, 99999]))


def conflicts(file: CondaFile) -> Iterator[str]:
    """Yield one sentence for each set of pins that cannot hold together."""
    for name in dict.fromkeys(pin.name for pin in file.pins):
        versions = file.versions(name)
        if versions is not None and not satisfiable(versions):
            yield f"no version of {name} meets {_written(versions)}"
    for rule in RULES:
        pin, versions = file.pin(rule.package, pip=rule.pip), file.versions(rule.other)
        if pin is None or versions is None or not satisfiable(pin.versions & SpecifierSet(rule.at)):
            continue
        if _always(pin.versions, rule.at) and not satisfiable(versions & SpecifierSet(rule.needs)):
            written = f"{rule.other} {_written(versions)}".rstrip()
            yield f"{rule.package} needs {rule.other}{rule.needs}, the file says {written} ({rule.why})"
    yield from _impossible_together(file)


def _written(versions: SpecifierSet) -> str:
    return ",".join(sorted(map(str, versions)))


def _always(versions: SpecifierSet, at: str) -> bool:
    """Return whether a rule that begins ``at`` a version holds for the newest version allowed."""
    if not at:
        return True
    allowed = [
        v for v in _candidates([s.version.removesuffix(".*") for s in versions]) if versions.contains(v)
    ]
    return bool(allowed) and max(map(Version, allowed)) in SpecifierSet(at)


def _impossible_together(file: CondaFile) -> Iterator[str]:
    """Yield what no range of versions can express."""
    if file.pin("tensorflow-gpu", pip=True):
        yield "tensorflow-gpu of pip is an empty package that fails to install; take conda-forge's"
    if file.pin("cudatoolkit") and file.pin("cuda-version"):
        yield "cudatoolkit is CUDA 11 and cuda-version CUDA 12 or later; keep cuda-version"
    tensorflow = file.pin("tensorflow", pip=True)
    if tensorflow and "and-cuda" in tensorflow.extras and file.pin("torch", pip=True):
        yield "tensorflow[and-cuda] brings CUDA 12 and torch from PyPI CUDA 13; take both from conda-forge"
    python = file.versions("python")
    if python is not None and file.pin("azureml-core") and not file.pin("setuptools"):
        newest = [v for v in ("3.12", "3.13", "3.14") if python.contains(v)]
        if newest and not python.contains("3.11"):
            yield "azureml-core imports distutils, which Python 3.12 dropped; list setuptools"
    for pin in file.pins:
        if pin.name.startswith("cupy-cuda11") and file.pin("cuda-version"):
            yield f"{pin.name} is CUDA 11 and cuda-version CUDA 12 or later; take cupy from conda-forge"
