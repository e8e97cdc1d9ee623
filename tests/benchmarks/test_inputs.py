"""The tables of the kinds of input: every row is measured, and no kind gives another answer."""

from __future__ import annotations

import sys

import pytest

from papershell.benchmarks import inputs


@pytest.mark.skipif(sys.platform != "linux", reason="anonymous memory is read from /proc")
@pytest.mark.parametrize("container", inputs.CONTAINERS)
def test_a_kind_of_input_is_fitted_with_the_same_answer_or_says_why_not(container):
    found = inputs.trial(600, 8, 3, "float16", container)
    absent = {"not installed", "no such type there"}
    assert found["fits"] == "yes" or found["fits"] in absent or found["fits"].startswith("becomes")
    if found["fits"] == "yes":
        assert found["same"] is True and found["ratio"] >= 1.0
    assert found["fits"] == "yes" or container not in ("numpy", "memory map")


def test_the_seconds_are_those_of_three_types():
    lines = inputs.seconds((300, 8, 3), 2)
    assert [line.split("|")[1].strip() for line in lines[3:]] == ["float16", "float32", "float64"]
    assert float(lines[4].split("|")[3]) == 1.0
