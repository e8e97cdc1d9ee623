"""CUDA engine through CuPy: everything resident on the device, float32 products, float64 check."""

from __future__ import annotations

from kernels.logreg.products import FloatEngine, Samples


class Engine(FloatEngine):
    """Float32 products on the current CUDA device."""

    converted_bytes = 1 << 30

    def __init__(self, samples: Samples):
        from array_api_compat import cupy

        super().__init__(samples, cupy)

    def to_host(self, values):
        """See `FloatEngine.to_host`; CuPy copies on request only."""
        return values.get()
