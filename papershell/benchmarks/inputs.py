"""Features where they are: which types and containers `fit_path` takes, with what answer, in how much memory, how fast.

``python -m papershell.benchmarks.inputs`` prints two tables. In the first every kind of input is fitted in a process of
its own: memory is the growth of that process's anonymous memory at its highest during the fit. An answer is the same
if the two objectives, both in float64, lie within the proven gap. The second has the seconds of a fit on each type.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from papershell.benchmarks.interleave import rounds_of, timed
from papershell.benchmarks.problems import class_centres
from papershell.kernels import PathSolution, arrays, fit_path
from papershell.kernels.logreg.cost import work_bytes

TYPES = ("uint8", "int8", "float16", "bfloat16", "float32", "float64")
CONTAINERS = ("numpy", "memory map", "torch", "jax", "cupy", "pandas", "polars", "array-api-strict")
MODULES = {"memory map": "numpy", "array-api-strict": "array_api_strict"}
SECONDS_BETWEEN_LOOKS = 0.002
RATES = [1.0, 10.0]


def values(N: int, P: int, K: int, kind: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Return X (N, P) of the type ``kind``, labels (N,), and the factor that X is meant to be multiplied by."""
    problem = class_centres(N, P, K, 1.0)
    if kind not in ("uint8", "int8"):
        bfloat16 = importlib.import_module("ml_dtypes").bfloat16 if kind == "bfloat16" else None
        return problem.X.astype(bfloat16 or kind), problem.y, 1.0
    low = 0 if kind == "uint8" else -128
    span = np.ptp(problem.X)
    return (
        np.clip(np.rint((problem.X - problem.X.min()) / span * 255 + low), low, low + 255).astype(kind),
        problem.y,
        float(span / 255),
    )


def contained(X: np.ndarray, container: str, folder: Path) -> Any:
    """Return X as an array, a frame or a map of the library ``container``.

    Raises
    ------
    TypeError
        The library has no such type.
    """
    module = importlib.import_module(MODULES.get(container, container))
    if container == "numpy":
        return X
    if container == "memory map":
        np.save(folder / "X.npy", X.view(np.uint16) if arrays.kind(X) == "bfloat16" else X)
        mapped = np.load(folder / "X.npy", mmap_mode="r")
        return mapped.view(X.dtype) if arrays.kind(X) == "bfloat16" else mapped
    if container == "torch" and arrays.kind(X) == "bfloat16":
        return module.from_numpy(X.view(np.int16)).view(module.bfloat16)
    if container == "jax":
        return module.device_put(X)  # float64 becomes float32 there unless JAX is told otherwise
    make = {"torch": "from_numpy", "pandas": "DataFrame", "polars": "DataFrame"}.get(container, "asarray")
    return getattr(module, make)(X)


class Peak:
    """The highest anonymous memory of this process while the block runs, less that at its beginning."""

    def __enter__(self) -> Peak:
        self.before, self.highest, self.over = anonymous_bytes(), 0, threading.Event()
        self.thread = threading.Thread(target=self._look)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def _look(self) -> None:
        while not self.over.wait(SECONDS_BETWEEN_LOOKS):
            self.highest = max(self.highest, anonymous_bytes() - self.before)


def anonymous_bytes() -> int:
    """Return the resident memory of this process that no file backs; Linux only."""
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


def objective(path: PathSolution, r: int, X: np.ndarray, y: np.ndarray, scale: float, l2: float) -> float:
    """Return the objective of rate ``r`` in float64, from the definition."""
    total = 0.5 * l2 * float((path.coef[r] ** 2).sum())
    for block in arrays.row_blocks(X):
        Z = X[block].astype(np.float64) * scale @ path.coef[r].T + path.intercept[r]
        top = Z.max(axis=1)
        own = Z[np.arange(len(Z)), y[block]]
        total += float((np.log(np.exp(Z - top[:, None]).sum(axis=1)) + top - own).sum())
    return total


def trial(N: int, P: int, K: int, kind: str, container: str) -> dict[str, Any]:
    """Fit one kind of input in this process; return whether it fits, how near the reference, and its memory."""
    if importlib.util.find_spec(MODULES.get(container, container)) is None:
        return {"fits": "not installed"}
    X, y, scale = values(N, P, K, kind)
    with tempfile.TemporaryDirectory() as folder:
        try:
            given = contained(X, container, Path(folder))
        except (TypeError, ValueError):
            return {"fits": "no such type there"}
        stored = arrays.kind(arrays.where_it_lies(given))
        if stored != kind:
            return {"fits": f"becomes {stored} there"}
        few = slice(0, 64 * K)
        fit_path(X[few], y[few], RATES, scale=scale)  # loads and compiles all that the fit needs
        with Peak() as peak:
            path = fit_path(given, y, RATES, scale=scale)
    peak_bytes = peak.highest
    reference = fit_path(X.astype(np.float64), y, RATES, scale=scale)
    assert path.gap is not None and reference.gap is not None, "fit_path sets them"
    found, best = (
        np.array([objective(p, r, X, y, scale, l2) for r, l2 in enumerate(RATES)]) for p in (path, reference)
    )
    same = bool((np.abs(found - best) <= path.gap * found + reference.gap * best).all())
    room = work_bytes(N, P, K, len(RATES), X.dtype) / X.nbytes
    return {
        "fits": "yes",
        "same": same,
        "ratio": 1 + peak_bytes / X.nbytes,
        "room": room,
        "backend": path.backend,
    }


def table(shape: tuple[int, int, int], types: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the first table, in Markdown: each kind of input in a process of its own."""
    N, P, K = shape
    yield f"{N:,} x {P:,}, {K} classes, rates {RATES}\n"
    yield "| type | container | fits | same answer as float64 NumPy | back end | peak memory / input | stated at most |"
    yield "|---|---|---|---|---|---|---|"
    for kind in types:
        for container in CONTAINERS:
            call = f"trial({N}, {P}, {K}, {kind!r}, {container!r})"
            call = f"import json; from papershell.benchmarks.inputs import trial; print(json.dumps({call}))"
            done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            ratio = f"{found['ratio']:.2f} | {1.1 + found['room']:.2f}" if "ratio" in found else "| "
            same = {True: "yes", False: "NO"}.get(found.get("same"), "")
            yield f"| {kind} | {container} | {found['fits']} | {same} | {found.get('backend', '')} | {ratio} |"


def seconds(shape: tuple[int, int, int], rounds: int) -> list[str]:
    """Return the lines of the second table: medians of interleaved fits of one set of features in three types."""
    N, P, K = shape
    features = {kind: values(N, P, K, kind)[0] for kind in ("float16", "float32", "float64")}
    y = values(N, P, K, "float32")[1]
    calls = {kind: lambda X=X: timed(lambda: fit_path(X, y, RATES)) for kind, X in features.items()}
    for call in calls.values():
        call()
    found = {kind: float(np.median(times)) for kind, times in rounds_of(calls, rounds).items()}
    lines = [
        f"{N:,} x {P:,}, {K} classes, rates {RATES}\n",
        "| type | seconds | times float32 |",
        "|---|---|---|",
    ]
    return lines + [f"| {k} | {s:.2f} | {s / found['float32']:.2f} |" for k, s in found.items()]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    shape: Any = {"type": int, "nargs": 3, "metavar": ("N", "P", "K")}
    parser.add_argument("--shape", default=(200_000, 256, 2), help="of the first table", **shape)
    parser.add_argument(
        "--types", nargs="*", default=list(TYPES), help="of the first table; none leaves it out"
    )
    parser.add_argument("--timed-shape", default=(50_000, 768, 10), help="of the second table", **shape)
    parser.add_argument("--rounds", type=int, default=5, help="of the second table; 0 leaves it out")
    options = parser.parse_args()
    for line in table(tuple(options.shape), options.types) if options.types else []:
        print(line, flush=True)
    for line in seconds(tuple(options.timed_shape), options.rounds) if options.rounds else []:
        print(line, flush=True)


if __name__ == "__main__":
    main()
