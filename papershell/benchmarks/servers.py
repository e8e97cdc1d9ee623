"""The parent's end of a process of benchmarks that waits for orders (`papershell.benchmarks.serve`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from papershell.benchmarks.runner import FOLDER, PLUGIN
from papershell.benchmarks.serve import PROTOCOL
from papershell.benchmarks.trees import search_path

TAIL_LINES = 12  # of a process's output, after it ended before it should
LEAST_S = 1e-9
PATIENCE_S = 5.0


class ServerError(RuntimeError):
    """A process of benchmarks did not do what it was asked for; the message says which and why."""


class ProtocolError(ServerError):
    """A commit's processes cannot be asked for turns."""


class CaseEnded(Exception):
    """The test of a case ended while it was timed."""


@dataclass(frozen=True)
class Ending:
    """How a test ended: ``passed``, ``failed`` or ``skipped``, and why."""

    outcome: str
    said: str


class Server:
    """A process that runs the benchmarks of one file of a tree and times them when asked."""

    def __init__(
        self, process: subprocess.Popen[str], asking: IO[str], telling: IO[str], log: IO[str], name: str
    ):
        self.process, self.asking, self.telling, self.log, self.name = process, asking, telling, log, name
        self.ended: Ending | None = None

    def collected(self) -> list[str]:
        """Return the keys of its benchmarks.

        Raises
        ------
        ServerError
            It cannot load the file.
        ProtocolError
            Its papershell has no such processes, or speaks to them in another way.
        """
        hello = self._receive()
        if hello.get("protocol") != PROTOCOL:
            raise ProtocolError(
                f"{self.name}: its papershell takes turns in another way; name a later commit"
            )
        if hello["errors"]:
            self.choose([])
            self.process.wait()
            raise ServerError(f"{self.name}: the file cannot be loaded\n{self._output()}")
        return list(hello["keys"])

    def choose(self, keys: list[str]) -> None:
        """Say which benchmarks to run, in which order."""
        self._send(keys=keys)

    def ready(self) -> float | None:
        """Return the seconds of a call of the next benchmark once it is ready; None if its test ended before."""
        self.ended = None
        message = self._receive()
        if "ended" in message:
            self.ended = Ending(message["outcome"], message["said"])
            return None
        return max(float(message["call_s"]), LEAST_S)

    def turn(self, calls: int) -> float:
        """Let it time so many calls and return the seconds of one.

        Raises
        ------
        CaseEnded
            A call raised.
        """
        self._send(calls=calls)
        message = self._receive()
        if "ended" in message:
            self.ended = Ending(message["outcome"], message["said"])
            raise CaseEnded
        return max(float(message["seconds"]), LEAST_S)

    def finish(self) -> Ending:
        """Let it end the test of this benchmark, and return how that ended."""
        if self.ended is None:
            self._send(calls=0)
            message = self._receive()
            if "ended" not in message:
                raise ServerError(f"{self.name}: a test measures two cases; give each case a test of its own")
            self.ended = Ending(message["outcome"], message["said"])
        return self.ended

    def _send(self, **message: Any) -> None:
        try:
            self.asking.write(json.dumps(message) + "\n")
            self.asking.flush()
        except BrokenPipeError:
            raise self._gone() from None

    def _receive(self) -> dict[str, Any]:
        if not (line := self.telling.readline()):
            raise self._gone()
        return json.loads(line)

    def _gone(self) -> ServerError:
        code, printed = self.process.wait(), self._output()
        if "unrecognized arguments: --measure-serve" in printed:
            return ProtocolError(
                f"{self.name}: its papershell cannot compare commits yet; name a later commit"
            )
        return ServerError(f"{self.name}: the process ended with {code}\n{printed}")

    def _output(self) -> str:
        self.log.seek(0)
        return "\n".join(self.log.read().splitlines()[-TAIL_LINES:])


@contextmanager
def serving(
    repository: Path, tree: Path, file: Path, *, name: str, outside: bool, select: str, device: str
) -> Iterator[Server]:
    """Start a process for the benchmarks of ``file`` in ``tree``, called ``name`` in messages; end it afterwards.

    It runs in the current folder, whatever its tree: relative paths lead all trees to the same data.
    """
    (child_in, asking), (telling, child_out) = os.pipe(), os.pipe()
    root = tree / Path.cwd().resolve().relative_to(repository) if outside else (tree / file).parent
    command = [
        sys.executable, "-P", "-m", "pytest", "-p", PLUGIN, f"--rootdir={root}",
        "-c", str((FOLDER if outside else root) / "pytest.ini"),
        f"--measure-serve={child_in},{child_out}", f"--measure-device={device}", "--benchmark-disable",
        *["--measure-outside"] * outside, f"-k={select}" if select else "-m=not slow", str(tree / file),
    ]  # fmt: skip
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment = {**inherited, "PYTHONPATH": search_path(repository, tree)}
    with os.fdopen(asking, "w") as ask, os.fdopen(telling) as told, tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, pass_fds=(child_in, child_out), stdin=subprocess.DEVNULL, stdout=log, stderr=log, text=True,
            env=environment,
        )  # fmt: skip
        os.close(child_in)
        os.close(child_out)
        try:
            yield Server(process, ask, told, log, name)
        finally:
            _end(process, ask)


def _end(process: subprocess.Popen[str], asking: IO[str]) -> None:
    """Let a process that waits see that nobody asks any more, and kill one that computes on."""
    with suppress(BrokenPipeError):
        asking.close()
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
