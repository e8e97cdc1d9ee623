"""What blocks of two commits' times lead to: planted slowdowns are found, noise is not, and too much noise is said."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from scipy.stats import binom

from papershell.benchmarks import decide
from papershell.benchmarks.decide import LOOKS, Block, Reading, read, settled, verdict_of

LEAST = 0.03
PROCESS = 0.008  # standard deviation by which processes of the same code differ, as measured on a decoder
QUIET, BUSY = 0.01, 0.6  # of a time within a process


def blocks_of(rng: np.random.Generator, slower: float, within: float) -> Iterator[Block]:
    """Yield blocks of three fresh processes, the new one slower by a share; spikes are as on a shared machine."""
    process = rng.normal(0, PROCESS, 3)
    process[1] += math.log1p(slower)
    while True:
        spikes = rng.random(3) < 0.03
        shared = rng.normal(0, 0.3)  # the machine's speed in this block, which cancels
        old, new, control = process + rng.normal(0, within, 3) + 0.5 * spikes + shared
        yield old, new, control


def one_set(rng: np.random.Generator, slower: float, within: float, before: list[Reading]) -> Reading:
    """Return the reading of a set of processes, looked at as often as the comparison looks."""
    source, blocks, reading = blocks_of(rng, slower, within), list[Block](), decide.UNREAD
    for look in LOOKS:
        blocks += [next(source) for _ in range(look - len(blocks))]
        reading = read(blocks, LEAST, before)
        if reading.state != "undecided":
            break
    return reading


def verdict(rng: np.random.Generator, slower: float, within: float) -> Reading:
    """Return the verdict of as many sets as it needs."""
    readings: list[Reading] = []
    while not settled(readings):
        readings.append(one_set(rng, slower, within, readings))
    return verdict_of(readings)


def share(state: str, slower: float, within: float, trials: int = 120) -> float:
    """Return how often the verdict is ``state``."""
    rng = np.random.default_rng(round(1000 * slower))
    return sum(verdict(rng, slower, within).state == state for _ in range(trials)) / trials


@pytest.mark.parametrize(("slower", "least"), [(0.03, 0.5), (0.05, 0.9), (0.10, 1.0)])
def test_slowdowns_are_found_as_often_as_asked(slower: float, least: float) -> None:
    assert share("slower", slower, QUIET) >= least


@pytest.mark.parametrize("within", [0.002, QUIET, 0.05, BUSY])
def test_false_alarms_are_rarer_than_one_in_forty(within: float) -> None:
    assert share("slower", 0.0, within) < 1 / 40


def test_a_quiet_machine_passes_what_did_not_change() -> None:
    assert share("same", 0.0, QUIET) > 0.9


@pytest.mark.parametrize("slower", [0.05, 0.10])
def test_a_busy_machine_passes_no_slowdown_in_silence(slower: float) -> None:
    assert share("same", slower, BUSY) == 0


def test_too_much_noise_is_undecided_and_says_how_much() -> None:
    found = verdict(np.random.default_rng(0), 0.0, BUSY)
    assert found.state == "undecided" and found.is_coarse and found.resolution > LEAST


def test_what_got_faster_is_said() -> None:
    found = verdict(np.random.default_rng(0), -0.2, QUIET)
    assert found.state == "faster" and found.change == pytest.approx(-0.2, abs=0.02)


def constant(slower: float, control: float = 0.0, count: int = LOOKS[0]) -> list[Block]:
    """Return blocks without noise."""
    return [(0.0, math.log1p(slower) + math.log1p(control) / 2, math.log1p(control))] * count


@pytest.mark.parametrize(
    ("slower", "control", "state", "sees"),
    [
        (0.0, 0.0, "same", 0.00990),  # a third of the logarithm of 1.03
        (0.05, 0.0, "slower", 0.00990),
        (0.05, 0.04, "slower", 0.04),  # the floor is as far as the control
        (0.05, -0.06, "undecided", 1 / 0.94 - 1),
        (0.0, 0.04, "undecided", 0.04),
    ],
)
def test_the_control_says_what_can_be_seen(slower: float, control: float, state: str, sees: float) -> None:
    found = read(constant(slower, control), LEAST)
    assert (found.state, found.blocks) == (state, LOOKS[0])
    assert found.change == pytest.approx(slower) and found.resolution == pytest.approx(sees, abs=1e-5)


def test_the_controls_of_earlier_processes_count_too() -> None:
    before = [read(constant(0.0, -0.06), LEAST), read(constant(0.0, 0.01), LEAST)]
    assert read(constant(0.05), LEAST).state == "slower"
    found = read(constant(0.05), LEAST, before)
    assert found.state == "undecided" and found.resolution == pytest.approx(1 / 0.94 - 1)


def test_the_interval_widens_what_can_be_seen() -> None:
    blocks = [(0.0, 0.01 * (index % 2), 0.0) for index in range(LOOKS[0])]
    found = read(blocks, LEAST)
    assert (found.low, found.high) == pytest.approx((0.0, math.expm1(0.01)))
    assert found.resolution == pytest.approx(math.expm1(math.log1p(LEAST) / 3 + 0.005))


@pytest.mark.parametrize("count", LOOKS)
def test_all_looks_together_err_as_seldom_as_one(count: int) -> None:
    """By the binomial distribution: the median of `count` blocks lies beyond an end with at most this probability."""
    _, low, high = decide.interval(range(count))
    assert low + high == count - 1
    assert 2 * binom.cdf(low, count, 0.5) <= decide.ALPHA / len(LOOKS)
    assert low == 0 or 2 * binom.cdf(low + 1, count, 0.5) > decide.ALPHA / len(LOOKS)


def made(*states: str) -> list[Reading]:
    """Return readings of sets, by their states."""
    return [Reading(state, 0.05, 0.04, 0.06, 0.02, LOOKS[0]) for state in states]


@pytest.mark.parametrize(
    ("states", "verdict", "done"),
    [
        (["same"], "same", True),
        (["slower"], "undecided", False),
        (["undecided"], "undecided", False),
        (["slower", "slower"], "slower", True),
        (["slower", "same"], "undecided", False),
        (["undecided", "faster"], "faster", True),
        (["slower", "same", "slower"], "slower", True),
        (["slower", "same", "same"], "same", True),
        (["slower", "undecided", "undecided"], "undecided", True),
    ],
)
def test_fresh_processes_vote(states: list[str], verdict: str, done: bool) -> None:
    assert (verdict_of(made(*states)).state, settled(made(*states))) == (verdict, done)
