"""Verdicts on made-up histories: what was planted is found, what was not is not."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection
from typing import Any

import numpy as np
import pytest

from papershell.benchmarks.check import LEAST_RUNS, MOST_RUNS, Verdict, confirm, judge
from papershell.benchmarks.ratios import ratio_of
from tests.benchmarks.runs import CASES, commit_id, make_run

KEY = "test_kernels.py::test_normalize_float32[numba, out=]"
PLANTED = "numba, out="
REFERENCE = "test_kernels.py::test_normalize_float32[X / 255.0]"
HISTORY = [make_run(index) for index in range(8)]


def states(run: dict[str, Any], history: list[dict[str, Any]] = HISTORY) -> dict[str, str]:
    """Return the state of every benchmark by key."""
    return {verdict.key: verdict.state for verdict in judge(run, history)}


def verdict_on(run: dict[str, Any], history: list[dict[str, Any]] = HISTORY, key: str = KEY) -> Verdict:
    """Return the verdict on one benchmark."""
    return next(verdict for verdict in judge(run, history) if verdict.key == key)


def with_facts(run: dict[str, Any], key: str = KEY, **facts: Any) -> dict[str, Any]:
    """Return a copy of a run in which one benchmark has other facts."""
    run = copy.deepcopy(run)
    for benchmark in run["benchmarks"]:
        if key in benchmark["fullname"]:
            benchmark["extra_info"] |= facts
    return run


def with_ratio(run: dict[str, Any], ratio: float, width: float = 1.01, key: str = KEY) -> dict[str, Any]:
    """Return a copy of a run in which one benchmark has this ratio, its interval a factor to each side."""
    return with_facts(run, key, ratio=ratio, ratio_low=ratio / width, ratio_high=ratio * width)


@pytest.mark.parametrize("factor", [1.1, 1.2, 1.5])
def test_a_planted_slowdown_is_found_alone_and_measured(factor: float) -> None:
    run = make_run(9, slowdown={PLANTED: factor})
    assert [key for key, state in states(run).items() if state == "slower"] == [KEY]
    found = verdict_on(run)
    assert found.change == pytest.approx(factor - 1, abs=0.03)
    assert 0 < found.noise < factor - 1 and found.sure > 0.99


def test_what_got_faster_is_said_and_no_alarm() -> None:
    found = verdict_on(make_run(9, slowdown={PLANTED: 0.8}))
    assert found.state == "faster" and found.change == pytest.approx(-0.2, abs=0.03)


def test_unchanged_runs_raise_no_confirmed_alarm() -> None:
    for index in range(9, 19):
        verdicts = confirm(judge(make_run(index), HISTORY), HISTORY, lambda _: make_run(20))
        assert {verdict.state for verdict in verdicts} <= {"same", "faster"}


def test_a_machine_that_is_slower_altogether_raises_no_alarm() -> None:
    run = make_run(9, slowdown={case.case: 1.5 for case in CASES})
    assert "slower" not in states(run).values()


def test_a_reference_that_got_slower_is_no_slowdown_of_the_others() -> None:
    run = make_run(9, slowdown={"X / 255.0": 1.3})
    assert states(run)[KEY] == "faster" and states(run)[REFERENCE] == "same"


def test_new_and_vanished_benchmarks_are_named() -> None:
    found = states(make_run(9, cases=CASES[:4]), [make_run(index, cases=CASES[1:6]) for index in range(5)])
    new, vanished = ([key for key, state in found.items() if state == name] for name in ("new", "vanished"))
    assert new == ["test_kernels.py::test_decode_MNIST[gzip.decompress]"]
    assert vanished == [KEY, KEY.replace(", out=", "")]


def test_only_the_last_run_says_what_vanished() -> None:
    history = [make_run(0), *(make_run(index, cases=CASES[:-1]) for index in range(1, 6))]
    assert "vanished" not in states(make_run(9, cases=CASES[:-1]), history).values()


def test_too_few_runs_decide_nothing() -> None:
    run = make_run(9, slowdown={PLANTED: 3.0})
    assert verdict_on(run, HISTORY[: LEAST_RUNS - 1]).state == "undecided"
    assert verdict_on(run, HISTORY[:LEAST_RUNS]).state == "slower"
    assert set(states(run, []).values()) == {"new"}


def test_only_the_latest_runs_count() -> None:
    fast = [make_run(index, slowdown={PLANTED: 0.5}) for index in range(5)]
    recent = [make_run(index) for index in range(5, 5 + MOST_RUNS)]
    assert verdict_on(make_run(20), fast + recent) == verdict_on(make_run(20), recent)


def test_a_noisy_control_widens_the_band() -> None:
    run = make_run(9, slowdown={PLANTED: 1.2})
    quiet, noisy = verdict_on(run), verdict_on(with_ratio(run, 1.0, 1.4, key=REFERENCE))
    assert (quiet.state, noisy.state) == ("slower", "same")
    assert noisy.noise == pytest.approx(0.4) and noisy.change == quiet.change


def test_a_noisy_history_widens_the_band() -> None:
    run = make_run(9, slowdown={PLANTED: 1.2})
    noisy = [with_ratio(old, 6.4 * (1.3, 0.8, 1.0)[index % 3]) for index, old in enumerate(HISTORY)]
    assert verdict_on(run, noisy).state == "same"


@pytest.mark.parametrize(("width", "state"), [(1.2501, "same"), (1.2499, "slower")])
def test_equal_runs_leave_the_interval_to_decide(width: float, state: str) -> None:
    """Without spread and control a change counts as soon as the interval leaves the median of the runs."""
    history = [with_facts(with_ratio(old, 5.0), REFERENCE, is_reference=False) for old in HISTORY]
    run = with_facts(with_ratio(make_run(9), 4.0, width), REFERENCE, is_reference=False)
    found = verdict_on(run, history)
    assert found.state == state and found.noise == 0 and found.change == pytest.approx(0.25)
    assert verdict_on(with_ratio(run, 5.0, 1.0), history).state == "same"


@pytest.mark.parametrize("name", ["another reference", None])
def test_ratios_to_another_reference_are_not_compared(name: str | None) -> None:
    run = with_facts(make_run(9, slowdown={PLANTED: 3.0}), reference=name)
    assert verdict_on(run).state == "undecided"
    history = HISTORY[:2] + [with_facts(old, reference=name) for old in HISTORY[2:]]
    assert verdict_on(run, history).state == "slower"
    assert verdict_on(make_run(9), history).state == "undecided"


def test_a_renamed_group_keeps_its_history_and_its_control() -> None:
    run = make_run(9, slowdown={PLANTED: 1.2})
    for benchmark in run["benchmarks"]:
        benchmark["group"] = benchmark["group"].replace("normalize", "scaled")
    assert verdict_on(run) == verdict_on(make_run(9, slowdown={PLANTED: 1.2}))


def test_the_commits_begin_with_the_last_run_within_the_band() -> None:
    slow = [make_run(index, slowdown={PLANTED: 1.4}) for index in (8, 9)]
    found = verdict_on(make_run(10, slowdown={PLANTED: 1.4}), HISTORY + slow)
    assert found.since == (commit_id(7)[:10], commit_id(10)[:10])


def only(run: dict[str, Any], key: str = KEY) -> dict[str, Any]:
    """Return the run with one benchmark, as a second measurement has it."""
    return {**run, "benchmarks": [b for b in run["benchmarks"] if key in b["fullname"]]}


@pytest.mark.parametrize(("factor", "state"), [(1.0, "same"), (1.2, "slower"), (0.8, "same")])
def test_a_second_measurement_of_just_that_case_decides(factor: float, state: str) -> None:
    first = judge(make_run(9, slowdown={PLANTED: 1.3}), HISTORY)

    def measure(keys: Collection[str]) -> dict[str, Any]:
        assert set(keys) == {KEY}
        return only(make_run(10, slowdown={PLANTED: factor}))

    verdicts = confirm(first, HISTORY, measure)
    found = next(verdict for verdict in verdicts if verdict.key == KEY)
    assert found.state == state
    assert [v for v in verdicts if v.key != KEY] == [v for v in first if v.key != KEY]
    if state == "slower":
        before = next(verdict for verdict in first if verdict.key == KEY)
        assert found.change == pytest.approx(0.2, abs=0.03) and found.sure >= before.sure


def test_what_was_not_measured_again_is_not_confirmed() -> None:
    first = judge(make_run(9, slowdown={PLANTED: 1.3}), HISTORY)
    nothing = {**make_run(10), "benchmarks": []}
    assert "slower" not in {v.state for v in confirm(first, HISTORY, lambda _: nothing)}


def test_the_first_runs_control_holds_for_the_second_too() -> None:
    first = with_ratio(make_run(9, slowdown={PLANTED: 1.6}), 1.0, 1.3, key=REFERENCE)
    assert verdict_on(first).state == "slower"
    again = only(make_run(10, slowdown={PLANTED: 1.2}))
    assert verdict_on(again).state == "slower"  # by itself, without a control
    confirmed = confirm(judge(first, HISTORY), HISTORY, lambda _: again)
    assert next(v for v in confirmed if v.key == KEY).state == "same"


def test_nothing_is_measured_where_nothing_is_slower() -> None:
    verdicts = judge(make_run(9, slowdown={PLANTED: 0.7}), HISTORY)
    assert confirm(verdicts, HISTORY, lambda _: pytest.fail("measured")) == verdicts


def simulated(rng: np.random.Generator, process: float, within: float, slower: float = 0.0) -> dict[str, Any]:
    """Return a run of one case and its control, whose ratio varies between processes and between rounds."""

    def facts(shift: float) -> dict[str, Any]:
        found = ratio_of(np.exp(-shift + rng.normal(0, within, 30)), np.ones(30))
        return {"ratio": found.median, "ratio_low": found.low, "ratio_high": found.high}

    case = facts(slower + rng.normal(0, process))
    control = {**facts(0.0), "is_reference": True}
    return {
        "commit_info": {"id": "0"},
        "benchmarks": [
            {"fullname": f"test.py::{name}", "group": "", "extra_info": found}
            for name, found in (("case", case), ("control", control))
        ],
    }


def alarms(rng: np.random.Generator, runs: int, trials: int, *noise: float, slower: float = 0.0) -> float:
    """Return the share of trials in which the case is said to be slower, twice."""
    found = 0
    for _ in range(trials):
        history = [simulated(rng, *noise) for _ in range(runs)]
        verdicts = judge(simulated(rng, *noise, slower), history)
        verdicts = confirm(verdicts, history, lambda _: simulated(rng, *noise, slower))
        found += any(verdict.state == "slower" for verdict in verdicts)
    return found / trials


@pytest.mark.parametrize("runs", [LEAST_RUNS, MOST_RUNS])
@pytest.mark.parametrize(("process", "within"), [(0.008, 0.02), (0.008, 0.002), (0.03, 0.005)])
def test_false_alarms_are_rarer_than_one_in_forty(runs: int, process: float, within: float) -> None:
    assert alarms(np.random.default_rng(0), runs, 1000, process, within) < 1 / 40


@pytest.mark.parametrize(("slower", "least"), [(0.05, 0.5), (0.10, 0.9), (0.20, 1.0)])
def test_slowdowns_are_found_as_often_as_asked(slower: float, least: float) -> None:
    """With what single runs of a decoding benchmark differ by, 0.8 % over processes."""
    found = alarms(np.random.default_rng(1), MOST_RUNS, 100, 0.008, 0.01, slower=math.log1p(slower))
    assert found >= least
