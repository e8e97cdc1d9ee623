"""Faults of the program that a job runs: of its file, its flags, and the data that it is to read.

A trainer of papershell's checks its flags by its own parser and reads the data here, before anything is sent. About the
flags of a script of the user's nothing is known.
"""

from __future__ import annotations

import ast
import importlib
import warnings
from types import ModuleType

from papershell.orchestration.azure.job import DATA_WORD, TrainJob
from papershell.orchestration.azure.snapshot import Snapshot, file_sizes
from papershell.trainers.arguments import check_flags


def script_fault(script: str, source: Snapshot) -> str:
    """Say why a script cannot run from the snapshot of its source."""
    path = source.root / script
    if not path.is_file():
        return f"there is no script {script} in the source {source.root}; name its folder with --source"
    if script not in source.sizes_bytes:
        return (
            f"script {script} would not be sent: the ignore file of {source.root} lists it; take it out there"
        )
    if path.suffix != ".py":
        return f"script {script} is no Python file; its name ends with {path.suffix or 'no suffix'} instead of .py"
    try:
        with warnings.catch_warnings(action="ignore"):
            ast.parse(path.read_bytes(), script)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f"line {error.lineno}, " if isinstance(error, SyntaxError) and error.lineno else ""
        return f"script {script} is not valid Python: {line}{getattr(error, 'msg', error)}"
    return ""


def unchecked(job: TrainJob) -> str:
    """Say why the flags and data of a trainer cannot be checked here."""
    missing = _load(job)
    if not isinstance(missing, str):
        return ""
    return f"the flags and data of {job.name} are not checked, because {missing} is not installed here"


def flags_fault(job: TrainJob) -> str:
    """Say which of a job's arguments its trainer would refuse."""
    module = _load(job)
    if not isinstance(module, ModuleType):
        return ""
    parser = module.parser()
    try:
        flags = check_flags(parser, job.arguments)
    except ValueError as error:
        return f"{job.name}: {error}; `papershell train {job.name} --help` lists its flags"
    if job.data is not None and flags.data_folder not in (parser.get_default("data_folder"), DATA_WORD):
        return f"--data-folder {flags.data_folder} is not of this machine; name the data with --data"
    return ""


def data_fault(job: TrainJob) -> str:
    """Say why a job's trainer cannot read the job's folder of data."""
    module, folder = _load(job), job.data_folder
    if not isinstance(module, ModuleType) or folder is None or not folder.is_dir() or not file_sizes(folder):
        return ""
    try:
        module.read_data(str(folder.resolve()))
    except (ValueError, OSError, RuntimeError) as error:
        return f"{job.name} cannot read its data: {error}"
    return ""


def _load(job: TrainJob) -> ModuleType | str | None:
    """Return the module of a trainer, the name of a library that it lacks here, or None of a script."""
    try:
        return importlib.import_module(job.known.module) if job.known.module else None
    except ModuleNotFoundError as error:
        return str(error.name)
