"""The command lines of this machine that a submitted configuration asks for."""

from __future__ import annotations

import shlex
import socket
import sys
from collections.abc import Callable, Sequence

from papershell.orchestration.loopback.inputs import Input
from papershell.orchestration.loopback.store import Document


class RunError(RuntimeError):
    """A run cannot be started; the message says why."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that no program listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command_lines(configuration: Document, data: Sequence[Input], port: int) -> list[list[str]]:
    """Return the command of each node of a submitted configuration.

    Several nodes or processes start under ``torchrun``, with one rendezvous on ``port``.

    Raises
    ------
    RunError
        The configuration asks for a launcher other than PyTorch's, or names no program.
    """

    # The longest placeholder first: one may begin as another does.
    places = {item.placeholder: item.value for item in sorted(data, key=_placeholder_length, reverse=True)}

    def filled(text: object, quote: Callable[[str], str] = str) -> str:
        result = str(text)
        for placeholder, folder in places.items():
            result = result.replace(placeholder, quote(folder))
        return result

    if configuration.get("command"):
        command = configuration["command"]
        line = command if isinstance(command, str) else shlex.join(map(str, command))
        program, is_python = ["bash", "-c", filled(line, shlex.quote)], False
    elif configuration.get("script"):
        program = [configuration["script"], *map(filled, configuration.get("arguments") or [])]
        is_python = True
    else:
        raise RunError("the configuration names neither a script nor a command")
    nodes, per_node = _world(configuration)
    if nodes == per_node == 1:
        return [[sys.executable, *program] if is_python else program]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--master-addr=127.0.0.1",
                f"--master-port={port}", f"--nnodes={nodes}", f"--nproc-per-node={per_node}"]  # fmt: skip
    tail = program if is_python else ["--no-python", *program]
    return [[*launcher, f"--node-rank={rank}", *tail] for rank in range(nodes)]


def _placeholder_length(item: Input) -> int:
    return len(item.placeholder)


def _world(configuration: Document) -> tuple[int, int]:
    """Return the number of nodes, and of processes on each."""
    nodes = int(configuration.get("nodeCount") or 1)
    if str(configuration.get("framework")).lower() != "pytorch":
        if nodes > 1:
            raise RunError("several nodes run here under PyTorchConfiguration only; give that to the job")
        return 1, 1
    processes = int((configuration.get("pytorch") or {}).get("processCount") or nodes)
    if processes % nodes:
        raise RunError(f"{processes} processes cannot be spread evenly over {nodes} nodes")
    return nodes, processes // nodes
