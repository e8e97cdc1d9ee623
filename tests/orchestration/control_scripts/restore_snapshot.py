"""The source of a run, given back."""

import zipfile

from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace
from cluster import find_or_create

ws = Workspace.from_config()
src = ScriptRunConfig("jobs", "echo.py", compute_target=find_or_create(ws), environment=Environment("e"))
run = Experiment(ws, "snapshots").submit(src)
run.wait_for_completion()
path = run.restore_snapshot(path="restored")
with zipfile.ZipFile(path) as archive, open("jobs/echo.py", "rb") as original:
    assert archive.read("echo.py") == original.read()
