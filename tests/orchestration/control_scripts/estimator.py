"""Estimator, as the first of the walk-throughs uses it: data uploaded and mounted, model registered."""

from azureml.core import Experiment, Workspace
from azureml.train.estimator import Estimator
from cluster import find_or_create
from data import write

ws = Workspace.from_config()
print(ws.name, ws.location, ws.resource_group, sep="\t")
exp = Experiment(workspace=ws, name="sklearn-mnist")
ds = ws.get_default_datastore()
ds.upload(src_dir=write(), target_path="digits", overwrite=True, show_progress=True)

script_params = {"--data-folder": ds.path("digits").as_mount(), "--regularization": 0.8}
est = Estimator(
    source_directory="jobs", script_params=script_params, compute_target=find_or_create(ws),
    entry_script="train.py", conda_packages=["scikit-learn"],
)  # fmt: skip
run = exp.submit(config=est)
run.wait_for_completion(show_output=True)
metrics = run.get_metrics()
print(metrics)
assert metrics["regularization rate"] == 0.8 and metrics["accuracy"] > 0.8
assert "outputs/model.pkl" in run.get_file_names()
model = run.register_model(model_name="sklearn_digits", model_path="outputs/model.pkl")
print(model.name, model.id, model.version, sep="\t")
assert model.version >= 1
