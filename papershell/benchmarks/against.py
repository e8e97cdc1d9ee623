"""Two commits compared, case by case: ``papershell bench check --against`` and ``bench bisect``.

For each file of benchmarks a set of three processes runs at once, one of the new tree and two of the old (the second
is the control). All three have the same case ready; the parent asks them in turn to time some calls, in rounds whose
order is drawn anew, while the others are blocked on their pipes. Sets of fresh processes follow until
`papershell.benchmarks.decide` has read enough of them.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from papershell.benchmarks import decide
from papershell.benchmarks.decide import LOOKS, UNREAD, Reading, Times
from papershell.benchmarks.runner import FOLDER
from papershell.benchmarks.servers import CaseEnded, ProtocolError, Server, ServerError, serving
from papershell.benchmarks.trees import (
    TreeError,
    checkout,
    commit_of,
    commits_between,
    repository_of,
    subject_of,
)

LEAST, BUDGET_S = 0.03, 60.0
TURN_S = 0.02  # of a process, at least
FEWEST_TURNS, MOST_TURNS = 5, 32  # of each process in a set
BETWEEN = 1.25  # times the turns themselves, with what lies between them
OLD, NEW, CONTROL = "old commit", "new commit", "old commit again"


@dataclass(frozen=True)
class Wish:
    """What to compare, and how well.

    Attributes
    ----------
    paths : files or folders of benchmarks, relative to the tree; papershell's own suites if empty.
    select : expression of pytest's ``-k``; without one the cases marked slow are left out.
    device : ``cpu``, ``cuda`` or ``any``.
    least : the slowdown to find, as a share.
    budget_s : seconds of all turns of a case, at most.
    """

    paths: Sequence[Path] = ()
    select: str = ""
    device: str = "any"
    least: float = LEAST
    budget_s: float = BUDGET_S


@dataclass(frozen=True)
class Verdict:
    """How a benchmark did.

    Attributes
    ----------
    key : the benchmark, as `papershell.benchmarks.records.key_of` names it; a file that one tree lacks.
    state : of a `Reading`, or ``new``, ``vanished``, ``skipped``, ``failed``.
    reading : of all sets of processes.
    call_s : seconds of a call, about.
    said : why it failed, or was skipped.
    """

    key: str
    state: str
    reading: Reading = UNREAD
    call_s: float = 0.0
    said: str = ""


@dataclass
class _Case:
    """What the sets of processes found of a benchmark so far."""

    sets: list[Times] = field(default_factory=list)
    call_s: float = 0.0
    spent_s: float = 0.0
    ended: Verdict | None = None

    def verdict(self, key: str, wish: Wish) -> Verdict:
        reading = decide.read(self.sets, wish.least)
        return self.ended or Verdict(key, reading.state, reading, self.call_s)

    def is_settled(self, wish: Wish) -> bool:
        done = self.ended is not None or self.spent_s >= wish.budget_s
        return done or decide.is_settled(self.sets, wish.least)


def against_commit(name: str, wish: Wish, tell: Callable[[Verdict], None]) -> list[Verdict]:
    """Compare the files as they are with a commit of their repository; see `compare`.

    Paths in ``wish`` are relative to the current folder.

    Raises
    ------
    TreeError
        There is no such commit, or no repository.
    ServerError
        As in `compare`.
    """
    repository, wish = _at_root(wish)
    with checkout(repository, commit_of(repository, name)) as old:
        return compare(repository, old, repository, wish, tell)


@dataclass(frozen=True)
class Found:
    """The end of a bisection: a sentence, and ``slower`` if it led to one commit, else why it did not."""

    state: str
    sentence: str


def bisect(good: str, bad: str, wish: Wish, tell: Callable[[Verdict], None]) -> Found:
    """Find the commit since which a benchmark is slower than in ``good``, by comparing each candidate with that.

    Raises
    ------
    TreeError
        A commit is not there, or ``good`` is not before ``bad``.
    ServerError
        As in `compare`.
    """
    repository, wish = _at_root(wish)
    start = commit_of(repository, good)
    commits = commits_between(repository, start, commit_of(repository, bad))
    fast, slow, candidate = -1, len(commits), len(commits) - 1
    with checkout(repository, start) as old:
        while slow - fast > 1:
            with checkout(repository, commits[candidate]) as new:
                states = {verdict.state for verdict in compare(repository, old, new, wish, tell)}
            name = commits[candidate][:10]
            if states & {"failed", "undecided"}:
                state = "failed" if "failed" in states else "undecided"
                return Found(
                    state, f"{name} tells neither; the slowdown is in {_range(start, commits, fast, slow)}"
                )
            if "slower" in states:
                slow = candidate
            elif slow == len(commits):
                return Found("same", f"{name} is not slower than {start[:10]}")
            else:
                fast = candidate
            candidate = (fast + slow) // 2
    return Found("slower", f"slow since {subject_of(repository, commits[slow])}")


def _range(start: str, commits: Sequence[str], fast: int, slow: int) -> str:
    return f"{(commits[fast] if fast >= 0 else start)[:10]}..{commits[min(slow, len(commits) - 1)][:10]}"


def _at_root(wish: Wish) -> tuple[Path, Wish]:
    """Return the checkout to compare in, and the wish with its paths relative to that."""
    repository = repository_of(Path.cwd() if wish.paths else FOLDER)
    for path in wish.paths:
        if not path.resolve().is_relative_to(repository):
            raise TreeError(f"{path} is not below {repository}; start in the repository that holds it")
    return repository, replace(wish, paths=[path.resolve().relative_to(repository) for path in wish.paths])


def compare(
    repository: Path, old: Path, new: Path, wish: Wish, tell: Callable[[Verdict], None]
) -> list[Verdict]:
    """Compare the benchmarks of two trees, and tell each verdict as soon as it holds.

    Parameters
    ----------
    repository : the checkout that this process runs from.
    old, new : trees of it (`papershell.benchmarks.trees.checkout`), or the checkout itself.
    wish : what to compare.
    tell : is called with each verdict.

    Raises
    ------
    ServerError
        The trees have no benchmark in common that was asked for, or a commit's papershell cannot compare.
    """
    verdicts: list[Verdict] = []
    for file in files(old, new, wish.paths):
        absent = [tree for tree in (old, new) if not (tree / file).exists()]
        if absent:
            found = [Verdict(str(file), "vanished" if absent == [new] else "new")]
        else:
            found = _compare_file(repository, {OLD: old, NEW: new, CONTROL: old}, file, wish)
        for verdict in found:
            tell(verdict)
        verdicts += found
    if all(verdict.state in ("new", "vanished") for verdict in verdicts):
        raise ServerError("the two commits have no such benchmark in common")
    return verdicts


def files(old: Path, new: Path, paths: Sequence[Path]) -> list[Path]:
    """Return the files of benchmarks of either tree, relative to it."""
    ours = Path(*FOLDER.parts[-2:])  # papershell/benchmarks
    found: set[Path] = set()
    for tree in (old, new):
        for path in paths or [ours]:
            place = tree / path
            inside = place.rglob("test_*.py") if paths else place.glob("test_*.py")
            found |= {file.relative_to(tree) for file in ([place] if place.is_file() else inside)}
    if not found:
        raise ServerError(f"neither commit has benchmarks at {', '.join(map(str, paths)) or ours}")
    return sorted(found)


def _compare_file(repository: Path, trees: Mapping[str, Path], file: Path, wish: Wish) -> list[Verdict]:
    """Return the verdicts on a file's benchmarks; sets of fresh processes run until all are settled."""
    cases: dict[str, _Case] = {}
    for number in range(LOOKS[-1]):
        keys = [key for key, case in cases.items() if not case.is_settled(wish)]
        if keys or not number:
            try:
                _one_set(repository, trees, file, wish, cases, keys)
            except ProtocolError:
                raise
            except ServerError as error:
                cases = cases or {str(file): _Case()}
                _fail(cases, keys or list(cases), str(error))
    return [case.verdict(key, wish) for key, case in cases.items()]


def _one_set(
    repository: Path,
    trees: Mapping[str, Path],
    file: Path,
    wish: Wish,
    cases: dict[str, _Case],
    keys: list[str],
) -> None:
    """Let three fresh processes measure ``keys``, of the first set all that both trees have, into ``cases``."""
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(
                serving(repository, trees[name], file, name=name, outside=bool(wish.paths),
                        select=wish.select, device=wish.device)
            )
            for name in (NEW, OLD, CONTROL)
        }  # fmt: skip
        have = {name: server.collected() for name, server in servers.items()}
        if not cases:
            cases |= _cases(have[OLD], have[NEW])
            keys = [key for key, case in cases.items() if not case.ended]
        for server in servers.values():
            server.choose(keys)
        for done, key in enumerate(keys):
            try:
                _measure(servers, cases[key], key, wish)
            except ServerError as error:  # who of the others waits for which word is not known then
                return _fail(cases, keys[done:], str(error))


def _cases(old: Sequence[str], new: Sequence[str]) -> dict[str, _Case]:
    """Return a case for each key of either tree; those that one tree lacks have ended."""
    lone = {
        **{key: _Case(ended=Verdict(key, "vanished")) for key in old if key not in new},
        **{key: _Case(ended=Verdict(key, "new")) for key in new if key not in old},
    }
    return {key: _Case() for key in old if key in new} | lone


def _fail(cases: dict[str, _Case], keys: Iterable[str], said: str) -> None:
    for key in keys:
        cases[key].ended = Verdict(key, "failed", said=said)


def _measure(servers: Mapping[str, Server], case: _Case, key: str, wish: Wish) -> None:
    """Let all processes get a case ready and take turns; add what these tell."""
    ready = [server.ready() for server in servers.values()]
    call_s = [seconds for seconds in ready if seconds]
    if len(call_s) == len(ready):
        case.call_s = min(call_s)  # of three: who else computes here makes single calls look long
        need_s = LOOKS[0] * FEWEST_TURNS * _round_s(case.call_s)
        if need_s > wish.budget_s:
            said = f"{FEWEST_TURNS} turns in each of {LOOKS[0]} sets of processes need {need_s:.0f} s; give --budget "
            case.ended = Verdict(
                key, "undecided", call_s=case.call_s, said=f"{said}{math.ceil(2 * need_s)} or more"
            )
        else:
            with suppress(CaseEnded):
                turns, spent_s = take_turns(servers, case.call_s, wish.budget_s)
                case.sets.append(decide.times_of(turns[OLD], turns[NEW], turns[CONTROL]))
                case.spent_s += spent_s
    endings = {name: server.finish() for name, server in servers.items()}
    for state in ("failed", "skipped"):
        for name, ending in endings.items():
            if ending.outcome == state:
                case.ended = Verdict(key, state, said=f"{name}: {ending.said}")
                return


class TakesTurns(Protocol):
    """Times calls in a process of its own, or in one that it shares."""

    @property
    def process(self) -> object: ...

    def turn(self, calls: int) -> float: ...


def take_turns(
    servers: Mapping[str, TakesTurns], call_s: float, budget_s: float
) -> tuple[dict[str, list[float]], float]:
    """Let processes that are ready take turns; return the seconds of a call in each turn, and those of all.

    Parameters
    ----------
    servers : by name; no process follows itself, as its caches would be warm.
    call_s : of a call, about.
    budget_s : for all turns of three processes in all sets, at most.
    """
    planned = budget_s / LOOKS[-1] / BETWEEN / _round_s(call_s)
    draw, order, begun = random.Random(), list(servers), time.perf_counter()
    seconds: dict[str, list[float]] = {name: [] for name in servers}
    for _ in range(min(max(round(planned), FEWEST_TURNS), MOST_TURNS)):
        order = _order(servers, order[-1], draw)
        for name in order:
            seconds[name].append(servers[name].turn(_calls(call_s)))
    return seconds, time.perf_counter() - begun


def _calls(call_s: float) -> int:
    return math.ceil(TURN_S / call_s)


def _round_s(call_s: float) -> float:
    """Return the seconds of a turn of each of three processes."""
    return 3 * _calls(call_s) * call_s


def _order(servers: Mapping[str, TakesTurns], last: str, draw: random.Random) -> list[str]:
    """Return the names in an order drawn anew, to follow ``last``."""
    while True:
        drawn = draw.sample([*servers], len(servers))
        if all(servers[a].process is not servers[b].process for a, b in pairwise([last, *drawn])):
            return drawn
