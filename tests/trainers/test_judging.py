"""Reports and splits beside scikit-learn's and SciPy's own figures."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from papershell.trainers.judging import judge, wilson
from papershell.trainers.splits import held_out_mask


@given(n=st.integers(1, 500), data=st.data())
def test_the_interval_is_wilsons(n, data):
    from scipy.stats import binomtest

    hits = data.draw(st.integers(0, n))
    peer = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose(wilson(hits, n), (peer.low, peer.high), atol=1e-12)


@pytest.fixture
def predictions():
    """Classes, own and predicted class of 300 samples, and the probabilities of all four classes."""
    rng = np.random.default_rng(5)
    chances = rng.dirichlet(np.ones(4), 300)
    return np.array(["a", "b", "c", "d"]), rng.integers(0, 3, 300), chances.argmax(axis=1), chances


def test_a_report_has_scikit_learns_figures(predictions):
    from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support

    classes, y, predicted, chances = predictions
    each = np.arange(300)
    report = judge("test", classes, each, y, predicted, chances[each, y], chances[each, predicted])
    precision, recall, _, n = precision_recall_fscore_support(
        y, predicted, labels=range(4), zero_division=np.nan
    )
    record = json.loads(json.dumps(report.record(), allow_nan=False))
    assert record["confusion"] == confusion_matrix(y, predicted, labels=range(4)).tolist()
    assert record["accuracy"] == (y == predicted).mean() and record["n"] == 300
    assert record["log_loss"] == pytest.approx(log_loss(y, chances, labels=range(4)))
    assert record["interval"][0] < record["accuracy"] < record["interval"][1]
    assert [each["n"] for each in record["per_class"]] == n.tolist()
    for name, expected in (("precision", precision), ("recall", recall)):
        found = [np.nan if each[name] is None else each[name] for each in record["per_class"]]
        np.testing.assert_allclose(found, expected)
    assert record["per_class"][3] | {"precision": 0.0} == {
        "class": "d",
        "precision": 0.0,
        "recall": None,
        "n": 0,
    }


def test_the_mistakes_are_the_most_confident_ones(predictions):
    classes, y, predicted, chances = predictions
    rows, each = np.arange(300) + 1000, np.arange(300)
    report = judge("test", classes, rows, y, predicted, chances[each, y], chances[each, predicted])
    wrong = sorted((-chances[i, predicted[i]], i) for i in each if y[i] != predicted[i])[:12]
    for mistake, (chance, i) in zip(report.record()["mistakes"], wrong, strict=True):
        assert mistake == {
            "row": 1000 + i, "class": classes[y[i]], "predicted": classes[predicted[i]], "probability": -chance,
        }  # fmt: skip


def test_without_mistakes_there_are_none():
    y = np.array([0, 1])
    report = judge("test", np.array([3, 8]), y, y, y, np.ones(2), np.ones(2))
    assert report.record()["mistakes"] == [] and report.accuracy == 1 and report.interval[1] == 1


@given(
    counts=st.lists(st.integers(1, 60), min_size=2, max_size=12),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 9),
)
def test_a_held_out_part_is_stratified_and_leaves_every_class(counts, share, seed):
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    try:
        mask = held_out_mask(y, share, seed)
    except ValueError as error:
        assert "holds out none" in str(error)
        return
    held_out = np.bincount(y[~mask], minlength=len(counts))
    for own, count in zip(held_out, counts, strict=True):
        assert own < count and own <= np.ceil(share * count)
        assert own >= np.floor(share * count) or own == count - 1
    np.testing.assert_array_equal(mask, held_out_mask(y, share, seed))


@pytest.mark.parametrize("share", [0, 1, -0.5, 1.5, float("nan")])
def test_a_share_that_cannot_be_is_one_sentence(share):
    with pytest.raises(ValueError, match="cannot be held out; choose one between 0 and 1"):
        held_out_mask(np.arange(9) % 3, share)
