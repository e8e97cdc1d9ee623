"""The fused CUDA residual, run on the host against the formulas, and compiled for real devices by NVRTC."""

from __future__ import annotations

import ctypes
import importlib.metadata

import numpy as np
import pytest

from papershell.kernels import available_backends
from papershell.kernels.backends import implementation, is_available
from papershell.kernels.logreg import on_cuda
from papershell.kernels.logreg.losses import loss_and_residual
from papershell.kernels.logreg.problem import Problem, Samples
from tests.conftest import require_gpu
from tests.kernels import compiled_cuda

ON_GPU = [pytest.param(backend, marks=pytest.mark.gpu) for backend in ("torch", "cupy")]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    return compiled_cuda.build(tmp_path_factory.mktemp("cuda"))


@pytest.fixture(params=["host", *ON_GPU])
def make_engine(request, monkeypatch):
    """What takes samples to an engine with the kernel: of the host's compiler, or of a GPU."""
    if request.param == "host":
        if not is_available("torch"):
            pytest.skip(available_backends()["torch"])
        from papershell.kernels.logreg.on_torch_cuda import BytesEngine

        kernel = request.getfixturevalue("kernel")
        monkeypatch.setattr(BytesEngine, "kernel", lambda self, name: kernel(name))
        return lambda samples: BytesEngine(samples, device="cpu")
    require_gpu(request.param)
    return implementation("logreg", request.param).Engine


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("length", [0.0, 0.7])
@pytest.mark.parametrize(("n", "K"), [(1, 1), (33, 3), (31, 10), (64, 1)])
def test_the_kernel_is_the_formula(make_engine, monkeypatch, n, K, dtype, length):
    monkeypatch.setattr(on_cuda, "THREADS", 10)  # several blocks, the last one partly used
    rng = np.random.default_rng(n + K)
    Z, D = (20 * rng.normal(size=(n, K)).astype(dtype) for _ in range(2))
    Z[0] *= 50  # exp of it overflows
    weight = rng.uniform(0, 2, (1, n)) * (rng.random(n) < 0.8)
    y = rng.integers(max(K, 2), size=n)
    engine = make_engine(Samples(np.zeros((n, 1), np.uint8), y, weight, max(K, 2), 1.0, True))
    engine.work_on(0, Problem(0, 1 if K == 1 else None, np.ones(2), np.ones(max(K, 2)), np.inf, 1.0))
    kept = engine.kept[0]
    kept.Z, kept.D = engine.array(Z.copy()), engine.array(D)
    at = Z + np.asarray(length, dtype) * D
    value, R = loss_and_residual(np, at.astype(np.float64), (y == 1) * 1 if K == 1 else y, weight[0])
    found_value, found, total = (
        engine.to_host(engine.xp.astype(part, engine.xp.float64))
        for part in engine.residual(kept, length, slice(None))
    )
    unit = np.finfo(dtype).eps
    logits = np.abs(at).max() * unit  # each is off by as much after the step
    np.testing.assert_allclose(found_value, value, rtol=1e-13, atol=4 * n * logits)
    np.testing.assert_allclose(found, R, rtol=0, atol=2 * (2 * logits + unit) * weight.max())
    np.testing.assert_allclose(total, found.sum(axis=0), rtol=0, atol=1e-13 * n)


@pytest.mark.gpu
def test_slices_on_a_gpu_are_float32_grade():
    """Matrix units truncate where a processor rounds; float32 products of the same floats set the measure."""
    require_gpu("torch")
    import torch

    from papershell.kernels.logreg.on_torch_cuda import BytesEngine, split_bfloat16

    rng = np.random.default_rng(0)
    X, W = rng.integers(0, 256, (20_000, 785), dtype=np.uint8), rng.normal(size=(40, 785))
    samples = Samples(X, np.arange(len(X)) % 2, np.ones((1, len(X))), 2, 1.0, False)
    engine, exact = BytesEngine(samples), X @ W.T
    error = {}
    for slices in (1, 2, 3):
        found = engine.matmul(split_bfloat16(engine.array(W), slices), engine.X.T)
        error[slices] = np.abs(engine.to_host(engine.joined_slices(found.double(), len(W))).T - exact).max()
    single = torch.tensor(X, device="cuda").float() @ engine.array(W).float().T
    assert error[3] <= 4 * np.abs(engine.to_host(single.double()) - exact).max()
    assert error[3] < error[2] / 50 < error[1] / 2500


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
    for name in ("residual_float32", "residual_float64"):
        assert f".text.{name}".encode() in code.raw
