"""FileDataset: uploaded, registered, found again, given to a run, downloaded here."""

import os

from azureml.core import Dataset, Environment, Experiment, ScriptRunConfig, Workspace
from cluster import find_or_create
from data import write

ws = Workspace.from_config()
store = ws.get_default_datastore()
dataset = Dataset.File.upload_directory(write(), (store, "file-dataset"), overwrite=True)
dataset = dataset.register(ws, name="files", create_new_version=True)
found = Dataset.get_by_name(ws, "files")
assert found.name == "files" and "files" in Dataset.get_all(ws)
assert sorted(found.to_path()) == ["/images.npy", "/labels.npy"]
paths = found.download(target_path="downloaded", overwrite=True)
for path in paths:
    with open(path, "rb") as here, open(os.path.join("data", os.path.basename(path)), "rb") as there:
        assert here.read() == there.read()
run = Experiment(ws, "file-dataset").submit(
    ScriptRunConfig(
        "jobs", "train.py", arguments=["--data-folder", found.as_named_input("digits").as_download()],
        compute_target=find_or_create(ws), environment=Environment("example"),
    )
)  # fmt: skip
run.wait_for_completion()
assert run.get_metrics()["accuracy"] > 0.8
(used,) = run.get_details()["inputDatasets"]
assert used["dataset"].name == "files"
