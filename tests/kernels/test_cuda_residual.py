"""The fused CUDA residual, run on the host against the formulas, and compiled for real devices by NVRTC."""

from __future__ import annotations

import ctypes
import importlib.metadata

import numpy as np
import pytest

from kernels import available_backends
from kernels.backends import is_available
from kernels.logreg import on_cuda
from kernels.logreg.losses import value_and_residual
from kernels.logreg.products import Samples
from tests.kernels import compiled_cuda

pytestmark = pytest.mark.skipif(not is_available("torch"), reason=available_backends()["torch"])


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    return compiled_cuda.build(tmp_path_factory.mktemp("cuda"))


@pytest.mark.parametrize("loss", ["multinomial", "ovr"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "2 pieces", "3 pieces"])
@pytest.mark.parametrize(("n", "A", "K"), [(1, 1, 2), (33, 1, 3), (31, 7, 10), (64, 32, 2)])
def test_the_kernel_is_the_formula(kernel, monkeypatch, n, A, K, dtype, loss):
    import torch

    from kernels.logreg import on_torch_cuda

    monkeypatch.setattr(on_torch_cuda.BytesEngine, "kernel", lambda self, name: kernel(name))
    monkeypatch.setattr(on_cuda, "THREADS", 10)  # several blocks, the last one partly used
    rng = np.random.default_rng(n + A)
    Z, bias = 20 * rng.normal(size=(n, K * A)), rng.normal(size=K * A)
    Z[0] *= 50  # exp of it overflows
    weight, fold = rng.uniform(0, 2, (3, n)) * (rng.random((3, n)) < 0.8), rng.integers(3, size=A)
    samples = Samples(np.zeros((n, 1), np.uint8), rng.integers(K, size=n), weight, K, loss, 1.0, True)
    engine = on_torch_cuda.BytesEngine(samples, device="cpu")
    if dtype.endswith("pieces"):
        count = int(dtype[0])
        given = torch.tensor(np.hstack([Z / count] * count), dtype=torch.float32)
        unit, Z = 0.5 ** (8 * count + 1), given.double().numpy().reshape(n, count, -1).sum(axis=1)
    else:
        given = torch.tensor(Z, dtype=getattr(torch, dtype))
        unit, Z = torch.finfo(given.dtype).eps / 2, given.double().numpy()
    expected = value_and_residual(
        np,
        np.moveaxis((Z + bias).reshape(n, K, A), 1, 2),
        np.eye(K)[samples.y][:, None],
        weight[fold].T,
        loss,
    )
    found, D, total = engine.residual(given.clone(), torch.tensor(bias), slice(None), (A, K), fold)
    joined = engine.join(D.double(), K * A).numpy()
    exact = np.moveaxis(expected[1], 2, 1).reshape(n, K * A)
    np.testing.assert_allclose(found.numpy(), expected[0], rtol=1e-13)
    np.testing.assert_allclose(joined, exact, rtol=0, atol=2 * (unit + 1e-15) * weight.max())
    np.testing.assert_allclose(total.numpy(), joined.sum(axis=0), rtol=0, atol=1e-13 * n)


@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_90", "sm_100"])
def test_nvidias_compiler_takes_the_source(architecture):
    """NVRTC needs no driver, and machine code for a device proves that its assembler took the kernels too."""
    try:
        files = importlib.metadata.files("nvidia-cuda-nvrtc") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("nvidia-cuda-nvrtc is not installed; pip install 'papershell[test]' adds it")
    libraries = sorted(str(f.locate()) for f in files if ".so" in f.name and ".alt." not in f.name)
    _, nvrtc = map(ctypes.CDLL, libraries)  # its built-in functions first: it finds them only loaded
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), on_cuda.SOURCE.encode(), b"residual.cu", 0, None, None)
    options = (ctypes.c_char_p * 1)(f"--gpu-architecture={architecture}".encode())
    failed = nvrtc.nvrtcCompileProgram(program, 1, options)
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    assert not failed and not log.value, log.value.decode()
    nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size))
    code = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetCUBIN(program, code)
    for name in ("residual_float32", "residual_float64", "residual_bfloat16"):
        assert f".text.{name}".encode() in code.raw
