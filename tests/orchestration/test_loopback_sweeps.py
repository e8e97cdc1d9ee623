"""HyperDrive's sweeps: samples, the bandit policy, and sweeps that are ended; the whole way is a control script."""

from __future__ import annotations

import itertools
import math
import random
import time

import pytest
import scipy.stats
import werkzeug.exceptions as http
from hypothesis import given
from hypothesis import strategies as st

from papershell.orchestration.loopback.bandit import check, laggards
from papershell.orchestration.loopback.sampling import arguments, samples
from tests.orchestration.conftest import log_of


def expressions():
    from azureml.train.hyperdrive import parameter_expressions

    return parameter_expressions


def test_a_grid_is_each_combination_once():
    choice = expressions().choice
    space = {"--rate": choice(0.1, 0.2, 0.3), "width": choice(range(2))}
    found = [tuple(v.values()) for v in samples({"name": "GRID", "parameter_space": space}, random.Random())]
    assert found == list(itertools.product([0.1, 0.2, 0.3], [0, 1]))


def test_arguments_begin_with_dashes():
    assert arguments({"--rate": 0.5, "width": 2}) == ["--rate", "0.5", "--width", "2"]


@pytest.mark.parametrize(
    ("name", "settings", "reference"),
    [
        ("uniform", (2, 5), scipy.stats.uniform(2, 3)),
        ("loguniform", (-2, 1), scipy.stats.loguniform(math.exp(-2), math.exp(1))),
        ("normal", (3, 2), scipy.stats.norm(3, 2)),
        ("lognormal", (0, 1), scipy.stats.lognorm(1)),
    ],
)
def test_random_samples_follow_their_distribution(name, settings, reference):
    expression = getattr(expressions(), name)(*settings)
    drawn = samples({"name": "RANDOM", "parameter_space": {"x": expression}}, random.Random(0))
    values = [next(drawn)["x"] for _ in range(2000)]
    assert scipy.stats.kstest(values, reference.cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", ["quniform", "qloguniform", "qnormal", "qlognormal"])
def test_samples_with_a_step_are_its_multiples(name):
    expression = getattr(expressions(), name)(1, 4, 3)
    drawn = samples({"name": "random", "parameter_space": {"x": expression}}, random.Random(0))
    assert all(next(drawn)["x"] % 3 == 0 for _ in range(100))


@pytest.mark.parametrize(
    ("generator", "says"),
    [
        ({"name": "BayesianOptimization", "parameter_space": {}}, "take random or grid sampling"),
        ({"name": "GRID", "parameter_space": {"x": ["uniform", [0, 1]]}}, "cannot be drawn by uniform"),
        ({"name": "RANDOM", "parameter_space": {"x": ["nope", []]}}, "cannot be drawn by nope"),
        ({"name": "RANDOM", "parameter_space": {"x": ["uniform", [1]]}}, "cannot be drawn by uniform"),
    ],
)
def test_sampling_that_is_missing_is_one_sentence(generator, says):
    with pytest.raises(http.BadRequest, match=says):
        samples(generator, random.Random())


BANDIT = {
    "name": "Bandit",
    "properties": {"evaluation_interval": 2, "delay_evaluation": 3, "slack_amount": 0.2},
}


@pytest.mark.parametrize(
    ("goal", "logged", "ended"),
    [
        ("maximize", {"a": [0, 0, 0, 1.0], "b": [0.9, 0.7, 0.7, 0.7], "c": [0, 0, 0, 0.7]}, ["c"]),
        ("minimize", {"a": [9, 9, 9, 1.0], "b": [1.1, 9, 9, 9], "c": [9, 9, 9, 1.3]}, ["c"]),
        ("maximize", {"a": [5, 5, 5], "b": [0, 0, 0]}, []),  # 4 is the first multiple of 2 after the delay
        ("maximize", {"a": [5, 5, 5, 5], "b": []}, []),
    ],
)
def test_the_bandit_compares_the_best_values_at_the_same_step(goal, logged, ended):
    assert laggards(BANDIT, goal, logged, [run for run in logged if run != "a"]) == ended


def test_the_slack_factor_of_azures_own_example():
    """The best is 0.8 after 100 values: a run goes if its own best and a fifth of it are less."""
    policy = {"name": "Bandit", "properties": {"evaluation_interval": 100, "slack_factor": 0.2}}
    logged = {"X": [0.8] * 100, "Y": [0.66] * 100, "Z": [0.67] * 100}
    assert laggards(policy, "maximize", logged, ["Y", "Z"]) == ["Y"]


@given(
    st.dictionaries(st.sampled_from("abcd"), st.lists(st.floats(-5, 5), max_size=9), min_size=1),
    st.sampled_from(["maximize", "minimize"]),
)
def test_one_that_leads_at_every_step_is_never_ended(logged, goal):
    sign = 1 if goal == "maximize" else -1
    logged["best"] = [sign * 6.0] * 9
    assert "best" not in laggards(BANDIT, goal, logged, list(logged))


def test_a_policy_that_is_missing_is_one_sentence():
    with pytest.raises(http.BadRequest, match="take a BanditPolicy or none"):
        check({"name": "MedianStopping"})


SLOWLY = """
import sys, time
from azureml.core import Run
run = Run.get_context()
for step in range(600):
    run.log("score", float(sys.argv[2]))
    run.flush()
    time.sleep(0.05)
    if float(sys.argv[2]) == 1 and step > 20:
        break
"""


def test_a_sweep_ends_laggards_and_can_be_canceled(workspace, root, tmp_path):
    from azureml.core import Environment, Experiment, ScriptRunConfig
    from azureml.train.hyperdrive import (
        BanditPolicy,
        GridParameterSampling,
        HyperDriveConfig,
        PrimaryMetricGoal,
    )

    (tmp_path / "train.py").write_text(SLOWLY)
    source = ScriptRunConfig(str(tmp_path), "train.py", compute_target="c1", environment=Environment("e"))

    def submit(*scores: float):
        config = HyperDriveConfig(
            run_config=source, policy=BanditPolicy(slack_amount=0.1), max_total_runs=4, max_concurrent_runs=2,
            hyperparameter_sampling=GridParameterSampling({"--score": expressions().choice(*scores)}),
            primary_metric_name="score", primary_metric_goal=PrimaryMetricGoal.MAXIMIZE,
        )  # fmt: skip
        return Experiment(workspace, "sweeps").submit(config)

    run = submit(0.1, 1.0)
    run.wait_for_completion()
    states = {
        child.get_details()["runDefinition"]["arguments"][-1]: child.get_status()
        for child in run.get_children()
    }
    assert run.get_status() == "Completed" and states == {"0.1": "Canceled", "1.0": "Completed"}
    assert (
        "lags behind the best run"
        in (log_of(root, run).parents[1] / "azureml-logs/hyperdrive.txt").read_text()
    )
    second = submit(0.5, 0.5, 0.5)
    while len(list(second.get_children())) < 2:
        time.sleep(0.05)
    second.cancel()
    second.wait_for_completion(raise_on_error=False)
    assert second.get_status() == "Canceled" and len(list(second.get_children())) == 2
    while any(child.get_status() != "Canceled" for child in second.get_children()):
        time.sleep(0.05)
