"""Environments: from a conda file, from packages, with a base image; registered, listed, found again."""

from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace
from azureml.core.conda_dependencies import CondaDependencies
from cluster import find_or_create

ws = Workspace.from_config()
with open("conda_dependencies.yml", "w") as file:
    file.write("name: example\ndependencies:\n- python=3.11\n- pip:\n  - azureml-defaults\n  - numpy==2.0\n")
keras_env = Environment.from_conda_specification(name="keras-env", file_path="conda_dependencies.yml")
keras_env.docker.base_image = "mcr.microsoft.com/azureml/openmpi3.1.2-cuda10.0-cudnn7-ubuntu18.04"
keras_env.register(ws)
own = Environment("own-env")
own.python.conda_dependencies = CondaDependencies.create(pip_packages=["azureml-sdk", "joblib"])
own.register(workspace=ws)
found = Environment.get(ws, "keras-env")
assert "numpy==2.0" in list(found.python.conda_dependencies.pip_packages)
assert found.docker.base_image == keras_env.docker.base_image
assert {"keras-env", "own-env"} <= set(Environment.list(ws))
config = ScriptRunConfig("jobs", "echo.py", compute_target=find_or_create(ws), environment=found)
run = Experiment(ws, "environments").submit(config)
run.wait_for_completion()
assert run.get_environment().name == "keras-env"
