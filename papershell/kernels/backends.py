"""The one file that asks which devices and libraries exist: back-end name -> Backend.

A back end is a name of the registry below. Each operation keeps one module per back end
(``kernels/normalize/on_numba.py`` and so on), all with equal signatures; `implementation`
loads that module on first use. Nothing falls back silently: asking for a back end that is
absent raises `BackendError` with the reason.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType


class BackendError(RuntimeError):
    """A back end was asked for by name and cannot be used here; the message says why."""


@dataclass(frozen=True)
class Backend:
    """One way to run the kernels.

    Attributes
    ----------
    name : the registry name, as in ``backend="numba"``.
    module : file name of its implementation in every operation's folder.
    describe : returns one line on the device and library; raises `BackendError` when absent.
    """

    name: str
    module: str
    describe: Callable[[], str]


def cpu_count() -> int:
    """Return the number of CPU cores this process may use; processes that torchrun started share them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


@cache
def cpu_features() -> frozenset[str]:
    """Return the processor flags by their Linux names (``avx512_bf16``, ...); empty elsewhere."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            flags = next((line for line in lines if line.startswith("flags")), "")
    except OSError:
        return frozenset()
    return frozenset(flags.partition(":")[2].split())


def has_vnni() -> bool:
    """Return whether the processor multiplies bytes in vectors of 64 and of 32, as `kernels.logreg.vnni` does."""
    return cpu_features() >= {"avx512_vnni", "avx512vl"}


def has_matrix_units() -> bool:
    """Return whether the processor multiplies bytes in vectors or tiles (VNNI or AMX)."""
    return bool(cpu_features() & {"avx512_vnni", "avx_vnni", "amx_int8"})


def has_cuda() -> bool:
    """Return whether CuPy or PyTorch sees a CUDA device; loads neither where no driver is installed."""
    if not any(os.path.exists(path) for path in ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg")):
        return False
    return is_available("cupy") or (
        is_available("torch") and importlib.import_module("torch").cuda.is_available()
    )


def torch_has_cuda() -> bool:
    """Return whether PyTorch sees a CUDA device; does not load it where no driver is installed."""
    return has_cuda() and is_available("torch") and importlib.import_module("torch").cuda.is_available()


def gpu_count(library: str) -> int:
    """Return how many GPUs a framework sees: ``tensorflow``, ``jax`` or ``torch``, which is loaded."""
    framework = importlib.import_module(library)
    match library:
        case "tensorflow":
            return len(framework.config.list_physical_devices("GPU"))
        case "jax":
            return sum(device.platform == "gpu" for device in framework.devices())
        case _:
            return framework.cuda.device_count()


def has_bfloat16_products() -> bool:
    """Return whether PyTorch sums bfloat16 products in float32 (since 2.8) and its GPU has units for them (Ampere)."""
    torch = importlib.import_module("torch")
    return hasattr(torch.ops.aten.mm, "dtype") and torch.cuda.get_device_capability() >= (8, 0)


def free_device_bytes(device: str) -> int:
    """Return how much memory of a CUDA device PyTorch can still take."""
    return importlib.import_module("torch").cuda.mem_get_info(device)[0]


def array_namespace(library: str) -> ModuleType:
    """Return array-api-compat's namespace of ``torch`` or ``cupy``; scikit-learn carries a copy of it."""
    installed = importlib.util.find_spec("array_api_compat") is not None
    return importlib.import_module(f"{'' if installed else 'sklearn.externals.'}array_api_compat.{library}")


def _matrix_units() -> str:
    named = {"amx_tile": "AMX", "avx512_bf16": "AVX-512 BF16", "avx512_vnni": "VNNI", "avx512f": "AVX-512"}
    return (
        ", ".join(label for flag, label in named.items() if flag in cpu_features()) or "no matrix extensions"
    )


def _require(library: str, extra: str) -> None:
    if importlib.util.find_spec(library) is None:
        raise BackendError(f"{library} is not installed; pip install 'papershell[{extra}]' adds it")


def _numpy() -> str:
    import numpy

    return f"NumPy {numpy.__version__}, float64 reference"


def _numba() -> str:
    import numba

    products = "exact int8 products of bytes" if has_vnni() else "float32 products"
    return f"Numba {numba.__version__}, {cpu_count()} CPU threads: {products}"


def _torch() -> str:
    _require("torch", "torch")
    import torch

    if torch.cuda.is_available():
        products = "bfloat16 products of bytes, in pieces" if has_bfloat16_products() else "float32 products"
        return f"PyTorch {torch.__version__}, {torch.cuda.get_device_name()}: {products}"
    products = "exact int8 products of bytes" if has_matrix_units() else "float32 products"
    return f"PyTorch {torch.__version__}, CPU with {_matrix_units()}: {products}"


def _cupy() -> str:
    _require("cupy", "cuda")
    import cupy

    try:
        properties = cupy.cuda.runtime.getDeviceProperties(0)
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendError(f"no CUDA device: {error}") from error
    return f"CuPy {cupy.__version__}, {properties['name'].decode()}: float32 products"


def _numba_cuda() -> str:
    _require("numba_cuda", "cuda")
    from numba import cuda

    if not cuda.is_available():
        raise BackendError("no CUDA device that numba-cuda can use")
    return f"numba-cuda, {cuda.get_current_device().name.decode()}"


REGISTRY: dict[str, Backend] = {
    backend.name: backend
    for backend in (
        Backend("numpy", "reference", _numpy),
        Backend("numba", "on_numba", _numba),
        Backend("torch", "on_torch", _torch),
        Backend("cupy", "on_cupy", _cupy),
        Backend("numba-cuda", "on_numba_cuda", _numba_cuda),
    )
}


@cache
def _probe(name: str) -> tuple[bool, str]:
    try:
        return True, REGISTRY[name].describe()
    except BackendError as error:
        return False, str(error)
    except Exception as error:  # a broken installation is an absent back end with its reason
        return False, f"cannot be loaded: {type(error).__name__}: {error}"


def available_backends() -> dict[str, str]:
    """Return every back end's name with its device, or with the reason why it is absent.

    The presence of each is asked once per process. See `is_available` for the yes or no.
    """
    return {name: _probe(name)[1] for name in REGISTRY}


def is_available(name: str) -> bool:
    """Return whether the back end ``name`` can be used here."""
    return _probe(name)[0]


def require(name: str) -> Backend:
    """Return the back end ``name``.

    Raises
    ------
    BackendError
        The name is unknown, or the back end is absent; the message gives the reason.
    """
    if name not in REGISTRY:
        raise BackendError(f"unknown back end {name!r}; choose one of auto, {', '.join(REGISTRY)}")
    present, message = _probe(name)
    if not present:
        raise BackendError(f"back end {name!r} cannot be used here: {message}")
    return REGISTRY[name]


def implementation(operation: str, name: str) -> ModuleType:
    """Load the module that implements ``operation`` (a folder of ``kernels``) on back end ``name``.

    Raises
    ------
    BackendError
        The back end is unknown or absent, or has no such operation.
    """
    path = f"papershell.kernels.{operation}.{require(name).module}"
    if importlib.util.find_spec(path) is None:
        raise BackendError(f"back end {name!r} has no {operation}")
    return importlib.import_module(path)
