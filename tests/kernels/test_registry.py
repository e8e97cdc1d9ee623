"""The registry: equal signatures everywhere, light imports, one clear error for what is absent."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from papershell import kernels
from papershell.kernels import BackendError, available_backends, normalize, read_idx
from papershell.kernels.backends import REGISTRY, is_available

ENTRY_POINTS = {"normalize": "normalize"}


def signature(operation: str, module: str) -> str:
    """The parameters of an entry point, read from its source: absent libraries need not be imported."""
    path = Path(kernels.__file__).parent / operation / f"{module}.py"
    functions = {
        node.name: node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)
    }
    return ast.unparse(functions[ENTRY_POINTS[operation]].args)


@pytest.mark.parametrize("operation", ENTRY_POINTS)
@pytest.mark.parametrize("backend", REGISTRY.values(), ids=REGISTRY)
def test_signatures_are_those_of_the_reference(operation: str, backend) -> None:
    assert signature(operation, backend.module) == signature(operation, "reference")


def test_the_core_imports_with_every_other_library_absent() -> None:
    script = """
        import sys
        libraries = "azureml cupy keras matplotlib mlflow numba numba.cuda numba_cuda sklearn torch"
        sys.modules |= dict.fromkeys(libraries.split())
        import numpy as np
        from papershell import kernels
        kernels.read_idx(b"\\0\\0\\x08\\x01\\0\\0\\0\\1a")
        kernels.normalize(np.zeros(9, np.uint8))
        print(kernels.available_backends()["cupy"])
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "cupy" in run.stdout


def test_importing_the_core_loads_nothing_heavy() -> None:
    heavy = {"numba", "torch", "cupy", "sklearn", "matplotlib", "scipy", "mlflow", "azureml", "keras"}
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            "import papershell.kernels, sys; print(*{name.partition('.')[0] for name in sys.modules})",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not heavy & set(run.stdout.split())


@pytest.mark.parametrize("name", [name for name in REGISTRY if not is_available(name)])
def test_an_absent_back_end_says_why(name: str) -> None:
    for call in (lambda: read_idx(b"", backend=name), lambda: normalize([1], backend=name)):
        with pytest.raises(BackendError) as caught:
            call()
        assert available_backends()[name] in str(caught.value)


def test_an_unknown_back_end_lists_the_known() -> None:
    with pytest.raises(BackendError, match="choose one of auto, numpy, numba"):
        normalize([1], backend="abacus")
