"""``papershell submit`` and ``preflight``: jobs on Azure ML or on this machine."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from papershell.orchestration.commands.options import Auth, SignIn, Workspace, opened, show_log

if TYPE_CHECKING:
    from papershell.orchestration.azure.job import TrainJob
    from papershell.orchestration.azure.preflight import Finding
    from papershell.orchestration.azure.run_handle import RunHandle

_TRAINER_FLAGS = {"ignore_unknown_options": True, "allow_extra_args": True}
BuildJob = Callable[..., Any]  # download: bool -> TrainJob


class DataMode(StrEnum):
    """How the data reaches a node."""

    download = "download"
    mount = "mount"


def register(app: typer.Typer) -> None:
    app.command(context_settings=_TRAINER_FLAGS)(_with_job_options(submit))
    app.command(context_settings=_TRAINER_FLAGS)(_with_job_options(preflight))


def submit(
    build: BuildJob,
    workspace: Workspace = "",
    auth: SignIn = Auth.auto,
    dry_run: Annotated[bool, typer.Option(help="Print the request, send nothing.")] = False,
    export: Annotated[
        Path | None, typer.Option(help="Write the job for Azure ML version 2, send nothing.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Show the log and wait for the end.")] = False,
) -> None:
    """Submit a trainer or a script of your own as a run, on Azure ML or on this machine.

    Its own flags follow; flags that submit has as well stand behind --.
    """
    from papershell.orchestration.azure.export import export as write_files
    from papershell.orchestration.azure.preflight import preflight
    from papershell.orchestration.azure.submission import request
    from papershell.orchestration.workspaces import is_loopback

    job = build(download=not (dry_run or export))
    here = is_loopback(workspace)
    stops = _stops(preflight(job), here=here)
    if dry_run:
        print(json.dumps(request(job), indent=2))
    if stops:
        raise typer.Exit(1)
    for path in write_files(job, export) if export else ():
        print(f"wrote {path}")
    if not (dry_run or export):
        handle = _send(job, opened(workspace, auth), here=here)
        if wait:
            _wait(handle, workspace)


def _send(job: TrainJob, workspace: Any, *, here: bool) -> RunHandle:
    """Submit a job to an opened workspace, unless its quota forbids it."""
    from papershell.orchestration.azure.cluster import free_cores
    from papershell.orchestration.azure.preflight import quota
    from papershell.orchestration.azure.submission import submit

    if _stops(quota(job, free_cores(workspace)), here=here):
        raise typer.Exit(1)
    handle = submit(job, workspace, show=lambda line: print(line, file=sys.stderr))
    print(f"run {handle.id}", flush=True)
    if not here:
        print(f"portal {handle.portal_url}", file=sys.stderr)
    return handle


def preflight(build: BuildJob) -> None:
    """Report what would go wrong with a job on Azure, without any use of the network."""
    from papershell.orchestration.azure.preflight import preflight

    if _stops(preflight(build()), here=False):
        raise typer.Exit(1)
    print("preflight found no errors")


def _describe(
    context: typer.Context,
    program: Annotated[
        str,
        typer.Argument(
            help="logreg, keras-mnist, torch-cifar10, or a script such as train.py; then its own flags."
        ),
    ],
    source: Annotated[
        Path | None, typer.Option(help="Folder of code that travels (default: the script's own).")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="A folder, mnist, digits, cifar10, or dataset:NAME of the workspace; {data} among the flags "
            "stands for it."
        ),
    ] = None,
    data_mode: Annotated[DataMode, typer.Option(help="How the data reaches the node.")] = DataMode.download,
    cluster: Annotated[str | None, typer.Option(help="Name of the cluster.")] = None,
    vm_size: Annotated[
        str | None, typer.Option(help="VM size of the cluster, if it is to be created.")
    ] = None,
    max_nodes: Annotated[
        int | None, typer.Option(help="Most nodes of the cluster, if it is to be created.")
    ] = None,
    nodes: Annotated[int, typer.Option(help="Nodes of this run.")] = 1,
    processes_per_node: Annotated[int, typer.Option(help="Processes on each node.")] = 1,
    environment: Annotated[Path | None, typer.Option(help="Conda file.")] = None,
    image: Annotated[str | None, typer.Option(help="Base image (default: by the GPU).")] = None,
    experiment: Annotated[
        str | None,
        typer.Option(help="Name of the experiment (default: the trainer's, or the script's name)."),
    ] = None,
    time_limit_min: Annotated[float | None, typer.Option(help="End the run after so many minutes.")] = None,
    job: Annotated[Path | None, typer.Option(help="Take the whole job from a JSON file.")] = None,
) -> BuildJob:
    """Return a function that builds the job of these options, or reads the file of ``--job``."""
    from papershell.orchestration.azure.job import build_job

    given = {name: context.params[name] for name in _JOB_OPTIONS if name not in ("context", "job")}
    if job:
        return lambda **_: _read_job(context, job)
    return lambda **how: build_job(arguments=context.args, **given | {"data_mode": data_mode.value}, **how)


_JOB_OPTIONS = inspect.signature(_describe, eval_str=True).parameters


def _with_job_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's first parameter by the options of a job; the command gets the job's builder."""
    _, *own = inspect.signature(command, eval_str=True).parameters.values()

    def run(**given: Any) -> None:
        build = _describe(**{name: given.pop(name) for name in _JOB_OPTIONS})
        command(build, **given)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature([*_JOB_OPTIONS.values(), *own])  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in (*_JOB_OPTIONS.values(), *own)}
    return run


def _read_job(context: typer.Context, path: Path) -> TrainJob:
    """Return the job of ``--job``. The file describes the whole job, so flags beside it are refused."""
    from papershell.orchestration.azure.job import JobError, TrainJob

    described = TrainJob.from_json(path.read_bytes())
    sources = {
        name: context.get_parameter_source(name) for name in _JOB_OPTIONS if name not in ("program", "job")
    }
    given = [f"--{name.replace('_', '-')}" for name, by in sources.items() if by and by.name == "COMMANDLINE"]
    if described.name != context.params["program"] or given or context.args:
        unused = ", ".join([*given, *context.args]) or f"trainer {context.params['program']!r}"
        raise JobError(f"{path} says all of the job, for {described.name}; leave out {unused}")
    return described


def _stops(found: list[Finding], *, here: bool) -> bool:
    """Show the findings; return whether one stops the job. On this machine Azure's own faults do not."""
    stopping = [finding for finding in found if finding.level == "error" and not (here and finding.cloud)]
    for finding in found:
        level = "warning (on Azure an error)" if finding.level == "error" else "warning"
        print(f"{'error' if finding in stopping else level}: {finding.message}", file=sys.stderr)
    return bool(stopping)


def _wait(handle: RunHandle, workspace: str) -> None:
    """Show the log until the run ends, then its results."""
    state = show_log(handle, workspace)
    print(f"{state}: {json.dumps(handle.metrics())}")
    for name in handle.files():
        print(f"  {name}")
    if state != "Completed":
        raise RuntimeError(f"run {handle.id} ended as {state}; {handle.failure() or 'its log says more'}")
