"""Log what the run was given."""

import os
import sys

from azureml.core import Run

run = Run.get_context()
run.log("arguments", len(sys.argv) - 1)
print("arguments:", *sys.argv[1:])
print("value:", os.environ.get("EXAMPLE_VALUE"))
