"""Bytes to numbers, on the MNIST training images: ``python -m benchmarks.normalize``.

Expected beforehand: every result is bound by memory, so the time follows the bytes written: float32 in half
the time of float64; ``out=`` twice as fast as allocating, where the kernel must clear each page first.
Stores past the caches spare the read of every line that is overwritten, a gain of at most 9/5 where
traffic is all (1 byte read, 4 read for nothing, 4 written).

Bandwidth counts what the operation needs, bytes read plus bytes written: 5 a pixel to float32, 9 to
float64, 8 a number for the copy of float32 by torch on all cores.

Found on 2 cores (AMD EPYC, AVX-512): as expected. With ``out=`` 3.6 to 5.3 ms (plain stores: 5.9 to 6.8),
1.2 to 1.6 times torch's bandwidth; allocating 9.7 ms, where the same stores gain nothing;
``X / 255.0`` takes 37.
"""

from __future__ import annotations

import numpy as np

from benchmarks.interleave import interleave
from benchmarks.mnist import find_images, load_data, print_goals
from kernels import normalize


def main() -> None:
    """Check, time, check again, print."""
    images = load_data(find_images())
    out32, out64 = np.ones(images.shape, np.float32), np.ones(images.shape, np.float64)
    exact = {"scale": 1.0, "std": 255.0, "dtype": "float64"}
    cases = {
        "X / 255.0": lambda: images / 255.0,
        "float32": lambda: normalize(images),
        "float32, out=": lambda: normalize(images, out=out32),
        "float64": lambda: normalize(images, **exact),  # type: ignore[arg-type]
        "float64, out=": lambda: normalize(images, **exact, out=out64),  # type: ignore[arg-type]
        "float32, out=, NumPy back end": lambda: normalize(images, out=out32, backend="numpy"),
    }
    moved_bytes = {name: images.size * (5 if "32" in name else 9) for name in cases}
    try:
        import torch

        source, target = torch.from_numpy(out32), torch.ones(images.shape)
        cases["torch copy"] = lambda: target.copy_(source)
        moved_bytes["torch copy"] = images.size * 8
    except ImportError:
        print("  torch is not installed: its copy is left out")

    def check() -> None:
        expected = images / 255.0
        assert np.array_equal(cases["float64"](), expected) and np.array_equal(
            cases["float64, out="](), expected
        )
        expected32 = images.astype(np.float32) * np.float32(1 / 255)
        for name in ("float32", "float32, out=", "float32, out=, NumPy back end"):
            assert np.array_equal(cases[name](), expected32), name

    check()
    seconds = interleave(cases, rounds=25)
    check()
    print(f"{images.shape} uint8: median of interleaved rounds, result checked before and after")
    bandwidth = {name: moved_bytes[name] / value / 1e9 for name, value in seconds.items()}
    for name, value in seconds.items():
        print(f"  {name:32s} {value * 1e3:7.1f} ms {bandwidth[name]:6.1f} GB/s")
    base = seconds["X / 255.0"]
    goals = [
        ("normalize, allocating, against X / 255.0", base / seconds["float32"], 3.0),
        ("normalize, out=, against X / 255.0", base / seconds["float32, out="], 6.0),
    ]
    if "torch copy" in seconds:
        ratio = bandwidth["float32, out="] / bandwidth["torch copy"]
        goals.append(("bandwidth with out=, of torch's threaded copy", ratio, 0.75))
    print_goals(goals)


if __name__ == "__main__":
    main()
