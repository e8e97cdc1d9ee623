"""SKLearn estimator on a FileDataset; two rates, the better run registered."""

from azureml.core import Dataset, Experiment, Workspace
from azureml.train.sklearn import SKLearn
from cluster import find_or_create
from data import write

ws = Workspace.get(name="my-workspace", subscription_id="my-subscription", resource_group="my-group")
store = ws.get_default_datastore()
store.upload(write(), target_path="digits", overwrite=True, show_progress=False)
dataset = Dataset.File.from_files(path=[(store, "digits/")])
dataset = dataset.register(workspace=ws, name="digits-dataset", description="digits", create_new_version=True)
exp = Experiment(ws, "sklearn-estimator")
for rate in (0.5, 0.8):
    est = SKLearn(
        source_directory="jobs", entry_script="train.py", compute_target=find_or_create(ws),
        script_params={"--regularization": rate, "--data-folder": dataset.as_named_input("digits").as_mount()},
    )  # fmt: skip
    exp.submit(est).wait_for_completion(show_output=False)
rates = {run.get_metrics()["regularization rate"]: run for run in exp.get_runs()}
assert {0.5, 0.8} <= set(rates)
assert all(run.get_status() == "Completed" for run in rates.values())
rates[0.8].register_model(model_name="digits", model_path="outputs/model.pkl", tags={"rate": "0.8"})
