"""compute_target="local": no cluster; the same script, record, files."""

from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace

ws = Workspace.from_config()
env = Environment("user-managed-env")
env.python.user_managed_dependencies = True
src = ScriptRunConfig(
    source_directory="jobs", script="echo.py", arguments=["a", "b"], compute_target="local", environment=env
)
run = Experiment(ws, "local").submit(src)
run.wait_for_completion(show_output=True)
assert run.get_status() == "Completed" and run.get_metrics() == {"arguments": 2}
run.download_files(prefix="user_logs", output_directory="local-logs")
with open("local-logs/user_logs/std_log.txt") as file:
    assert "arguments: a b" in file.read()
