"""The loopback service under mutated requests of the genuine client."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import requests

from papershell.orchestration import loopback
from tests.hostile.conftest import numbers
from tests.hostile.mutation import Recorded, damaged, record_scenario, send
from tests.orchestration.conftest import served

SENDERS = 4
BATCH = 500


def hammer(root: Path, seeds: Sequence[Recorded], tries: range) -> tuple[Counter, list[bytes]]:
    """Send damaged requests; return how often each status came, and those that it did not survive."""
    port = int(loopback.find(root).url.rpartition(":")[2])

    def one(number: int) -> tuple[int | None, bytes]:
        rng = random.Random(number)
        request = damaged(rng.choice(seeds), rng)
        return send(port, request), request

    statuses: Counter = Counter()
    fatal: list[bytes] = []
    with ThreadPoolExecutor(SENDERS) as pool:
        for status, request in pool.map(one, tries, chunksize=BATCH):
            statuses[status] += 1
            # Half a head deserves no answer; 505 is an unknown version of HTTP.
            if (status is None and b"\r\n\r\n" in request) or ((status or 0) >= 500 and status != 505):
                fatal.append(request)
    return statuses, fatal


def check_service(root: Path, pid: int) -> None:
    """The same process still answers, and no unfinished file is left."""
    address = loopback.find(root)
    assert address is not None and address.pid == pid
    headers = {"Authorization": f"Bearer {address.token}"}
    assert requests.get(f"{address.url}/loopback/health", headers=headers).status_code == 200
    assert list(root.rglob(".part-*")) == []


def test_a_few_mutated_requests(tmp_path, home):
    """The same as below, for `make test`: always the same requests."""
    with served(tmp_path / "w", "--slots", "1") as root:
        pid = loopback.find(root).pid
        statuses, fatal = hammer(root, record_scenario(root, tmp_path), range(300))
        assert fatal == [] and statuses[200] > 0 and statuses[400] > 0
        check_service(root, pid)


@pytest.mark.hostile
@pytest.mark.timeout(0)
def test_mutated_requests(tmp_path, home, figure):
    tries = numbers("REQUESTS")
    with served(tmp_path / "w", "--slots", "1") as root:
        seeds = record_scenario(root, tmp_path)
        service = psutil.Process(loopback.find(root).pid)
        hammer(root, seeds, tries[:1000])
        before = service.memory_info().rss
        statuses, fatal = hammer(root, seeds, tries)
        grown = (service.memory_info().rss - before) / 2**20
        answers = ", ".join(f"{n} x {status}" for status, n in sorted(statuses.items(), key=str))
        figure(
            "mutated requests",
            f"{len(tries)} from {len(seeds)} kinds",
            f"{answers}; service grew by {grown:.0f} MiB",
        )
        assert fatal == [], fatal[:5]
        check_service(root, service.pid)
