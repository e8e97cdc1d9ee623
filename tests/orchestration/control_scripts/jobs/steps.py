"""Log a score that grows with each step."""

import argparse

from azureml.core import Run

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int)
parser.add_argument("--rate", type=float)
parser.add_argument("--width", type=int)
args = parser.parse_args()
run = Run.get_context()
for step in range(1, args.steps + 1):
    run.log("score", step * args.rate * args.width)
