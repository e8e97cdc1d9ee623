"""A PyTorch run on two nodes, and the PyTorch estimator's successor configuration."""

from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace
from azureml.core.runconfig import PyTorchConfiguration
from cluster import find_or_create

ws = Workspace.from_config()
src = ScriptRunConfig(
    source_directory="jobs", script="torch_ranks.py", compute_target=find_or_create(ws),
    environment=Environment("pytorch-env"),
    distributed_job_config=PyTorchConfiguration(process_count=2, node_count=2),
)  # fmt: skip
run = Experiment(ws, "pytorch").submit(src)
run.wait_for_completion()
assert run.get_status() == "Completed" and run.get_metrics() == {"sum of ranks": 1}
