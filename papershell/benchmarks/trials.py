"""The slowdowns that `papershell bench check --against` finds here: ``python -m papershell.benchmarks.trials``.

Plants slowdowns into one kernel each of decode, normalize, products, residual and a training step: in checkouts of the
current commit it spins on for a share of its own time, which is set before each turn. In a set of fresh processes two
take all their turns with none, as old commit and control, the others as many turns with each of the shares, zero too: a
process whose turns come more often is faster, by up to four percent for `normalize`.
`papershell.benchmarks.decide` reads the sets in the order in which they ran, as many as a verdict needs, and each
verdict is a trial. With ``--busy`` another job computes on all cores in a second series. All sets are kept in a file,
from which a later start goes on; the table and the detection curve are made from it.
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from papershell.benchmarks.against import BUDGET_S, CONTROL, LEAST, OLD, TakesTurns, take_turns
from papershell.benchmarks.decide import Times, is_settled, read, times_of
from papershell.benchmarks.runner import FOLDER
from papershell.benchmarks.servers import Server, ServerError, serving
from papershell.benchmarks.trees import checkout, commit_of, repository_of, sigterm_exits
from papershell.kernels.backends import cpu_count
from papershell.kernels.files import replacing

PROCESSES = 2  # of a set, beside the two that are never slowed down
SHARE = struct.Struct("d")
SLOWER = """

def _slower(function):
    import functools
    import mmap
    import struct
    import time

    with open({share!r}, "rb") as file:
        share = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    @functools.wraps(function)
    def planted(*arguments, **options):
        begun = time.perf_counter()
        result = function(*arguments, **options)
        end = time.perf_counter() + struct.unpack("d", share)[0] * (time.perf_counter() - begun)
        while time.perf_counter() < end:
            pass
        return result

    return planted


{name} = _slower({name})
"""
ANOTHER_JOB = "import numpy as np; A = np.ones((512, 512))\nwhile True: A @ A"
IDLE, BUSY = "idle", "busy"


@dataclass(frozen=True)
class Kernel:
    """A kernel: its file below the package, its name there, and the benchmark that times it, by key and by ``-k``."""

    file: str
    name: str
    key: str
    select: str


KERNELS = {
    "decode": Kernel(
        "kernels/idx/read.py", "read_idx", "test_decode.py::test_decode[read_idx]",
        "read_idx and not order and not normalize",
    ),
    "normalize": Kernel(
        "kernels/normalize/on_numba.py", "normalize", "test_normalize.py::test_normalize[numba, out=-float32-60000]",
        "test_normalize and numba and out and float32 and 60000",
    ),
    "products": Kernel(
        "kernels/logreg/on_bytes.py", "Engine.multiply",
        "test_products.py::test_product[int8, 3 digits a weight]", "test_product and digits and 3",
    ),
    "residual": Kernel(
        "kernels/logreg/on_cpu.py", "Engine.residual", "test_products.py::test_residual[16-numba, fused]",
        "test_residual and fused and 16",
    ),
    "training step": Kernel(
        "kernels/cifar10_net/on_numba.py", "Sgd.run", "test_torch_cifar10.py::test_steps[compiled steps]",
        "test_steps and compiled",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Set:
    """What a set of fresh processes told of a kernel.

    Attributes
    ----------
    seconds : by `Slowdown.name` those of a call in each turn of old commit, slowed down process and control.
    spent_s : seconds of the turns that the command would have taken, with one of the slowdowns.
    """

    seconds: dict[str, list[list[float]]]
    spent_s: float


@dataclass(frozen=True)
class Slowdown:
    """A percentage planted, and which of a set's processes has it."""

    percent: float
    process: int

    @property
    def name(self) -> str:
        """Return the name of its turns."""
        return f"{self.percent:g} % in {self.process}"

    def beside(self, name: str) -> str:
        """Return the name of the turns of the old commit or the control that are compared with it."""
        return f"{name} beside {self.percent:g} %"


@dataclass(frozen=True)
class Slowed:
    """A process of a checkout whose kernels are slowed down by a share while it has its turn."""

    server: Server
    tree: Path
    share: float

    @property
    def process(self) -> object:
        """See `Server`."""
        return self.server.process

    def turn(self, calls: int) -> float:
        """See `Server.turn`."""
        set_share(self.tree, self.share)
        return self.server.turn(calls)


def plant(tree: Path, kernels: Iterable[Kernel]) -> None:
    """Let kernels of a checkout spin on for a share of their time, zero at first."""
    (tree / "share").write_bytes(SHARE.pack(0.0))
    for kernel in kernels:
        with (tree / "papershell" / kernel.file).open("a") as file:
            file.write(SLOWER.format(share=str(tree / "share"), name=kernel.name))


def set_share(tree: Path, share: float) -> None:
    """Set the share by which the planted kernels of a checkout are slower; processes have the file mapped."""
    with (tree / "share").open("r+b") as file:
        file.write(SHARE.pack(share))


@contextmanager
def another_job() -> Iterator[None]:
    """Let other processes compute on all cores."""
    command = [sys.executable, "-c", ANOTHER_JOB]
    jobs = [subprocess.Popen(command) for _ in range(cpu_count())]
    try:
        yield
    finally:
        for job in jobs:
            job.kill()
            job.wait()


def one_set(repository: Path, trees: Sequence[Path], slowdowns: Sequence[Slowdown], kernel: Kernel) -> Set:
    """Let fresh processes take turns at a kernel: two of the first planted tree, never slowed down, one of each other.

    Raises
    ------
    ServerError
        A process cannot run the benchmark; the message says why.
    """
    file = Path(*FOLDER.parts[-2:], kernel.key.partition("::")[0])
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                serving(
                    repository, tree, file, name=str(tree), outside=False, select=kernel.select, device="cpu"
                )
            )
            for tree in (trees[0], *trees)
        ]
        for server in servers:
            server.collected()
        for server in servers:
            server.choose([kernel.key])
        ready = [server.ready() for server in servers]
        call_s = [seconds for seconds in ready if seconds]
        if len(call_s) < len(ready):
            endings = [server.finish() for server in servers]
            raise ServerError(f"{kernel.key} {endings[0].outcome}: {endings[0].said}")
        turns: dict[str, TakesTurns] = {}
        old, control, *new = servers
        for one in slowdowns:
            turns[one.beside(OLD)] = Slowed(old, trees[0], 0.0)
            turns[one.beside(CONTROL)] = Slowed(control, trees[0], 0.0)
            turns[one.name] = Slowed(new[one.process], trees[1 + one.process], one.percent / 100)
        seconds, spent_s = take_turns(turns, min(call_s), BUDGET_S)
        for server in servers:
            server.finish()
    by_slowdown = {
        one.name: [seconds[name] for name in (one.beside(OLD), one.name, one.beside(CONTROL))]
        for one in slowdowns
    }
    return Set(by_slowdown, 3 * spent_s / len(turns))


def states(sets: Sequence[Set], slowdown: Slowdown) -> list[str]:
    """Return the state of each trial of a slowdown: as many sets in their order as the command would have taken."""
    found: list[str] = []
    times: list[Times] = []
    spent_s = 0.0
    for one in sets:
        if slowdown.name in one.seconds:
            times.append(times_of(*one.seconds[slowdown.name]))
            spent_s += one.spent_s
            if spent_s >= BUDGET_S or is_settled(times, LEAST):
                found.append(read(times, LEAST).state)
                times, spent_s = [], 0.0
    return found


class Record:
    """The sets so far, in a file: by condition and kernel."""

    def __init__(self, path: Path):
        self.path = path
        self.sets: dict[str, dict[str, list[Set]]] = {}
        for condition, by_kernel in (json.loads(path.read_text()) if path.exists() else {}).items():
            for kernel, sets in by_kernel.items():
                self.of(condition, kernel).extend(Set(**one) for one in sets)

    def of(self, condition: str, kernel: str) -> list[Set]:
        """Return the sets of a kernel."""
        return self.sets.setdefault(condition, {}).setdefault(kernel, [])

    def save(self) -> None:
        """Write the file, whole."""
        text = {
            condition: {kernel: [asdict(one) for one in sets] for kernel, sets in by_kernel.items()}
            for condition, by_kernel in self.sets.items()
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as file:
            file.write(json.dumps(text).encode())


def run(
    record: Record, kernels: Sequence[str], wanted: Mapping[Slowdown, int], conditions: Sequence[str]
) -> None:
    """Run sets of all kernels in turn until each slowdown has as many trials as ``wanted``."""
    repository = repository_of(FOLDER)
    commit = commit_of(repository, "HEAD")
    with ExitStack() as stack:
        trees = [stack.enter_context(checkout(repository, commit)) for _ in range(1 + PROCESSES)]
        for tree in trees:
            plant(tree, [KERNELS[name] for name in kernels])
        series = [(condition, kernel) for condition in conditions for kernel in kernels]
        while series:
            for condition, kernel in list(series):
                sets = record.of(condition, kernel)
                left = [one for one in wanted if len(states(sets, one)) < wanted[one]]
                if not left:
                    series.remove((condition, kernel))
                    continue
                with another_job() if condition == BUSY else nullcontext():
                    sets.append(one_set(repository, trees, left, KERNELS[kernel]))
                record.save()
                done = ", ".join(f"{one.name} {len(states(sets, one))}/{wanted[one]}" for one in wanted)
                print(f"{condition} {kernel}, set {len(sets)}; trials of {done}", flush=True)


def counts(record: Record, slowdowns: Iterable[Slowdown]) -> dict[tuple[str, float, str], Counter[str]]:
    """Return how often each state came out, by condition, percentage and kernel."""
    found: dict[tuple[str, float, str], Counter[str]] = {}
    for condition, by_kernel in record.sets.items():
        for kernel, sets in by_kernel.items():
            for one in slowdowns:
                found.setdefault((condition, one.percent, kernel), Counter()).update(states(sets, one))
    return found


def table(found: Mapping[tuple[str, float, str], Counter[str]]) -> str:
    """Return the counts as a Markdown table."""
    lines = ["| cores | planted | kernel | trials | found | could not decide | passed |", "|---" * 7 + "|"]
    for (condition, percent, kernel), count in found.items():
        passed = count["same"] + count["faster"]
        numbers = (count.total(), count["slower"], count["undecided"], passed)
        lines.append(f"| {condition} | {percent:g} % | {kernel} | {' | '.join(map(str, numbers))} |")
    return "\n".join(lines)


def draw(found: Mapping[tuple[str, float, str], Counter[str]], target: Path) -> None:
    """Draw the share of trials that found what was planted, and the share that passed it, one panel a condition."""
    from matplotlib.figure import Figure

    conditions = list(dict.fromkeys(condition for condition, _, _ in found))
    kernels = list(dict.fromkeys(kernel for _, _, kernel in found))
    percents = sorted({percent for _, percent, _ in found})
    figure = Figure(figsize=(5 * len(conditions), 3.6), layout="constrained")
    panels: Any = figure.subplots(1, len(conditions), squeeze=False, sharey=True)[0]
    for panel, condition in zip(panels, conditions, strict=True):
        for kernel in kernels:
            each = [found.get((condition, percent, kernel), Counter()) for percent in percents]
            slower = [100 * count["slower"] / max(count.total(), 1) for count in each]
            passed = [100 * (count["same"] + count["faster"]) / max(count.total(), 1) for count in each]
            (line,) = panel.plot(percents, slower, marker="o", label=kernel)
            panel.plot(percents, passed, marker="x", linestyle=":", linewidth=1, color=line.get_color())
        panel.set(title=condition, xlabel="planted, percent", xticks=percents, ylim=(-3, 103))
    panels[0].set_ylabel("trials, percent (dotted: passed)")
    panels[0].legend(fontsize="small")
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as file:
        figure.savefig(file, format="png", dpi=120)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the trials that are left, print the table, and draw the curve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20, help="for each slowdown (20)")
    parser.add_argument("--unchanged", type=int, default=40, help="trials without a slowdown (40)")
    parser.add_argument("--percent", type=float, nargs="*", default=[3, 5, 10], help="slowdowns (3 5 10)")
    parser.add_argument("--kernels", nargs="*", choices=KERNELS, default=[*KERNELS], metavar="KERNEL",
                        help=f"among {', '.join(KERNELS)} (all)")  # fmt: skip
    parser.add_argument("--busy", action="store_true", help="also with another job on the same cores")
    parser.add_argument(
        "--out", type=Path, default=Path("outputs"), help="folder for trials.json and trials.png"
    )
    chosen = parser.parse_args(arguments)
    record = Record(chosen.out / "trials.json")
    trials = {0.0: chosen.unchanged, **dict.fromkeys(chosen.percent, chosen.trials)}
    wanted = {
        Slowdown(percent, process): -(-number // PROCESSES)
        for percent, number in trials.items()
        for process in range(PROCESSES)
    }
    try:
        with sigterm_exits():
            run(record, chosen.kernels, wanted, [IDLE, *[BUSY] * chosen.busy])
    finally:
        found = counts(record, wanted)
        print(table(found))
        if found:
            draw(found, chosen.out / "trials.png")
            print(f"wrote {chosen.out / 'trials.png'}")


if __name__ == "__main__":
    main()
