"""The slowdowns that `papershell bench check --against` finds here: ``python -m papershell.benchmarks.trials``.

Plants a slowdown into one kernel each of decode, normalize, products, residual and a training step: in a checkout of
the current commit each of them spins on for a share of its own time. A trial compares that checkout with an unchanged
one, by fresh processes, as the command does. Counted are the verdicts on each kernel, and alarms without a plant; with
``--busy`` once more while another job computes on all cores. Each trial is kept in a file, from which a later
start goes on; the table and the detection curve are made from it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from papershell.benchmarks.against import Verdict, Wish, compare
from papershell.benchmarks.runner import FOLDER
from papershell.benchmarks.trees import checkout, commit_of, repository_of, sigterm_exits
from papershell.kernels.backends import cpu_count
from papershell.kernels.files import replacing

SLOWER = """

def _slower(function):
    import functools
    import time

    @functools.wraps(function)
    def planted(*arguments, **options):
        begun = time.perf_counter()
        result = function(*arguments, **options)
        end = time.perf_counter() + {share} * (time.perf_counter() - begun)
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
        "kernels/logreg/on_torch.py", "IntegerEngine.multiply",
        "test_products.py::test_product[int8, 3 digits a weight]", "test_product and digits and 3",
    ),
    "residual": Kernel(
        "kernels/logreg/on_numba.py", "Engine.residual", "test_products.py::test_residual[16-numba, fused]",
        "test_residual and fused and 16",
    ),
    "training step": Kernel(
        "kernels/cifar10_net/on_numba.py", "Sgd.run", "test_torch_cifar10.py::test_steps[compiled steps]",
        "test_steps and compiled",
    ),
}  # fmt: skip


def plant(tree: Path, kernels: Sequence[str], share: float) -> None:
    """Slow kernels in a checkout down, by their names in `KERNELS`, by a share of their time."""
    for kernel in (KERNELS[name] for name in kernels):
        with (tree / "papershell" / kernel.file).open("a") as file:
            file.write(SLOWER.format(share=share, name=kernel.name))


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


def trial(repository: Path, old: Path, new: Path, kernels: Sequence[str], wish: Wish) -> dict[str, str]:
    """Return the verdict's state for each kernel."""
    names = {KERNELS[name].key: name for name in kernels}
    verdicts: list[Verdict] = compare(repository, old, new, wish, lambda verdict: None)
    return {names[verdict.key]: verdict.state for verdict in verdicts if verdict.key in names}


class Record:
    """The verdicts so far, in a file: by condition, percent planted, and kernel."""

    def __init__(self, path: Path):
        self.path = path
        self.states: dict[str, dict[str, dict[str, list[str]]]] = (
            json.loads(path.read_text()) if path.exists() else {}
        )

    def of(self, condition: str, percent: float, kernel: str) -> list[str]:
        """Return the verdicts on a kernel."""
        found = self.states.setdefault(condition, {}).setdefault(f"{percent:g}", {})
        return found.setdefault(kernel, [])

    def save(self) -> None:
        """Write the file, whole."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as file:
            file.write(json.dumps(self.states, indent=1).encode())


def run(
    record: Record, kernels: Sequence[str], counts: dict[float, int], conditions: Sequence[str], wish: Wish
) -> None:
    """Run the trials that ``record`` lacks: ``counts`` of each percentage, in turn."""
    repository = repository_of(FOLDER)
    commit = commit_of(repository, "HEAD")
    with ExitStack() as stack:
        old = stack.enter_context(checkout(repository, commit))
        trees = {percent: stack.enter_context(checkout(repository, commit)) for percent in counts}
        for percent, tree in trees.items():
            plant(tree, kernels if percent else (), percent / 100)
        for number in range(max(counts.values())):
            for condition in conditions:
                for percent in counts:
                    left = [
                        name for name in kernels
                        if len(record.of(condition, percent, name)) <= number < counts[percent]
                    ]  # fmt: skip
                    if left:
                        _one(record, condition, percent, left, wish, (repository, old, trees[percent]))


def _one(
    record: Record,
    condition: str,
    percent: float,
    kernels: Sequence[str],
    wish: Wish,
    trees: tuple[Path, Path, Path],
) -> None:
    """Run one trial of all ``kernels`` and keep it."""
    select = " or ".join(f"({KERNELS[name].select})" for name in kernels)
    with ExitStack() as stack:
        if condition == BUSY:
            stack.enter_context(another_job())
        states = trial(*trees, kernels, replace(wish, select=select))
    for name in kernels:
        record.of(condition, percent, name).append(states.get(name, "failed"))
    record.save()
    print(
        f"{condition} {percent:g} %: {', '.join(f'{name} {state}' for name, state in states.items())}",
        flush=True,
    )


def table(record: Record) -> str:
    """Return the counts as a Markdown table."""
    lines = [
        "| cores | planted | kernel | trials | found | could not decide | passed | failed |",
        "|---" * 8 + "|",
    ]
    for condition, by_percent in record.states.items():
        for percent, by_kernel in by_percent.items():
            for kernel, states in by_kernel.items():
                count = Counter(states)
                passed, failed = count["same"] + count["faster"], count["failed"] + count["skipped"]
                numbers = (len(states), count["slower"], count["undecided"], passed, failed)
                lines.append(f"| {condition} | {percent} % | {kernel} | {' | '.join(map(str, numbers))} |")
    return "\n".join(lines)


def draw(record: Record, target: Path) -> None:
    """Draw the share of trials that found what was planted, and the share that passed it, one panel a condition."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * max(len(record.states), 1), 3.6), layout="constrained")
    panels: Any = figure.subplots(1, max(len(record.states), 1), squeeze=False, sharey=True)[0]
    for panel, (condition, by_percent) in zip(panels, record.states.items(), strict=False):
        percents = sorted(map(float, by_percent))
        for kernel in sorted({name for by_kernel in by_percent.values() for name in by_kernel}):
            states = [by_percent[f"{percent:g}"].get(kernel, []) for percent in percents]
            found, passed = (
                [100 * sum(s in kinds for s in seen) / max(len(seen), 1) for seen in states]
                for kinds in (("slower",), ("same", "faster"))
            )
            (line,) = panel.plot(percents, found, marker="o", label=kernel)
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
    parser.add_argument("--budget", type=float, default=Wish.budget_s, help="as of bench check (%(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("outputs"), help="folder for trials.json and trials.png"
    )
    chosen = parser.parse_args(arguments)
    record = Record(chosen.out / "trials.json")
    counts = {0.0: chosen.unchanged, **dict.fromkeys(chosen.percent, chosen.trials)}
    with sigterm_exits():
        run(record, chosen.kernels, counts, [IDLE, *[BUSY] * chosen.busy], Wish(budget_s=chosen.budget))
    print(table(record))
    draw(record, chosen.out / "trials.png")
    print(f"wrote {chosen.out / 'trials.png'}")


if __name__ == "__main__":
    main()
