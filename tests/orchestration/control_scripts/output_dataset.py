"""OutputFileDatasetConfig: what one run writes is the data set that the next one reads."""

from azureml.core import Dataset, Environment, Experiment, ScriptRunConfig, Workspace
from azureml.data import OutputFileDatasetConfig
from cluster import find_or_create

ws = Workspace.from_config()
store = ws.get_default_datastore()
env, exp, cluster = Environment("example"), Experiment(ws, "outputs"), find_or_create(ws)
prepared = OutputFileDatasetConfig("prepared", (store, "prepared/{run-id}")).register_on_complete("prepared")
texts = OutputFileDatasetConfig("texts").as_upload(overwrite=True, source_globs=["*.txt"])
run = exp.submit(
    ScriptRunConfig("jobs", "prepare.py", [prepared, texts], compute_target=cluster, environment=env)
)
run.wait_for_completion()
assert {used["outputDetails"]["outputName"] for used in run.get_details()["outputDatasets"]} == {
    "prepared", "texts"
}  # fmt: skip
dataset = Dataset.get_by_name(ws, "prepared")
assert sorted(dataset.to_path()) == ["/images.npy", "/labels.npy"]
(upload,) = [
    used["dataset"] for used in run.get_details()["outputDatasets"]
    if used["outputDetails"]["outputName"] == "texts"
]  # fmt: skip
assert upload.to_path() == ["/note.txt"]
arguments = ["--data-folder", dataset.as_named_input("digits").as_mount()]
run = exp.submit(ScriptRunConfig("jobs", "train.py", arguments, compute_target=cluster, environment=env))
run.wait_for_completion()
assert run.get_metrics()["accuracy"] > 0.8
