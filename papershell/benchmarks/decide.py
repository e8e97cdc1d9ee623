"""Whether a new commit is slower than an old one, from blocks in which the processes of both took turns.

A block gives the logarithms of three times: of the old commit, the new one, and the old one in a second process.
Two numbers follow from it, the change (new against the mean of both old) and the control (old against old). Their
medians have intervals that assume nothing about the distribution (`papershell.benchmarks.ratios`).

The blocks are looked at after `LOOKS` of them, at no other time, and each look may err with an equal share of `ALPHA`
(Bonferroni): looking often does not find what is not there.

    floor        the largest of a third of the slowdown to find, this control, and those of earlier sets of processes
    resolution   the smallest slowdown that the blocks can show: floor and half the interval of the change
    slower       the interval of the change lies above the floor; faster: below it, on the other side
    same         it lies below the slowdown to find, and the resolution too
    undecided    none of them; more blocks may tell
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from papershell.benchmarks.ratios import interval_rank

LOOKS = (8, 16, 32, 64, 128, 256)
ALPHA = 0.05
FLOOR_SHARE = 1 / 3
VOTES = 2  # of fresh processes, for a slowdown
MOST_SETS = 3  # of fresh processes
Block = tuple[float, float, float]


@dataclass(frozen=True)
class Reading:
    """What some blocks tell of a case.

    Attributes
    ----------
    state : ``slower``, ``faster``, ``same`` or ``undecided``.
    change, low, high : of the time, as a share, and its interval: 0.1 is ten percent slower.
    resolution : the smallest slowdown that they could show, infinite if there are too few.
    blocks : their number.
    control : by how much the second old process was slower than the first, as a logarithm.
    is_coarse : whether the slowdown to find is below the resolution.
    """

    state: str
    change: float
    low: float
    high: float
    resolution: float
    blocks: int
    control: float = 0.0
    is_coarse: bool = False


UNREAD = Reading("undecided", 0.0, -1.0, math.inf, math.inf, 0, is_coarse=True)


def read(blocks: Sequence[Block], least: float, before: Iterable[Reading] = ()) -> Reading:
    """Return what ``blocks`` tell; their number is one of `LOOKS`.

    Parameters
    ----------
    blocks : logarithms of seconds: old, new, control.
    least : the slowdown to find, as a share.
    before : of earlier sets of processes.
    """
    change, low, high = interval(new - (old + control) / 2 for old, new, control in blocks)
    control, *_ = interval(control - old for old, _, control in blocks)
    wanted = math.log1p(least)
    floor = max(FLOOR_SHARE * wanted, abs(control), *(abs(reading.control) for reading in before))
    resolution = floor + (high - low) / 2
    state = "undecided"
    if low > floor:
        state = "slower"
    elif high < -floor:
        state = "faster"
    elif high < wanted and resolution <= wanted:
        state = "same"
    change, low, high, sees = (math.expm1(value) for value in (change, low, high, resolution))
    return Reading(state, change, low, high, sees, len(blocks), control, resolution > wanted)


def interval(values: Iterable[float]) -> tuple[float, float, float]:
    """Return the median, and two values between which it lies with the confidence of one look."""
    ordered = sorted(values)
    rank = interval_rank(len(ordered), 1 - ALPHA / len(LOOKS))
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return middle, ordered[rank], ordered[-1 - rank]


def settled(readings: Sequence[Reading]) -> bool:
    """Return whether no further set of fresh processes is needed."""
    return len(readings) == MOST_SETS or verdict_of(readings).state != "undecided"


def verdict_of(readings: Sequence[Reading]) -> Reading:
    """Return the reading that decides, of sets of fresh processes.

    Memory lies elsewhere in each process, which alone moves a time by about a percent; so a slowdown needs the votes
    of two sets, and no slowdown a vote more than a slowdown has.
    """
    slower = [reading for reading in readings if reading.state == "slower"]
    others = [reading for reading in readings if reading.state in ("same", "faster")]
    if len(slower) >= VOTES:
        return min(slower, key=lambda reading: reading.change)
    if len(others) > len(slower):
        return others[-1]
    undecided = [reading for reading in readings if reading.state == "undecided"]
    best = min(undecided or slower or [UNREAD], key=lambda reading: reading.resolution)
    return replace(best, state="undecided")
