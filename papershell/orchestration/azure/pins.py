"""Pins of an environment file that cannot hold together, by rules read from the packages' own metadata."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from papershell.orchestration.azure.conda_file import CondaFile, Pin
from papershell.orchestration.azure.tables import read_table


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


_PIP = {"pip": True, "conda": False}
RULES = tuple(
    Rule(row["package"], row["other"], row["needs"], row["why"], row["at"], _PIP.get(row["installer"]))
    for row in read_table("pins")
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
