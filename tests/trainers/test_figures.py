"""Figures: whole PNG files with something on them."""

from __future__ import annotations

import numpy as np
import pytest

from papershell.trainers.figures import draw_accuracy, draw_captioned, draw_confusion, draw_samples


def pixels(path) -> np.ndarray:
    from matplotlib.image import imread

    return imread(path)[..., :3]


@pytest.mark.parametrize("shape", [(40, 28, 28), (40, 32, 32, 3), (3, 8, 12)])
def test_samples_of_every_shape_are_drawn(tmp_path, shape):
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    draw_samples(tmp_path / "new" / "samples.png", images, np.arange(len(images)))
    drawn = pixels(tmp_path / "new" / "samples.png")
    assert drawn.min() < 0.2 and drawn.max() == 1
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["samples.png"]


def test_samples_are_the_same_each_time_and_others_with_another_seed(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (100, 8, 8), dtype=np.uint8)
    for name, seed in (("first", 42), ("again", 42), ("other", 43)):
        draw_samples(tmp_path / name, images, np.arange(100), seed)
    first, again, other = ((tmp_path / name).read_bytes() for name in ("first", "again", "other"))
    assert first == again != other


def test_the_best_rate_is_marked_where_it_stands(tmp_path):
    """The orange ring is left of the middle for a small rate, right of it for a large one."""
    rates, accuracy = np.array([100.0, 0.01, 1.0]), np.array([0.9, 0.9, 0.9])
    for best, left in ((1, True), (0, False)):
        draw_accuracy(tmp_path / "a.png", rates, {"validation": accuracy}, best, "three rates")
        drawn = pixels(tmp_path / "a.png")
        ring = (drawn[..., 0] > 0.9) & (drawn[..., 1] < 0.6) & (drawn[..., 2] < 0.5)
        assert (np.nonzero(ring)[1].mean() < drawn.shape[1] / 2) == left


def test_captions_of_two_lines_stand_above_their_images(tmp_path):
    images = np.full((7, 8, 8), 255, np.uint8)
    draw_captioned(tmp_path / "c.png", images, ["8, not 3\n97%"] * 7, (2, 6))
    drawn = pixels(tmp_path / "c.png").mean(axis=2)
    black = (drawn < 0.1).mean(axis=1)
    assert (
        0 < black[: len(black) // 8].max() < 0.5 < black.max()
    )  # words first, then six black images in a row


@pytest.mark.parametrize("K", [2, 20, 60])
def test_a_confusion_matrix_of_any_size_is_dark_on_the_diagonal(tmp_path, K):
    classes = np.array([f"class {k}" for k in range(K)])
    draw_confusion(tmp_path / "m.png", 9000 * np.eye(K, dtype=int) + 1, classes, "title")
    draw_confusion(tmp_path / "flat.png", np.ones((K, K), int), classes, "title")
    dark, flat = ((pixels(tmp_path / f"{name}.png")[..., 0] < 0.2).mean() for name in ("m", "flat"))
    assert dark > flat + 0.3 / K  # the axes take most of the picture, the diagonal 1 / K of them
