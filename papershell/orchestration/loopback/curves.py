"""Curves of logged numbers as SVG paths: pure geometry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float]
WIDTH, HEIGHT = 320, 150  # of the picture, in its own units
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 8, 20
_LEVELS = 3  # marked values on the vertical axis


@dataclass(frozen=True)
class Chart:
    """The parts of one picture.

    Attributes
    ----------
    lines : the path of each series, in its order; empty for a series without finite numbers.
    dots : for each series the place of its only point, if it has one only.
    levels : marked values of the vertical axis: place and text.
    ends : texts of the lowest and the highest step.
    """

    lines: list[str]
    dots: list[Point | None]
    levels: list[tuple[float, str]]
    ends: tuple[str, str]


def chart(series: Sequence[Sequence[Point]]) -> Chart | None:
    """Return the curves of some series of (step, value) in one picture; None if no value is finite."""
    finite = [[p for p in points if math.isfinite(p[0]) and math.isfinite(p[1])] for points in series]
    steps = [x for points in finite for x, _ in points]
    values = [y for points in finite for _, y in points]
    if not values:
        return None
    low, high = _range(values)
    first, last = _range(steps)

    def place(point: Point) -> Point:
        across = _share(point[0], first, last) * (WIDTH - _LEFT - _RIGHT)
        up = _share(point[1], low, high) * (HEIGHT - _TOP - _BOTTOM)
        return round(_LEFT + across, 1), round(HEIGHT - _BOTTOM - up, 1)

    placed = [[place(point) for point in points] for points in finite]
    marked = [low + (high - low) * k / (_LEVELS - 1) for k in range(_LEVELS)] if high - low < math.inf else []
    return Chart(
        lines=["M" + "L".join(f"{x} {y}" for x, y in points) if points else "" for points in placed],
        dots=[points[0] if len(points) == 1 else None for points in placed],
        levels=[(place((first, value))[1], f"{value:.3g}") for value in marked],
        ends=(f"{min(steps):g}", f"{max(steps):g}"),
    )


def _range(numbers: Sequence[float]) -> tuple[float, float]:
    low, high = min(numbers), max(numbers)
    margin = abs(low) / 10 or 1.0
    return (low, high) if low < high else (low - margin, high + margin)


def _share(number: float, low: float, high: float) -> float:
    """Return where a number lies from ``low`` (0) to ``high`` (1); halved first, for their difference may overflow."""
    return (number / 2 - low / 2) / (high / 2 - low / 2)
