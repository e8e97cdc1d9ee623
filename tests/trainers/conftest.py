"""Fixtures of the trainers' tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def serve_folder() -> Iterator[Callable[[Path], str]]:
    """A function that serves a folder over HTTP on 127.0.0.1 and returns its address."""
    servers = []

    def serve(folder: Path) -> str:
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))))
        Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def cifar10_folder(tmp_path: Path) -> Path:
    """A small data set in CIFAR-10's binary layout, easy to learn: 200 images to train, 40 to test."""
    rng = np.random.default_rng(11)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    patterns = rng.integers(40, 216, (10, 3072))
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        labels = np.arange(40) % 10
        pixels = np.clip(patterns[labels] + rng.normal(0, 20, (40, 3072)), 0, 255).astype(np.uint8)
        (folder / name).write_bytes(np.column_stack([labels.astype(np.uint8), pixels]).tobytes())
    return folder
