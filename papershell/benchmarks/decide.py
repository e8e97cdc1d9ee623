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

The sets are looked at after `LOOKS` of them, at no other time, and each look may err with an equal share of `ALPHA`
(Bonferroni): looking often does not find what is not there.

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
from scipy.special import stdtrit

LOOKS = (2, 3, 4, 6, 8, 12, 16)
ALPHA = 0.05
FLOOR_SHARE = 1 / 3
QUARTILE = 0.25
NEARBY = 2  # rounds before and after a turn that tell how fast the machine was


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
    """Return the change, a logarithm, and half of the interval that holds it with the confidence of one look."""
    k, freedom = len(sets), 2 * len(sets) - 1
    changes = np.array([times.new - (times.old + times.control) / 2 for times in sets])
    controls = np.array([times.control - times.old for times in sets])
    squares = np.sum((changes - changes.mean()) ** 2) * 2 / 3 + np.sum(controls**2) / 2
    error = math.sqrt(1.5 * squares / freedom / k)
    return float(changes.mean()), float(stdtrit(freedom, 1 - ALPHA / len(LOOKS) / 2)) * error
