"""Downloads against a real server that serves well, breaks, lies, or is not there."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from papershell.trainers.download import SCRATCH, DownloadError, fetch_file

BODY = np.random.default_rng(0).bytes(300_000)
DIGEST = hashlib.sha256(BODY).hexdigest()
NAME = "train-images-idx3-ubyte.gz"


class _Handler(BaseHTTPRequestHandler):
    """The first folder of the address says how this mirror behaves."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        behaviour = self.path.split("/")[1]
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        self.server.requests.append((behaviour, start))
        getattr(self, f"serve_{behaviour}")(start)

    def send(self, status: int, body: bytes, claimed_bytes: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(claimed_bytes or len(body)))
        self.end_headers()
        self.wfile.write(body)

    def serve_good(self, start: int) -> None:
        if start >= len(BODY):
            self.send(416, b"")
        else:
            self.send(206 if start else 200, BODY[start:])

    def serve_plain(self, start: int) -> None:
        self.send(200, BODY)  # knows nothing of ranges

    def serve_dying(self, start: int) -> None:
        piece = BODY[start : start + 100_000]
        self.send(206 if start else 200, piece, claimed_bytes=len(BODY) - start)
        self.close_connection = True

    def serve_dead(self, start: int) -> None:
        self.send(200, BODY[:100_000], claimed_bytes=len(BODY))
        self.close_connection = True

    def serve_lying(self, start: int) -> None:
        self.send(206 if start else 200, bytes(len(BODY) - start))

    def serve_poison(self, start: int) -> None:
        self.send(200, bytes(1000), claimed_bytes=len(BODY))
        self.close_connection = True

    def serve_html(self, start: int) -> None:
        self.send(200, b"<html>Please sign in</html>")

    def serve_slow(self, start: int) -> None:
        body = BODY[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(ConnectionError):  # the client was killed
            for first in range(0, len(body), 3000):
                self.wfile.write(body[first : first + 3000])
                time.sleep(0.003)

    def serve_missing(self, start: int) -> None:
        self.send(404, b"not here")

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)  # pooch rests a second before it retries
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as running:
        running.requests = []
        Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


def fetch(server: ThreadingHTTPServer, folder: Path, *behaviours: str) -> Path:
    mirrors = [f"http://127.0.0.1:{server.server_port}/{behaviour}/" for behaviour in behaviours]
    return fetch_file(NAME, DIGEST, folder, mirrors)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize("mirror", ["good", "plain"])
def test_a_good_mirror_delivers_the_file_and_nothing_else(server, tmp_path, mirror):
    assert fetch(server, tmp_path / "new" / "folder", mirror).read_bytes() == BODY
    assert names(tmp_path / "new" / "folder") == [NAME]


def test_a_file_that_is_there_is_not_fetched_again(server, tmp_path):
    fetch(server, tmp_path, "good")
    fetch(server, tmp_path, "good")
    assert server.requests == [("good", 0)]


def test_a_file_with_another_digest_is_replaced(server, tmp_path):
    (tmp_path / NAME).write_bytes(b"old")
    assert fetch(server, tmp_path, "good").read_bytes() == BODY


@pytest.mark.parametrize("bad", ["lying", "html", "missing", "dead"])
def test_a_bad_mirror_gives_way_to_the_next(server, tmp_path, bad):
    assert fetch(server, tmp_path, bad, "good").read_bytes() == BODY
    assert names(tmp_path) == [NAME]


def test_a_mirror_that_refuses_the_connection_gives_way_to_the_next(server, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    alive = f"http://127.0.0.1:{server.server_port}/good/"
    assert fetch_file(NAME, DIGEST, tmp_path, [dead, alive]).read_bytes() == BODY


def test_a_broken_download_continues_where_it_stopped_even_elsewhere(server, tmp_path):
    assert fetch(server, tmp_path, "dying", "good").read_bytes() == BODY
    mirrors, starts = zip(*server.requests, strict=True)
    assert mirrors == ("dying", "dying", "good")
    assert starts[0] == 0 < starts[1] < starts[2]
    assert names(tmp_path) == [NAME]


def test_a_later_call_continues_what_an_earlier_one_left(server, tmp_path):
    with pytest.raises(DownloadError):
        fetch(server, tmp_path, "dying")
    assert names(tmp_path) == [f"{NAME}.part"]
    left_bytes = (tmp_path / f"{NAME}.part").stat().st_size
    assert fetch(server, tmp_path, "good").read_bytes() == BODY
    assert server.requests[-1] == ("good", left_bytes) and left_bytes > 100_000


def test_bytes_from_a_mirror_that_sent_something_else_are_not_built_upon(server, tmp_path):
    assert fetch(server, tmp_path, "poison", "good").read_bytes() == BODY
    assert server.requests[-1] == ("good", 0)


def test_a_part_that_is_already_whole_is_fetched_afresh(server, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(BODY)
    assert fetch(server, tmp_path, "good").read_bytes() == BODY


def test_when_every_mirror_fails_one_sentence_lists_what_was_tried(server, tmp_path):
    with pytest.raises(DownloadError) as failure:
        fetch(server, tmp_path, "missing", "html", "dead")
    message = str(failure.value)
    assert "\n" not in message
    reasons = {"missing": "HTTP 404", "html": "not the expected file", "dead": "the connection broke"}
    for behaviour, reason in reasons.items():
        assert f"/{behaviour}/{NAME} ({reason}" in message
    assert NAME not in names(tmp_path)


def test_no_file_appears_where_every_mirror_lies(server, tmp_path):
    with pytest.raises(DownloadError):
        fetch(server, tmp_path, "lying", "html")
    assert names(tmp_path) == []


FETCH = """
import sys
from pathlib import Path
from papershell.trainers.download import SCRATCH, DownloadError, fetch_file
print("ready", flush=True)
{before}
try:
    fetch_file({name!r}, {digest!r}, Path(sys.argv[1]), [sys.argv[2]])
except DownloadError as error:
    sys.exit(str(error))
"""


def a_fetch(server: ThreadingHTTPServer, folder: Path, behaviour: str, before: str = "") -> subprocess.Popen:
    script = FETCH.format(before=before, name=NAME, digest=DIGEST)
    address = f"http://127.0.0.1:{server.server_port}/{behaviour}/"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", script, str(folder), address], env=environment, **pipes)


def test_a_fetch_killed_at_any_moment_leaves_a_whole_file_or_none(server, tmp_path):
    rng = np.random.default_rng(int.from_bytes(os.urandom(4), "little"))
    for delay_s in rng.uniform(0, 0.6, 5):
        with a_fetch(server, tmp_path, "slow") as victim:
            victim.stdout.readline()
            time.sleep(delay_s)
            os.kill(victim.pid, signal.SIGKILL)
        if (tmp_path / NAME).exists():
            assert (tmp_path / NAME).read_bytes() == BODY
            (tmp_path / NAME).unlink()
    assert fetch(server, tmp_path, "good").read_bytes() == BODY
    assert names(tmp_path) == [NAME]


def test_a_whole_file_is_not_fetched_but_the_leftovers_of_a_kill_go(server, tmp_path):
    fetch(server, tmp_path, "good")
    (tmp_path / f"{SCRATCH}dead").mkdir()
    (tmp_path / f"{SCRATCH}dead" / NAME).write_bytes(b"half")
    (tmp_path / f"{NAME}.part").write_bytes(b"half")
    fetch(server, tmp_path, "good")
    assert names(tmp_path) == [NAME] and len(server.requests) == 1


def test_two_fetches_at_once_download_once(server, tmp_path):
    with a_fetch(server, tmp_path, "slow") as one, a_fetch(server, tmp_path, "slow") as other:
        assert [process.communicate()[1] for process in (one, other)] == ["", ""]
    assert (tmp_path / NAME).read_bytes() == BODY and names(tmp_path) == [NAME]
    assert len(server.requests) == 1


def test_a_full_disk_is_one_sentence_and_the_next_fetch_goes_on(server, tmp_path):
    limit = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    )
    with a_fetch(server, tmp_path, "good", before=limit) as full:
        message = full.communicate()[1]
    assert full.returncode == 1 and message.count("\n") == 1
    assert f"cannot be written into {tmp_path}" in message and "goes on from where it stopped" in message
    assert fetch(server, tmp_path, "good").read_bytes() == BODY
    assert server.requests[-1] == ("good", 100_000) and names(tmp_path) == [NAME]


@contextmanager
def without_privileges() -> Iterator[None]:
    """Root may write everywhere; let this process be nobody for a while."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("missing", [False, True])
def test_a_folder_that_may_not_be_written_is_one_sentence(server, tmp_path, missing):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    with (
        without_privileges(),
        pytest.raises(DownloadError, match=r"cannot be written into .*Permission denied"),
    ):
        fetch(server, folder / "below" if missing else folder, "good")
    assert server.requests == [] and names(folder) == []


def test_a_name_that_is_too_long_is_one_sentence(server, tmp_path):
    with pytest.raises(DownloadError, match="File name too long"):
        fetch(server, tmp_path / ("n" * 300), "good")
    assert server.requests == [] and names(tmp_path) == []


def test_a_failed_fetch_leaves_no_folder_behind(server, tmp_path):
    with pytest.raises(DownloadError):
        fetch(server, tmp_path / "new", "missing")
    assert names(tmp_path) == []
