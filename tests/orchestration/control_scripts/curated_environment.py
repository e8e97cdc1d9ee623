"""An environment of Azure's own by its name."""

from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace
from cluster import find_or_create

ws = Workspace.from_config()
env = Environment.get(workspace=ws, name="AzureML-sklearn-1.5")
assert env.name == "AzureML-sklearn-1.5" and "curated/sklearn-1.5" in env.docker.base_image
own = env.clone("own-sklearn")
own.register(ws)
assert Environment.get(ws, "own-sklearn").docker.base_image == env.docker.base_image
src = ScriptRunConfig("jobs", "echo.py", compute_target=find_or_create(ws), environment=env)
run = Experiment(ws, "curated").submit(src)
run.wait_for_completion()
assert run.get_status() == "Completed"
