"""numba-cuda's kernels in Numba's simulator: their arithmetic and indexing, where no GPU can run them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap


def simulate(script: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr


def test_normalize() -> None:
    simulate("""
        from importlib import import_module
        import numpy as np
        device = import_module("papershell.kernels.normalize.on_numba_cuda").normalize
        host = import_module("papershell.kernels.normalize.reference").normalize
        images = np.arange(3 * 4 * 31, dtype=np.uint16).astype(np.uint8).reshape(3, 4, 31)
        for dtype in ("float32", "float16", "float64"):
            for mean in (0.3, np.linspace(0, 1, 31), np.linspace(0, 1, 4)[:, None]):
                constants = {"scale": 1 / 255, "mean": mean, "std": 0.5, "dtype": dtype, "out": None}
                result = device(images, **constants).copy_to_host()
                assert result.tobytes() == host(images, **constants).tobytes(), (dtype, mean)
    """)
