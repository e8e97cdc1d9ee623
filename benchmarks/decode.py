"""MNIST from file to array, and to normalized pixels: ``python -m benchmarks.decode``.

Expected beforehand: isal and libdeflate called bare take 0.4 to 0.5 of gzip's time, and a wrapper loses a few
percent on them. Inflating as a stream was expected to cost something; it wins instead, because a one-shot
call fills 47 MB of fresh pages, each of which faults, and 64 KiB at a time stay in the cache.
Decoding and normalizing on two cores was expected to take little more than the longer of the two.

Found on 2 cores (AMD EPYC, AVX-512): `read_idx` beats both bare libraries, 53 ms against 60 (libdeflate) and
74 (isal), and load_data by 2.6. `read_normalized` needs its second core: with both idle it takes 60 ms,
3.08 times as fast as ``load_data(...) / 255.0`` (float64: 3.05); with the other core busy 70, 2.5 times.
Its floor is inflate and checksum, 49 ms, so a ratio of 4 is out of reach here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.interleave import interleave
from benchmarks.mnist import find_images, load_data, print_goals
from kernels import normalize, read_idx, read_normalized


def bare_libraries(path: Path) -> dict[str, Callable[[], object]]:
    """Return one call per inflate library that is installed, file to bytes and nothing more."""
    cases: dict[str, Callable[[], object]] = {}
    try:
        from isal import isal_zlib

        cases["isal, bare"] = lambda: isal_zlib.decompress(path.read_bytes(), 31)
    except ImportError:
        print("  isal is not installed")
    try:
        import deflate

        cases["libdeflate, bare"] = lambda: deflate.gzip_decompress(path.read_bytes())
    except ImportError:
        print("  libdeflate is not installed: pip install 'papershell[bench]' adds it")
    return cases


def check(path: Path) -> None:
    """Stop unless every case gives what gzip, struct and NumPy give."""
    images = load_data(path)
    shape = (len(images), -1)
    assert np.array_equal(read_idx(path).reshape(shape), images)
    exact = {"scale": 1.0, "std": 255.0, "dtype": "float64"}
    assert np.array_equal(read_normalized(path, **exact).reshape(shape), images / 255.0)  # type: ignore[arg-type]
    assert np.array_equal(read_normalized(path).reshape(shape), images * np.float32(1 / 255))


def main() -> None:
    """Check, time, check again, print."""
    path = find_images()
    check(path)
    bare = bare_libraries(path)
    seconds = interleave(
        {
            "load_data": lambda: load_data(path),
            **bare,
            "read_idx": lambda: read_idx(path),
            "load_data / 255.0": lambda: load_data(path) / 255.0,
            "normalize(read_idx), float32": lambda: normalize(read_idx(path)),
            "read_normalized, float32": lambda: read_normalized(path),
            "read_normalized, float64": lambda: read_normalized(path, dtype="float64"),
        }
    )
    check(path)
    print(f"{path.name}: median of interleaved rounds, result checked before and after")
    for name, value in seconds.items():
        print(f"  {name:32s} {value * 1e3:7.1f} ms")
    goals = [("read_idx against load_data", seconds["load_data"] / seconds["read_idx"], 2.4)]
    if bare:
        best = min(seconds[name] for name in bare)
        goals.append(("read_idx against the best bare library", best / seconds["read_idx"], 0.95))
    for dtype in ("float32", "float64"):
        ratio = seconds["load_data / 255.0"] / seconds[f"read_normalized, {dtype}"]
        goals.append((f"read_normalized ({dtype}) against load_data / 255.0", ratio, 3.0))
    print_goals(goals)


if __name__ == "__main__":
    main()
