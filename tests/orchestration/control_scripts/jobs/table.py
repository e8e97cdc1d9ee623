"""Read the table that the run was given."""

from azureml.core import Run

run = Run.get_context()
frame = run.input_datasets["table"].to_pandas_dataframe()
run.log("rows", len(frame))
run.log("sum", int(frame["x"].sum()))
