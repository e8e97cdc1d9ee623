"""The bandit policy of HyperDrive: which runs of a sweep lag so far behind the best that they are ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import werkzeug.exceptions as http

POLICIES = ("default", "bandit")


def check(policy: Mapping[str, Any]) -> None:
    """Check that a ``policy_config`` is one that is served here.

    Raises
    ------
    werkzeug.exceptions.BadRequest
        It is of another kind.
    """
    if str(policy.get("name")).lower() not in POLICIES:
        raise http.BadRequest(f"the policy {policy.get('name')} is missing here; take a BanditPolicy or none")


def ends_runs(policy: Mapping[str, Any]) -> bool:
    """Return whether a policy ends any run."""
    return str(policy["name"]).lower() == "bandit"


def laggards(
    policy: Mapping[str, Any], goal: str, logged: Mapping[str, Sequence[float]], open_runs: Sequence[str]
) -> list[str]:
    """Return the open runs that a policy ends.

    A run is compared after each ``evaluation_interval`` of logged values, from ``delay_evaluation`` on: its best
    value by then with the best that any run had by then. It lags if it is worse even with the slack.

    Parameters
    ----------
    goal : ``maximize`` or ``minimize``.
    logged : the values of the primary metric by run, oldest first.
    """
    if not ends_runs(policy):
        return []
    return [run for run in open_runs if _lags(policy["properties"], goal.lower(), logged, logged[run])]


def _lags(
    settings: Mapping[str, Any], goal: str, logged: Mapping[str, Sequence[float]], own: Sequence[float]
) -> bool:
    interval = max(1, int(settings.get("evaluation_interval") or 1))
    first = max(interval, int(settings.get("delay_evaluation") or 0))
    choose = max if goal == "maximize" else min
    for count in range(-(-first // interval) * interval, len(own) + 1, interval):
        best = choose(choose(values[:count]) for values in logged.values() if len(values) >= count)
        mine = choose(own[:count])
        slack = settings.get("slack_amount") or float(settings.get("slack_factor") or 0) * abs(mine)
        if mine + slack < best if goal == "maximize" else mine - slack > best:
            return True
    return False
