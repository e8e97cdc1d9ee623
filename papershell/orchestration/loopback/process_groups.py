"""The processes of a run: found and ended, however they forked."""

from __future__ import annotations

import os
from collections.abc import Collection

import psutil

RUN_VARIABLE = "AZUREML_RUN_ID"
_GRACE_S = 3.0


def _belongs(process: psutil.Process, run_id: str, groups: Collection[int]) -> bool:
    try:
        if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
            return False
        # A child that leaves its group still carries the run's variable; one that cleans
        # its environment is still in the group.
        return os.getpgid(process.pid) in groups or process.environ().get(RUN_VARIABLE) == run_id
    except (psutil.Error, OSError):
        return False


def processes_of(run_id: str, groups: Collection[int] = ()) -> list[psutil.Process]:
    """Return the living processes of a run: in one of its process groups, or carrying its id."""
    return [p for p in psutil.process_iter() if _belongs(p, run_id, groups)]


def end_processes(run_id: str, groups: Collection[int] = (), *, grace_s: float = _GRACE_S) -> None:
    """End every process of a run: asked first, killed after ``grace_s`` seconds."""
    victims = processes_of(run_id, groups)
    for ask in (psutil.Process.terminate, psutil.Process.kill, psutil.Process.kill):
        for victim in victims:
            try:
                ask(victim)
            except psutil.Error:
                continue
        psutil.wait_procs(victims, timeout=grace_s)
        # Those that forked while they were being ended are met in the next round.
        victims = processes_of(run_id, groups)
        if not victims:
            return
