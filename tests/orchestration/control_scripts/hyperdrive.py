"""HyperDrive: random and grid sampling, a bandit policy, the best run."""

from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace
from azureml.train.hyperdrive import (
    BanditPolicy,
    GridParameterSampling,
    HyperDriveConfig,
    HyperDriveRun,
    PrimaryMetricGoal,
    RandomParameterSampling,
    choice,
    uniform,
)
from cluster import find_or_create

ws = Workspace.from_config()
src = ScriptRunConfig(
    "jobs", "steps.py", ["--steps", 3], compute_target=find_or_create(ws), environment=Environment("example")
)
sampling = GridParameterSampling({"--rate": choice(0.1, 0.5), "--width": choice(1, 2)})
grid = HyperDriveConfig(
    run_config=src, hyperparameter_sampling=sampling,
    primary_metric_name="score", primary_metric_goal=PrimaryMetricGoal.MAXIMIZE,
    max_total_runs=10, max_concurrent_runs=2,
)  # fmt: skip
exp = Experiment(ws, "hyperdrive")
run = exp.submit(grid)
run.wait_for_completion(show_output=True)
assert run.get_status() == "Completed" and len(list(run.get_children())) == 4
best = run.get_best_run_by_primary_metric()
assert best.get_metrics()["score"][-1] == 3 * 0.5 * 2
assert best.get_details()["runDefinition"]["arguments"][-4:] == ["--rate", "0.5", "--width", "2"]
scores = [child["best_primary_metric"] for child in run.get_children_sorted_by_primary_metric()]
assert scores == sorted(scores, reverse=True) and len(run.get_metrics()) == 4
found = next(exp.get_runs())
assert isinstance(found, HyperDriveRun) and len(found.get_hyperparameters()) == 4
sampling = RandomParameterSampling({"--rate": uniform(0.05, 0.1), "--width": choice(1, 1000)})
random = HyperDriveConfig(
    run_config=src, hyperparameter_sampling=sampling, policy=BanditPolicy(slack_factor=0.1, evaluation_interval=1),
    primary_metric_name="score", primary_metric_goal=PrimaryMetricGoal.MAXIMIZE, max_total_runs=2,
)  # fmt: skip
run = exp.submit(random)
run.wait_for_completion()
assert {child.get_status() for child in run.get_children()} <= {"Completed", "Canceled"}
