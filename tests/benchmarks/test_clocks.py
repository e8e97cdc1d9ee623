"""Clocks: the host's against a call of known length, CUDA's events in the only order that times a device."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from papershell.benchmarks.clocks import COLD_CALLS, L2_FLUSH_BYTES, CudaClock, HostClock
from papershell.kernels import backends


def test_the_host_clock_returns_seconds_of_one_call() -> None:
    calls: list[int] = []
    found = HostClock().seconds(lambda: calls.append(time.sleep(2e-3) or 1), 5)
    assert len(calls) == 5 and 2e-3 <= found < 1  # a sleep is never shorter
    assert HostClock().details(lambda: None, 1) == {}


class FakeStream:
    """A device that works when it is waited for: what was launched takes a millisecond each.

    It refuses what gives wrong times on a real one: an event recorded twice, or read before the device came by.
    """

    def __init__(self) -> None:
        self.queue: list[Any] = []
        self.now_ms = 0.0
        self.log: list[str] = []

    def launch(self, name: str = "call") -> None:
        self.queue.append(None)
        self.log.append(name)

    def synchronize(self, event: Any) -> None:
        assert event in self.queue, "waits for an event that was never recorded"
        while event.at_ms is None:
            done = self.queue.pop(0)
            self.now_ms += done is None
            if done is not None:
                done.at_ms = self.now_ms
        self.log.append("synchronize")

    def event(self, **options: Any) -> Any:
        stream = self

        class Event:
            at_ms: float | None = None
            recorded = False

            def record(self) -> None:
                assert not self.recorded
                self.recorded = True
                stream.queue.append(self)
                stream.log.append("record")

            def synchronize(self) -> None:
                stream.synchronize(self)

            def elapsed_time(self, stop: Any) -> float:
                assert self.at_ms is not None and stop.at_ms is not None, "read before the device came by"
                stream.log.append("elapsed")
                return stop.at_ms - self.at_ms

        return Event()


def cupy(stream: FakeStream) -> tuple[str, Any]:
    """What of CuPy the clock calls."""

    def empty(size: int, dtype: str) -> Any:
        assert (size, dtype) == (L2_FLUSH_BYTES, "uint8")
        return SimpleNamespace(fill=lambda value: stream.launch("flush"))

    elapsed = lambda start, stop: start.elapsed_time(stop)  # noqa: E731
    return "cupy", SimpleNamespace(
        empty=empty, cuda=SimpleNamespace(Event=stream.event, get_elapsed_time=elapsed)
    )


def torch(stream: FakeStream) -> tuple[str, Any]:
    """What of PyTorch the clock calls."""

    def event(*, enable_timing: bool) -> Any:
        assert enable_timing, "an event without timing has no time"
        return stream.event()

    def empty(size: int, *, dtype: str, device: str) -> Any:
        assert (size, dtype, device) == (L2_FLUSH_BYTES, "uint8", "cuda")
        return SimpleNamespace(fill_=lambda value: stream.launch("flush"))

    return "torch", SimpleNamespace(empty=empty, uint8="uint8", cuda=SimpleNamespace(Event=event))


@pytest.fixture(params=[cupy, torch], ids=["cupy", "torch"])
def stream(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FakeStream:
    """A device that one library sees."""
    stream = FakeStream()
    name, module = request.param(stream)
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(backends, "is_available", lambda asked: asked == name)
    return stream


def test_events_enclose_all_calls_and_are_read_after_the_wait(stream: FakeStream) -> None:
    clock = CudaClock()
    assert clock.seconds(stream.launch, 4) == pytest.approx(1e-3)
    assert stream.log == ["record", *["call"] * 4, "record", "synchronize", "elapsed"]


def test_cold_calls_follow_a_flush_that_is_not_timed(stream: FakeStream) -> None:
    clock = CudaClock()
    found = clock.details(stream.launch, 3)
    assert found["cold_s"] == pytest.approx(1e-3) and found["host_s"] > 0
    single = ["flush", "record", "call", "record", "synchronize", "elapsed"]
    assert stream.log[-len(single) * COLD_CALLS :] == single * COLD_CALLS


@pytest.mark.gpu
def test_device_times_do_not_return_before_the_work_is_done(cuda: None) -> None:
    import cupy as cp

    X = cp.ones((4096, 4096), "float32")
    X @ X
    clock = CudaClock()
    one, four = (clock.seconds(lambda: [X @ X for _ in range(count)], 5) for count in (1, 4))  # noqa: B023
    details = clock.details(lambda: X @ X, 5)
    assert 2 < four / one < 8 and details["host_s"] < one < 10 * details["cold_s"]
