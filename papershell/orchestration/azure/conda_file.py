"""Conda environment files, and the two that come with papershell."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from papershell.orchestration.errors import OrchestrationError

_CONDA = re.compile(r"(?:[\w.-]+::)?(?P<name>[\w.-]+)\s*(?P<versions>[=<>!~].*|)")

_SHORT = reprlib.Repr()  # the aliases of YAML can make a huge text of a small file
_SHORT.maxlevel = 2


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
        """Return the pin of a package in the conda part (pip=False), the pip part (True), or either."""
        return next((p for p in self.pins if p.name == name and pip in (None, p.pip)), None)

    def pins_any(self, *names: str) -> bool:
        """Return whether the file names one of these packages."""
        return any(pin.name in names for pin in self.pins)

    def versions(self, name: str) -> SpecifierSet | None:
        """Return everything that the file demands of a package, or None if it does not name it."""
        found = [str(pin.versions) for pin in self.pins if pin.name == name]
        return SpecifierSet(",".join(filter(None, found))) if found else None


def shipped(device: str) -> Path:
    """Return the environment file that comes with papershell, for jobs on a ``cpu`` or a ``gpu``."""
    return Path(__file__).with_name(f"environment-{device}.yml")


def read_conda_file(path: Path) -> CondaFile:
    """Read an environment file.

    Raises
    ------
    CondaFileError
        The file is missing, is not YAML, or holds a line that is not a requirement.
    """
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CondaFileError(f"there is no environment file {path}; name one with --environment") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise CondaFileError(
            f"environment file {path} cannot be read: {' '.join(str(error).split())}"
        ) from error
    entries = document.get("dependencies") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise CondaFileError(f"environment file {path} has no list of dependencies")
    channels = document.get("channels")
    names = tuple(name for name in channels if isinstance(name, str)) if isinstance(channels, list) else ()
    return CondaFile(path, names, tuple(_pins(path, entries)))


def _pins(path: Path, entries: list[object]) -> Iterator[Pin]:
    for entry in entries:
        if isinstance(entry, dict) and isinstance(entry.get("pip"), list):
            lines = [line for line in entry["pip"] if not (isinstance(line, str) and line.startswith("-"))]
            yield from (_pip_pin(path, line) for line in lines)
        elif isinstance(entry, str):
            yield _conda_pin(path, entry)
        else:
            found = _SHORT.repr(entry)
            raise CondaFileError(f"environment file {path}: {found} is neither a package nor a pip list")


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


def _pip_pin(path: Path, line: object) -> Pin:
    try:
        found = Requirement(line if isinstance(line, str) else "")
    except InvalidRequirement as error:
        raise CondaFileError(f"environment file {path}: {_SHORT.repr(line)} is no pip requirement") from error
    return Pin(canonicalize_name(found.name), found.specifier, True, frozenset(found.extras))
