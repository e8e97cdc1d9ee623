"""Problems for the solver suites: shapes, classes, seeds, and what the random features must be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from papershell.benchmarks import problems
from papershell.benchmarks.problems import Problem

MAKERS: dict[str, Callable[[float], Problem]] = {
    "class centres": lambda share: problems.class_centres(2_000, 24, 10, 1.0, "far", share),
    "one in": lambda share: problems.one_in(20_000, 6, 500, share),
    "logistic": lambda share: problems.logistic(5_000, 5, share),
}


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("share", [1.0, 0.02])
def test_generators_make_every_class_and_the_same_numbers_again(
    maker: Callable[[float], Problem], share: float
) -> None:
    problem = maker(share)
    assert np.array_equal(np.unique(problem.y), np.arange(problem.n_classes))
    assert problem.X.shape[0] == len(problem.y) and np.isfinite(problem.X).all()
    assert f"{len(problem.y):,} x {problem.X.shape[1]:,}" in problem.name
    for cached in (problems.class_centres, problems.one_in, problems.logistic):
        cached.cache_clear()
    again = maker(share)
    assert again is not problem and np.array_equal(again.X, problem.X) and np.array_equal(again.y, problem.y)


def test_one_in_has_as_many_positives_as_it_says() -> None:
    assert problems.one_in(20_000, 6, 500).y.sum() == 40


def test_far_classes_separate_and_near_ones_overlap() -> None:
    """Nearest centre of the own class, in units of the spread: what the separation is about."""
    for separation, least, most in ((1.0, 0.99, 1.0), (0.1, 0.1, 0.9)):
        p = problems.class_centres(5_000, 256, 20, separation)
        spread = (1 + np.arange(256)) ** 0.6
        Z = p.X * spread
        centres = np.array([Z[p.y == k].mean(axis=0) for k in range(20)])
        nearest = ((Z[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
        assert least <= (nearest == p.y).mean() <= most


def test_peers_get_bytes_as_pixels_and_floats_as_they_are() -> None:
    p = problems.class_centres(2_000, 24, 10, 1.0)
    assert p.as_floats() is p.X
    bytes_ = Problem("bytes", np.array([[0, 255]], np.uint8), np.zeros(1, np.int64), problems.PIXEL)
    assert np.array_equal(bytes_.as_floats(), [[0.0, 1.0]]) and bytes_.as_floats().dtype == np.float64
    (X, y), *rest = bytes_.row_blocks()
    assert not rest and np.array_equal(X, [[0.0, 1.0]]) and len(y) == 1


def slow_features(image: np.ndarray, weights: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """One image's features, patch by patch, as the paper says it."""
    Z = np.empty((27, 27, weights.shape[1]))
    for i in range(27):
        for j in range(27):
            patch = image[:, i : i + 6, j : j + 6].astype(np.float64).ravel()
            patch = (patch - patch.mean()) / np.sqrt(patch.var() + 10)
            Z[i, j] = np.maximum((patch - mean) @ weights - 0.25, 0)
    quadrants = [
        Z[i, j].sum(axis=(0, 1)) for i in (slice(14), slice(14, 27)) for j in (slice(14), slice(14, 27))
    ]
    return np.concatenate(quadrants)


def test_random_features_are_those_of_a_loop_over_patches() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 3, 32, 32)).astype(np.uint8)
    weights, mean = rng.standard_normal((108, 7)).astype(np.float32), rng.standard_normal(108) * 0.1
    found = problems._encode(images, weights, mean.astype(np.float32))
    right = np.array([slow_features(image, weights, mean) for image in images])
    np.testing.assert_allclose(found, right, rtol=0, atol=108 * 2e-7 * np.abs(right).max())


def test_random_features_are_standardized_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from papershell.trainers import cifar10

    folder = tmp_path / "cifar10"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for name in (*cifar10.TRAIN_FILES, cifar10.TEST_FILE):
        records = rng.integers(0, 256, (10, cifar10.RECORD_BYTES)).astype(np.uint8)
        records[:, 0] = np.arange(10)
        (folder / name).write_bytes(records.tobytes())
    monkeypatch.setenv("PAPERSHELL_DATA", str(tmp_path))
    monkeypatch.setenv("PAPERSHELL_CACHE", str(tmp_path / "cache"))
    for cached in (problems.cifar10, problems.cifar10_features):
        cached.cache_clear()
    try:
        problem = problems.cifar10_features()
    finally:
        for cached in (problems.cifar10, problems.cifar10_features):
            cached.cache_clear()
    assert problem.X.shape == (50, 1600) and problem.X.dtype == np.float32
    np.testing.assert_allclose(problem.X.mean(axis=0), 0, atol=1e-4)
    (kept,) = (tmp_path / "cache" / "benchmarks").iterdir()
    assert np.array_equal(np.load(kept), problem.X)
