"""Tabular data sets: read here, and in a run that gets one by name."""

import os

from azureml.core import Dataset, Environment, Experiment, ScriptRunConfig, Workspace
from cluster import find_or_create

os.makedirs("tables", exist_ok=True)
with open("tables/one.csv", "w") as file:
    file.write("x,y\n1,a\n2,b\n")
with open("tables/two.csv", "w") as file:
    file.write("x,y\n3,c\n")
ws = Workspace.from_config()
store = ws.get_default_datastore()
store.upload("tables", target_path="tables", overwrite=True, show_progress=False)
dataset = Dataset.Tabular.from_delimited_files(path=(store, "tables/*.csv"))
frame = dataset.to_pandas_dataframe()
assert frame.to_dict("list") == {"x": [1, 2, 3], "y": ["a", "b", "c"]}
assert list(dataset.take(2).to_pandas_dataframe()["x"]) == [1, 2]
dataset = dataset.register(ws, "table", create_new_version=True)
run = Experiment(ws, "tabular").submit(
    ScriptRunConfig(
        "jobs", "table.py", arguments=["--table", dataset.as_named_input("table")],
        compute_target=find_or_create(ws), environment=Environment("example"),
    )
)  # fmt: skip
run.wait_for_completion()
assert run.get_metrics() == {"rows": 3, "sum": 6}
