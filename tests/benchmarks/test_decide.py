"""What sets of processes of two commits lead to: slowdowns are found, noise is not, and too much noise is said."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t

from papershell.benchmarks import decide
from papershell.benchmarks.decide import LOOKS, Reading, Times, is_settled, read, times_of

LEAST = 0.03
PROCESS = 0.008  # standard deviation by which processes of the same code differ, as measured on a decoder
QUIET, BUSY = 0.01, 0.6  # of a turn within a process


def one_set(rng: np.random.Generator, slower: float, within: float, outliers: float) -> Times:
    """Return a set of fresh processes, the new one slower by a share; turns have spikes as on a shared machine."""
    process = rng.normal(0, PROCESS, 3) + 0.1 * (rng.random(3) < outliers)
    process[1] += math.log1p(slower)
    turns = process + np.abs(rng.normal(0, within, (16, 3))) + 0.5 * (rng.random((16, 3)) < 0.1)
    return times_of(*np.exp(turns.T))


def verdict(rng: np.random.Generator, slower: float, within: float, outliers: float = 0.0) -> Reading:
    """Return the reading of as many sets as it needs."""
    sets: list[Times] = []
    while not is_settled(sets, LEAST):
        sets.append(one_set(rng, slower, within, outliers))
    return read(sets, LEAST)


def share(state: str, slower: float, within: float, outliers: float = 0.0, trials: int = 200) -> float:
    """Return how often the verdict is ``state``."""
    rng = np.random.default_rng(round(1000 * slower))
    return sum(verdict(rng, slower, within, outliers).state == state for _ in range(trials)) / trials


@pytest.mark.parametrize("outliers", [0.0, 0.05])
@pytest.mark.parametrize(("slower", "least"), [(0.03, 0.5), (0.05, 0.9), (0.10, 1.0)])
def test_slowdowns_are_found_as_often_as_asked(slower: float, least: float, outliers: float) -> None:
    assert share("slower", slower, QUIET, outliers) >= least


@pytest.mark.parametrize("outliers", [0.0, 0.05])
@pytest.mark.parametrize("within", [0.002, QUIET, 0.05, BUSY])
def test_false_alarms_are_rarer_than_one_in_forty(within: float, outliers: float) -> None:
    assert share("slower", 0.0, within, outliers) < 1 / 40


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


@pytest.mark.parametrize(
    ("slower", "state"),
    [(0.0, "same"), (0.05, "slower"), (-0.05, "faster"), (0.02, "slower"), (0.009, "same")],
)
def test_without_noise_the_floor_is_a_third_of_the_slowdown_to_find(slower: float, state: str) -> None:
    found = read([Times(0.0, math.log1p(slower), 0.0)] * LOOKS[0], LEAST)
    assert (found.state, found.sets) == (state, LOOKS[0])
    assert found.change == pytest.approx(slower)
    assert found.resolution == pytest.approx(math.expm1(math.log1p(LEAST) / 3))


@pytest.mark.parametrize("control", [0.2, -0.2])
def test_controls_that_differ_widen_what_can_be_seen(control: float) -> None:
    found = read([Times(0.0, math.log1p(0.05) + control / 2, control)] * LOOKS[0], LEAST)
    assert found.change == pytest.approx(0.05)
    assert found.state == "undecided" and found.is_coarse


def test_a_close_case_is_undecided_though_the_machine_is_quiet() -> None:
    found = read([Times(0.0, 0.02 + 0.025 * sign, 0.0) for sign in (1, -1) * (LOOKS[-1] // 2)], LEAST)
    assert found.state == "undecided" and not found.is_coarse
    assert found.low < LEAST / 3 and found.high > LEAST


@pytest.mark.parametrize("k", LOOKS)
def test_the_interval_is_that_of_the_linear_model(k: int) -> None:
    """By least squares: a set has a level, a new process the change; the residuals have 2k - 1 degrees of freedom."""
    rng = np.random.default_rng(k)
    seconds = rng.normal(0, 0.01, (k, 3))  # old, new, control
    levels = np.repeat(np.eye(k), 3, axis=0)
    design = np.column_stack([levels, np.tile([0.0, 1.0, 0.0], k)])
    solution, squares, *_ = np.linalg.lstsq(design, seconds.ravel(), rcond=None)
    error = math.sqrt(squares[0] / (2 * k - 1) * np.linalg.inv(design.T @ design)[-1, -1])
    change, half = decide.interval([Times(*row) for row in seconds])
    assert change == pytest.approx(solution[-1])
    new = k - max([0, *(look for look in LOOKS if look < k)])
    assert half == pytest.approx(t.ppf(1 - 0.025 * new / LOOKS[-1], 2 * k - 1) * error)


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("k", [4, 16])
def test_a_set_with_a_process_that_is_slow_for_its_life_is_left_out(k: int, place: int) -> None:
    seconds = np.random.default_rng(k).normal(0, 0.01, (k, 3))
    change, half = decide.interval([Times(*row) for row in seconds])
    seconds[-1, place] += 0.2
    others, without = decide.interval([Times(*row) for row in seconds])
    assert others == pytest.approx(change, abs=0.01) and without < 2 * half


def test_sets_of_equal_processes_are_seldom_left_out() -> None:
    rng = np.random.default_rng(0)
    left_out = 0
    for _ in range(1000):
        seconds = rng.normal(0, 0.01, (8, 3))
        change, _ = decide.interval([Times(*row) for row in seconds])
        left_out += change != pytest.approx((seconds[:, 1] - seconds[:, [0, 2]].mean(axis=1)).mean())
    assert 0 < left_out < 30


def test_slow_processes_in_many_sets_are_not_left_out() -> None:
    """A new commit half of whose processes are slow is no outlier."""
    found = read([Times(0.0, 0.1 * (place % 2), 0.0) for place in range(LOOKS[-1])], LEAST)
    assert found.change == pytest.approx(0.05, abs=0.002)


def test_between_looks_the_last_one_counts() -> None:
    rng = np.random.default_rng(0)
    sets = [one_set(rng, 0.0, BUSY, 0.0) for _ in range(5)]
    assert read(sets, LEAST) == read(sets[:4], LEAST)
    assert read(sets[:1], LEAST) == decide.UNREAD


def test_the_sets_end() -> None:
    rng = np.random.default_rng(0)
    sets = [one_set(rng, 0.0, BUSY, 0.0) for _ in range(LOOKS[-1])]
    assert not is_settled(sets[:-1], LEAST) and is_settled(sets, LEAST)


def test_what_else_computes_does_not_move_the_time_of_a_process() -> None:
    turns = np.linspace(1.0, 1.01, 17)
    disturbed = turns.copy()
    disturbed[10:] *= 3
    times = times_of(turns, disturbed, 2 * turns)
    assert times.new == pytest.approx(times.old, abs=1e-3)
    assert times.control == pytest.approx(times.old + math.log(2), abs=1e-3)


def test_slow_phases_of_the_machine_move_no_difference() -> None:
    """Turns go with a machine whose speed drifts; their own lower quartile would differ twice as much."""
    rng = np.random.default_rng(0)
    found, own = [], []
    for _ in range(200):
        drift = np.cumsum(rng.normal(0, 0.05, 16))
        seconds = np.exp(drift + np.abs(rng.normal(0, 0.01, (3, 16))) + 0.3 * (rng.random((3, 16)) < 0.2))
        times = times_of(*seconds)
        found.append(times.new - times.old)
        own.append(np.subtract(*np.log(np.quantile(seconds[:2], 0.25, axis=1))))
    assert np.std(found) < 0.5 * np.std(own)
