"""Whether a new commit is slower than an old one, from sets of fresh processes that took turns at the same calls.

A set has three processes: old, new, and old once more (the control). What else computes on the machine makes turns
longer, seldom shorter, so the time of a process is the lower quartile of its turns. A machine that slows down for some
rounds slows all three down: a turn counts relative to the lower quartile of everybody's turns in the rounds around it.
Processes of the same code differ too, by about a percent: their memory lies elsewhere. Only more processes average that
out; so a set counts as one observation, whatever the number of its turns.

On logarithms, with d = new - (old + control) / 2 and c = control - old of k sets, and s^2 the variance of a process:

    change       mean(d), a variance of 3 s^2 / 2k
    s^2          (sum (d - mean(d))^2 * 2/3 + sum c^2 / 2) / (2k - 1): c has mean zero, and d tells nothing about c
    interval     mean(d) +- t sqrt(3 s^2 / 2k), t of Student's distribution with 2k - 1 degrees of freedom

The sets are looked at after `LOOKS` of them, at no other time. On either side a look may err with as much of `ALPHA`
as the sets that are new to it are of all (Bonferroni, with unequal shares as by Lan and DeMets, Biometrika 1983):
looking often does not find what is not there, and the last looks, which tell most, can tell.

Now and then a process is many percent slower for its whole life. A set that lies so far from the others that one look
in a hundred at equal processes would have such a set (F test of the squares that it adds, with 2 and 2k - 3 degrees of
freedom, times k sets) is left out, at most a quarter of all: what is slower in a few of its processes only, passes.

    floor        a third of the slowdown to find
    resolution   the smallest slowdown that the sets can show: floor and half the interval
    slower       the interval lies above the floor; faster: below it, on the other side
    same         it lies below the slowdown to find, and the resolution too
    undecided    none of them; more sets may tell
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc, stdtrit

LOOKS = (2, 3, 4, 6, 8, 12, 16)
ALPHA = 0.025  # on either side
APART = 0.01  # of the looks at equal processes leave a set out
MOST_APART = 1 / 4  # of the sets
FLOOR_SHARE = 1 / 3
QUARTILE = 0.25
NEARBY = 4  # rounds before and after a turn that tell how fast the machine was


@dataclass(frozen=True)
class Times:
    """Logarithms of the seconds of a call in the three processes of a set."""

    old: float
    new: float
    control: float


@dataclass(frozen=True)
class Reading:
    """What some sets tell of a case.

    Attributes
    ----------
    state : ``slower``, ``faster``, ``same`` or ``undecided``.
    change, low, high : of the time, as a share, and its interval: 0.1 is ten percent slower.
    resolution : the smallest slowdown that they could show, infinite if there are too few.
    sets : their number.
    is_coarse : whether the slowdown to find is below the resolution.
    """

    state: str
    change: float
    low: float
    high: float
    resolution: float
    sets: int
    is_coarse: bool


UNREAD = Reading("undecided", 0.0, -1.0, math.inf, math.inf, 0, is_coarse=True)


def times_of(*seconds: Sequence[float]) -> Times:
    """Return the times of a set from the seconds of its processes' turns, round by round: old, new, control."""
    turns = np.log(seconds)
    around = [slice(max(0, place - NEARBY), place + NEARBY + 1) for place in range(turns.shape[1])]
    machine = np.array([np.quantile(turns[:, rounds], QUARTILE) for rounds in around])
    return Times(*(np.quantile(turns - machine, QUARTILE, axis=1) + machine.mean()))


def read(sets: Sequence[Times], least: float) -> Reading:
    """Return what the first sets tell, as many as the last look had; ``least`` is the slowdown to find, as a share."""
    looks = [look for look in LOOKS if look <= len(sets)]
    return _look(sets[: looks[-1]], least) if looks else UNREAD


def is_settled(sets: Sequence[Times], least: float) -> bool:
    """Return whether no further set of fresh processes is needed."""
    return len(sets) >= LOOKS[-1] or read(sets, least).state != "undecided"


def _look(sets: Sequence[Times], least: float) -> Reading:
    change, half = interval(sets)
    wanted = math.log1p(least)
    floor = FLOOR_SHARE * wanted
    low, high, resolution = change - half, change + half, floor + half
    state = "undecided"
    if low > floor:
        state = "slower"
    elif high < -floor:
        state = "faster"
    elif max(high, resolution) <= wanted:
        state = "same"
    change, low, high, sees = (math.expm1(value) for value in (change, low, high, resolution))
    return Reading(state, change, low, high, sees, len(sets), resolution > wanted)


def interval(sets: Sequence[Times]) -> tuple[float, float]:
    """Return the change, a logarithm, and half of the interval of the look after these sets."""
    changes = np.array([times.new - (times.old + times.control) / 2 for times in sets])
    controls = np.array([times.control - times.old for times in sets])
    for _ in range(int(MOST_APART * len(sets))):
        together = _together(changes, controls)
        changes, controls = changes[together], controls[together]
    k, freedom = len(changes), 2 * len(changes) - 1
    error = math.sqrt(1.5 * _squares(changes, controls).sum() / freedom / k)
    return float(changes.mean()), float(stdtrit(freedom, 1 - _may_err(len(sets)))) * error


def _squares(changes: NDArray[np.float64], controls: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what each set adds to the squares."""
    return (changes - changes.mean()) ** 2 * 2 / 3 + controls**2 / 2


def _together(changes: NDArray[np.float64], controls: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which sets to read: all, or all but the farthest if that one lies apart."""
    k = len(changes)
    squares = _squares(changes, controls)
    adds = squares + (changes - changes.mean()) ** 2 * 2 / 3 / (k - 1)  # without a set the mean moves too
    farthest = adds.argmax()
    rest = max(squares.sum() - adds[farthest], np.finfo(float).tiny)
    is_apart = k * fdtrc(2, 2 * k - 3, (adds[farthest] / 2) / (rest / (2 * k - 3))) < APART
    return (np.arange(k) != farthest) | (not is_apart)


def _may_err(k: int) -> float:
    """Return the probability with which the look after ``k`` sets may err on one side."""
    earlier = max((look for look in LOOKS if look < k), default=0)
    return ALPHA * (k - earlier) / LOOKS[-1]
