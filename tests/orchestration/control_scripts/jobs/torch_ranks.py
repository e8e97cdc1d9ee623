"""Sum the ranks of all processes."""

import torch
import torch.distributed as dist
from azureml.core import Run

dist.init_process_group("gloo")
total = torch.tensor([dist.get_rank()])
dist.all_reduce(total)
if dist.get_rank() == 0:
    Run.get_context().log("sum of ranks", int(total))
dist.destroy_process_group()
