"""Write the digits to the first folder, a text and a file that is not asked for to the second."""

import os
import sys

import numpy as np
from azureml.core import Run
from sklearn.datasets import load_digits

folder, texts = sys.argv[1:]
assert Run.get_context().output_datasets["prepared"] == folder
X, y = load_digits(return_X_y=True)
np.save(os.path.join(folder, "images.npy"), X[::7])
np.save(os.path.join(folder, "labels.npy"), y[::7])
for name in ("note.txt", "note.bin"):
    with open(os.path.join(texts, name), "w") as file:
        file.write("done")
