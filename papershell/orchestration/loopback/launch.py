"""Starting, finding and stopping the service of a folder."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from papershell.kernels.files import write_json
from papershell.orchestration.errors import OrchestrationError
from papershell.orchestration.loopback.names import SERVICE_FILE

if TYPE_CHECKING:
    from azureml.core import Workspace

    from papershell.orchestration.loopback.server import Server
    from papershell.orchestration.loopback.service import Options
    from papershell.orchestration.loopback.state import Identity

IDENTITY_FILE = "identity.json"
_PING_TIMEOUT_S = 5.0
_IDLE_POLL_S = 1.0


@dataclass(frozen=True)
class Address:
    """The address of a folder's service, and the token that opens it."""

    url: str
    token: str
    pid: int


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def _identity(root: Path) -> Identity:
    """Return the identity of the workspace of ``root``, made on first use."""
    from papershell.orchestration.loopback.state import Identity

    path = root / IDENTITY_FILE
    if not path.exists():
        write_json(
            path, {"workspace_id": str(uuid.uuid4()), "key": secrets.token_hex(32), "port": 0}, private=True
        )
    document = _read_json(path)
    if document is None or set(document) != {"workspace_id", "key", "port"}:
        raise OrchestrationError(f"{path} is damaged; delete the folder {root} to begin a new workspace")
    return Identity(**document)


def port_is_free(port: int) -> bool:
    """Return whether a server may listen on this TCP port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _own_folder(folder: Path | str) -> Path:
    """Return the folder of a workspace, made or tightened so that only its owner opens it.

    Raises
    ------
    OrchestrationError
        It belongs to another user, or others may open it and it holds something else than a workspace.
    """
    root = Path(folder).resolve()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = root.stat()
    if status.st_uid != os.geteuid():
        raise OrchestrationError(f"the folder {root} belongs to another user; choose a folder of your own")
    if status.st_mode & 0o077:
        if any(root.iterdir()) and not (root / IDENTITY_FILE).exists():
            raise OrchestrationError(
                f"other users may open {root}, which holds other files: choose an empty folder, or chmod 700 {root}"
            )
        root.chmod(0o700)
    return root


@contextmanager
def _sole_server(root: Path) -> Iterator[None]:
    """Hold the folder's lock (one service per folder), and let new files be readable by their owner only."""
    before = os.umask(0o077)
    try:
        with (root / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise OrchestrationError(f"the folder {root} is served by another process already") from error
            yield
    finally:
        os.umask(before)


@contextmanager
def _users(root: Path) -> Iterator[int]:
    """Open the lock that each user of a service holds, shared, for as long as it needs the service."""
    users = os.open(root / "users", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        yield users
    finally:
        os.close(users)


def _is_unused(users: int) -> bool:
    """Take the lock of the users if no other process holds it; return whether it is taken."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def in_use(folder: Path | str) -> Iterator[Address]:
    """Serve ``folder`` while the block runs; yield the address.

    A service that runs already goes on afterwards. One that is started here ends with the block, or, if runs
    are under way or another process uses it too, a second after them.

    Raises
    ------
    OrchestrationError
        As of `start`.
    """
    root = _own_folder(folder)
    with _users(root) as users:
        fcntl.flock(users, fcntl.LOCK_SH)  # waits for a service that is ending
        is_new = find(root) is None
        try:
            yield start(root, arguments=("--idle-seconds", "1"))
        finally:
            # The lock is kept until the service is gone: who comes now starts another.
            if is_new and active_runs(root) == 0 and _is_unused(users):
                stop(root)


def active_runs(root: Path | str) -> int:
    """Return how many runs of a folder are queued or under way."""
    address = find(root)
    return int(_ask(address, "GET", "health", _PING_TIMEOUT_S)["active_runs"]) if address else 0


def serve(
    root: Path | str, *, port: int = 0, options: Options | None = None, idle_s: float = float("inf")
) -> None:
    """Serve the workspace of ``root`` on 127.0.0.1 until a signal, or ``idle_s`` seconds without use.

    Writes ``root/config.json`` (for ``Workspace.from_config``) and ``root/service.json``
    (address, token, process id); the folder and all files in it are their owner's only.

    Parameters
    ----------
    port : TCP port; 0 takes a free one.
    options : see `papershell.orchestration.loopback.service.Options`.

    Raises
    ------
    OrchestrationError
        The folder is served already, the port is taken, or other users may open the folder and it
        holds something else than a workspace.
    """
    root = _own_folder(root)
    with _users(root) as users, _sole_server(root):
        server = _server(root, port, options)
        service = server.service
        try:
            address = Address(service.state.url, service.state.tokens.mint("owner"), os.getpid())
            write_json(root / SERVICE_FILE, asdict(address), private=True)
            _serve_until_told(server, idle_s, users)
        finally:
            service.close()
            (root / SERVICE_FILE).unlink(missing_ok=True)


def _server(root: Path, port: int, options: Options | None) -> Server:
    """Return the server of a folder, on its port; runs that a killed service left open are closed."""
    from papershell.orchestration.loopback.names import RESOURCE_GROUP, SUBSCRIPTION, WORKSPACE
    from papershell.orchestration.loopback.server import Server
    from papershell.orchestration.loopback.service import Options, Service
    from papershell.orchestration.loopback.tls import server_context

    identity = _identity(root)
    # The port of last time, if it is free: an open client finds the service again.
    port = port or (identity.port if port_is_free(identity.port) else 0)
    if port and not port_is_free(port):
        raise OrchestrationError(f"port {port} of 127.0.0.1 is taken; choose another")
    service = Service(root, identity, options or Options())
    server = Server(service, server_context(root / "tls"), port)
    write_json(root / IDENTITY_FILE, asdict(replace(identity, port=server.server_port)), private=True)
    service.runner.recover()
    names = {"subscription_id": SUBSCRIPTION, "resource_group": RESOURCE_GROUP, "workspace_name": WORKSPACE}
    write_json(root / "config.json", names, private=True)
    return server


def _serve_until_told(server: Server, idle_s: float, users: int) -> None:
    told = threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: told.set())
    thread = threading.Thread(target=server.serve_forever, args=(_PING_TIMEOUT_S / 50,), daemon=True)
    thread.start()
    service = server.service
    while not told.wait(_IDLE_POLL_S):
        is_idle = not service.runner.active() and time.monotonic() - service.last_request > idle_s
        if is_idle and _is_unused(users):  # from here on who comes waits until this service is gone
            break
    server.shutdown()
    server.server_close()


def find(root: Path | str) -> Address | None:
    """Return the address of the service of ``root`` if one answers there."""
    root = Path(root).resolve()
    document = _read_json(root / SERVICE_FILE)
    if document is None or set(document) != {"url", "token", "pid"}:
        return None
    address = Address(**document)
    try:
        health = _ask(address, "GET", "health", _PING_TIMEOUT_S)
    except (OSError, ValueError):
        return None
    return address if health.get("pid") == address.pid else None


def _ask(address: Address, method: str, path: str, timeout_s: float | None = None) -> dict[str, Any]:
    """Ask the service itself, not an Azure service that it stands for."""
    request = urllib.request.Request(
        f"{address.url}/loopback/{path}", method=method, headers={"Authorization": f"Bearer {address.token}"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=timeout_s) as response:
        return dict(json.load(response))


def clean(root: Path | str) -> int:
    """Remove the working folders of the ended runs of a workspace; return the bytes freed.

    Records, logs, outputs, models and snapshots stay. A service that is started for it ends soon.
    """
    address = start(root, arguments=("--idle-seconds", "10"))
    return int(_ask(address, "POST", "clean")["bytes"])


def page_link(root: Path | str, run_id: str | None = None) -> str:
    """Return an address that opens the workspace's page, or that of a run, in one browser, once.

    The service is started in the background unless one answers.
    """
    url = str(_ask(start(root), "POST", "link")["url"])
    return f"{url}&to=/runs/{quote(run_id, safe='')}" if run_id else url


def start(root: Path | str, *, arguments: tuple[str, ...] = (), timeout_s: float = 60.0) -> Address:
    """Return the address of the service of ``root``, started in the background unless one answers.

    Parameters
    ----------
    arguments : flags of ``python -m papershell.orchestration.loopback`` for a service that is started now.
    timeout_s : until it must answer; then it is ended.

    Raises
    ------
    OrchestrationError
        The service does not answer in time. Or it ends: the message quotes its log. Or the folder is refused, as by
        `serve`.
    """
    root = _own_folder(root)
    if address := find(root):
        return address
    log = root / "service.log"
    log.touch(mode=0o600)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "papershell.orchestration.loopback", str(root), *arguments],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if address := find(root):
            return address
        # Another process may have won the folder in the meantime: then its service answers soon.
        if process.poll() is not None and "served by another" not in log.read_text(errors="replace"):
            break
        time.sleep(0.05)
    if process.poll() is None:
        process.kill()  # or it would answer when no caller expects it any more
        process.wait()
        raise OrchestrationError(
            f"the loopback service of {root} did not answer within {timeout_s:g} seconds and was ended; "
            f"the machine may be busy: try again"
        )
    raise OrchestrationError(
        f"the loopback service of {root} did not start: {log.read_text(errors='replace')[-2000:]}"
    )


def stop(root: Path | str, *, timeout_s: float = 20.0) -> None:
    """End the service of ``root`` and its runs, if one answers."""
    root = Path(root).resolve()
    address = find(root)
    if address is None:
        return
    deadline = time.monotonic() + timeout_s
    with suppress(ProcessLookupError):
        os.kill(address.pid, signal.SIGTERM)
    while (root / SERVICE_FILE).exists() and time.monotonic() < deadline:
        time.sleep(0.02)


def connect(root: Path | str) -> Workspace:
    """Return a genuine ``azureml.core.Workspace`` on the service of ``root``.

    Raises
    ------
    OrchestrationError
        No service answers there.
    """
    from papershell.orchestration.loopback.client import open_workspace

    root = Path(root).resolve()
    address = find(root)
    if address is None:
        raise OrchestrationError(
            f"no loopback service answers for {root}; start it: papershell workspace serve --root {root}"
        )
    return open_workspace(address.url, address.token, root)
