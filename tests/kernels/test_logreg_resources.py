"""What a fit takes it gives back: threads, memory, BLAS's threads, also after errors and beside other fits."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from papershell.kernels import fit_path
from papershell.kernels.backends import implementation
from papershell.kernels.threads import one_blas_thread
from tests.kernels.logreg_reference import ON_HOST, blobs, in_bytes

X, Y = blobs(300, 12)


def blas_threads() -> list[int]:
    """Return the number of threads of every BLAS library that is loaded."""
    return sorted(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")


@pytest.mark.parametrize("backend", ON_HOST)
def test_fifty_fits_leave_no_more_threads_than_two(backend):
    data, scale = (in_bytes(X), 1 / 255) if backend == "torch" else (X, 1.0)
    for _ in range(2):
        fit_path(data, Y, 1.0, backend=backend, scale=scale)
    before = threading.active_count()
    for _ in range(48):
        fit_path(data, Y, 1.0, backend=backend, scale=scale)
    assert threading.active_count() == before


FITS = """
import gc, json, sys
import numpy as np
import psutil
from papershell import fit_path

y, process, rng = np.arange(40_000) % 2, psutil.Process(), np.random.default_rng(0)
X = rng.integers(0, 256, (40_000, 25), dtype=np.uint8)
X = X if sys.argv[1] == "torch" else X.astype(np.float32)

def stop(passes, left, norm):
    if passes > 1:
        raise KeyboardInterrupt

for number in range(50):
    for options in ({}, {"callback": stop}):
        try:
            fit_path(X.copy(), y, 1.0, scale=1 / 255, backend=sys.argv[1], tol=1e-9, **options)
        except KeyboardInterrupt:
            pass
    gc.collect()
    if number in (1, 49):
        print(json.dumps([process.memory_info().rss, process.num_threads(), X.nbytes]))
"""


@pytest.mark.parametrize("backend", ON_HOST)
def test_fifty_fits_whole_and_interrupted_hold_no_more_memory_than_two(backend):
    done = subprocess.run([sys.executable, "-c", FITS, backend], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (two, threads, size), (fifty, threads_at_the_end, _) = map(json.loads, done.stdout.splitlines())
    assert fifty - two < 48 * size / 2  # of the two fits of each round not even one in four has left its X
    assert threads_at_the_end <= threads


@pytest.mark.parametrize("backend", ON_HOST)
def test_no_engine_outlives_its_fit(backend, monkeypatch):
    """An engine holds X; a thread that remembered one would keep both alive."""
    module = implementation("logreg", backend)
    make, alive = module.Engine, []

    def engine(samples):
        made = make(samples)
        alive.append(weakref.ref(made))
        return made

    monkeypatch.setattr(module, "Engine", engine)
    data, scale = (in_bytes(X), 1 / 255) if backend == "torch" else (X, 1.0)
    fit_path(data, Y, 1.0, backend=backend, scale=scale)
    gc.collect()
    assert alive and all(reference() is None for reference in alive)


@pytest.mark.parametrize("backend", ON_HOST)
def test_blas_has_its_threads_back_after_a_fit_and_after_an_error(backend):
    def stop(*_):
        raise KeyboardInterrupt

    fit_path(X, Y, 1.0, backend=backend)
    before = blas_threads()
    fit_path(X, Y, 1.0, backend=backend)
    assert blas_threads() == before
    with pytest.raises(KeyboardInterrupt):
        fit_path(X, Y, 1.0, backend=backend, callback=stop)
    assert blas_threads() == before


def test_overlapping_limits_leave_blas_as_it_was():
    """Whoever comes first and whoever leaves last: one thread must not remain."""
    np.linalg.inv(np.eye(3))
    with one_blas_thread():
        pass
    before, entered, leave = blas_threads(), threading.Event(), threading.Event()

    def other() -> None:
        with one_blas_thread():
            entered.set()
            leave.wait()

    thread = threading.Thread(target=other)
    with one_blas_thread():
        thread.start()
        entered.wait()
        assert set(blas_threads()) == {1}
    leave.set()
    thread.join()
    assert blas_threads() == before
    with pytest.raises(KeyError), one_blas_thread():
        raise KeyError
    assert blas_threads() == before


@pytest.mark.parametrize("backend", ON_HOST)
def test_two_fits_at_once_find_what_they_find_alone(backend):
    alone, found = fit_path(X, Y, [0.1, 10.0], backend=backend), {}

    def fit(name: int) -> None:
        found[name] = fit_path(X, Y, [0.1, 10.0], backend=backend)

    before = blas_threads()
    threads = [threading.Thread(target=fit, args=(name,)) for name in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert blas_threads() == before
    for solution in found.values():
        # A fit alone in another thread differs as much: the heap of a thread is aligned otherwise.
        np.testing.assert_allclose(solution.coef, alone.coef, rtol=0, atol=len(Y) * np.finfo(float).eps)
    assert len(found) == 2
