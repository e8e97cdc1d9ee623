"""Run a command; when it ends, or this program's standard input closes, end all that the command began.

``python supervisor.py COMMAND...``: a program of its own, one for each node of a run. On Linux it is
the subreaper of its descendants (``prctl(2)``, PR_SET_CHILD_SUBREAPER): a process that leaves its
session, cleans its environment and loses its parent becomes a child of this program, so none escapes.
The service holds the other end of standard input: the run ends with the service, however that ends.
On other systems a process that has lost its parent is not found.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import signal
import subprocess
import sys
import time

GRACE_S = 3.0
_SET_DEATH_SIGNAL, _SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else lambda *_: None


def main(command: list[str]) -> int:
    """Run ``command`` to its end; return its exit code, negative for a signal."""
    _prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # The command leads a session: a signal to its own group does not meet this program.
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, start_new_session=True,
            preexec_fn=lambda: _prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0),
        )  # fmt: skip
    except OSError as error:
        print(f"the run cannot start: {error}", file=sys.stderr)
        return 127
    try:
        return _wait_for(child)
    except KeyboardInterrupt:
        return -signal.SIGTERM
    finally:
        _end_all()


def _wait_for(child: subprocess.Popen[bytes]) -> int:
    """Return the exit code of ``child``, or SIGTERM's if standard input closes first."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while (code := _reap().get(child.pid)) is None:
        if 0 in select.select([0, woken], [], [])[0]:
            return -signal.SIGTERM
        os.read(woken, 4096)
    return code


def _reap() -> dict[int, int]:
    """Return the exit codes of the children that have ended, by process id."""
    ended = {}
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended[found[0]] = os.waitstatus_to_exitcode(found[1])
    return ended


def _end_all() -> None:
    """End every descendant: asked first, killed after a grace; orphans become children and are met again."""
    deadline, asked = time.monotonic() + GRACE_S, set()
    while _has_children():
        import psutil  # few runs leave processes behind and need it

        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if time.monotonic() > deadline:
                    process.kill()
                elif process not in asked:
                    process.terminate()
                    asked.add(process)
        time.sleep(0.02)


def _has_children() -> bool:
    _reap()
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _exit_like(code: int) -> None:
    """End this program as its command ended."""
    if code >= 0:
        sys.exit(code)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the dump would be of this program
    if -code not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)


if __name__ == "__main__":
    _exit_like(main(sys.argv[1:]))
