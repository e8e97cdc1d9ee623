"""Rows that a fit does not see: a stratified part of the training rows, or stratified folds of them."""

from __future__ import annotations

import numpy as np

from papershell.trainers import SEED


def fold_masks(y: np.ndarray, folds: int) -> np.ndarray:
    """Return the rows that each of several stratified folds trains on: (F, N) bool for classes ``y`` (N,) 0..K-1.

    Raises
    ------
    ValueError
        There are more folds than a class has rows.
    """
    if folds > (fewest := np.bincount(y).min()):
        raise ValueError(
            f"{folds} folds need as many training samples of each class, but one has {fewest}; use fewer"
        )
    from sklearn.model_selection import StratifiedKFold

    masks = np.ones((folds, len(y)), dtype=bool)
    splits = StratifiedKFold(folds, shuffle=True, random_state=SEED).split(y[:, None], y)
    for mask, (_, held_out) in zip(masks, splits, strict=True):
        mask[held_out] = False
    return masks


def held_out_mask(y: np.ndarray, share: float, seed: int = SEED) -> np.ndarray:
    """Return the rows to train on if a random share of each class is held out: (N,) bool.

    Of a class of n rows, ``share * n`` are held out, rounded up or down, so that ``share * N`` are in all; each class
    keeps one row to train on.

    Parameters
    ----------
    y : (N,) classes 0..K-1, each present.
    share : above 0, below 1.
    seed : of the random choice.

    Raises
    ------
    ValueError
        The share is out of range, or so small that no row would be held out.
    """
    if not 0 < share < 1:
        raise ValueError(f"a share of {share:g} cannot be held out; choose one between 0 and 1, as 0.2")
    order = np.random.default_rng(seed).permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]  # class after class, at random inside each
    steps = np.floor(np.arange(len(y) + 1) * share + 1e-9)
    mask = np.ones(len(y), dtype=bool)
    mask[order[np.diff(steps) > 0]] = (
        False  # evenly spread over the order, so that each class gives its share
    )
    bare = np.setdiff1d(y, y[mask])
    mask[order[np.searchsorted(y[order], bare)]] = True
    if mask.all():
        raise ValueError(
            f"a share of {share:g} of {len(y)} training samples holds out none; choose a larger one, or folds"
        )
    return mask
