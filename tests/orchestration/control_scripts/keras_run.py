"""A Keras run: metrics of each epoch by a callback, an image, the model's folder registered and downloaded."""

from azureml.core import Environment, Experiment, Model, ScriptRunConfig, Workspace
from cluster import find_or_create

ws = Workspace.from_config()
src = ScriptRunConfig(
    "jobs", "keras_epochs.py", compute_target=find_or_create(ws), environment=Environment("keras-env")
)
run = Experiment(ws, "keras-digits").submit(src)
run.wait_for_completion()
metrics = run.get_metrics()
assert len(metrics["Loss"]) == 2 and metrics["Final test accuracy"] > 0.1
assert metrics["Accuracy vs Loss"].startswith("aml://artifactId/ExperimentRun/")
model = run.register_model(model_name="keras-digits", model_path="outputs/model")
Model(ws, "keras-digits").download(target_dir=".", exist_ok=True)
with open("model/model.json") as file:
    assert "keras" in file.read()
assert model.version >= 1
