"""Trials: planted slowdowns are counted by the rule of `bench check --against`, and an interrupted series goes on."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from papershell.benchmarks import trials
from papershell.benchmarks.against import BUDGET_S
from papershell.benchmarks.decide import LOOKS, times_of
from papershell.benchmarks.runner import FOLDER
from papershell.benchmarks.trees import checkout, commit_of, repository_of
from papershell.benchmarks.trials import IDLE, KERNELS, Record, Set, Slowdown, counts, states, table

PLANTED, UNCHANGED = Slowdown(10, 0), Slowdown(0, 1)


def sets(count: int, spent_s: float = 1.0, noise: float = 0.0) -> list[Set]:
    """Return sets in which the planted kernel takes a tenth longer."""
    rng = np.random.default_rng(0)
    slower = {PLANTED.name: 1.1, UNCHANGED.name: 1.0}

    def turns(planted: float) -> list[list[float]]:
        return [[factor * math.exp(rng.normal(0, noise))] * 5 for factor in (1.0, planted, 1.0)]

    return [Set({name: turns(planted) for name, planted in slower.items()}, spent_s) for _ in range(count)]


def test_a_trial_takes_as_many_sets_as_the_rule_needs() -> None:
    quiet = sets(10 * LOOKS[0])
    assert states(quiet, PLANTED) == ["slower"] * 10
    assert states(quiet, UNCHANGED) == ["same"] * 10
    assert states(quiet[:-1], PLANTED) == ["slower"] * 9  # the last trial has not ended
    assert states(sets(2 * LOOKS[-1], noise=0.5), PLANTED) == ["undecided"] * 2


def test_a_trial_ends_with_the_commands_budget() -> None:
    assert states(sets(4, spent_s=BUDGET_S, noise=0.5), PLANTED) == ["undecided"] * 4


def test_a_slowdown_whose_trials_are_done_sits_out() -> None:
    quiet = sets(4)
    later = [Set({UNCHANGED.name: one.seconds[UNCHANGED.name]}, 1.0) for one in sets(4)]
    assert len(states(quiet + later, PLANTED)) == 2 and len(states(quiet + later, UNCHANGED)) == 4


def test_the_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = Record(tmp_path / "out" / "trials.json")
    record.of(IDLE, "decode").extend(sets(6, noise=0.01))
    record.save()
    assert Record(record.path).sets == record.sets


def test_counts_come_as_a_table_and_a_figure(tmp_path: Path) -> None:
    record = Record(tmp_path / "trials.json")
    record.of(IDLE, "decode").extend(sets(6))
    found = counts(record, [UNCHANGED, Slowdown(0, 0), PLANTED])
    assert found == {
        (IDLE, 0, "decode"): Counter(same=3),
        (IDLE, 10, "decode"): Counter(slower=3),
    }
    assert "| idle | 10 % | decode | 3 | 3 | 0 | 0 |" in table(found).splitlines()
    trials.draw(found, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["residual", "decode"])
def test_what_is_planted_slows_its_kernel_down(name: str, mnist_folder: Path) -> None:
    """A kernel that spins on for twice its time takes three times as long."""
    repository = repository_of(FOLDER)
    commit = commit_of(repository, "HEAD")
    with checkout(repository, commit) as old, checkout(repository, commit) as new:
        for tree in (old, new):
            trials.plant(tree, [KERNELS[name]])
        none, slow = Slowdown(0, 0), Slowdown(200, 0)
        found = trials.one_set(repository, [old, new], [none, slow], KERNELS[name])
    times = times_of(*found.seconds[slow.name])
    assert times.new - max(times.old, times.control) > math.log(1.5)
    same = times_of(*found.seconds[none.name])
    assert same.new - max(same.old, same.control) < math.log(1.5)
