"""ScriptRunConfig with an environment, arguments, environment variables, tags, a log that is followed."""

from azureml.core import Environment, Experiment, Run, ScriptRunConfig, Workspace
from cluster import find_or_create

ws = Workspace.from_config()
env = Environment("example")
env.environment_variables = {"EXAMPLE_VALUE": "42"}
src = ScriptRunConfig(
    source_directory="jobs", script="echo.py", arguments=["--first", 1, "two"],
    compute_target=find_or_create(ws), environment=env,
)  # fmt: skip
run = Experiment(ws, "script-run-config").submit(src, tags={"kind": "example"})
print(run.get_portal_url())
run.wait_for_completion(show_output=True)
assert run.get_status() == "Completed" and run.get_metrics() == {"arguments": 3}
details = run.get_details()
assert [str(word) for word in details["runDefinition"]["arguments"]] == ["--first", "1", "two"]
assert any(name.endswith("std_log.txt") for name in details["logFiles"])
again = Run.get(ws, run.id)
assert again.get_tags()["kind"] == "example"
