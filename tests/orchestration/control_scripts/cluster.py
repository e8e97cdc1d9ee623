"""The cluster of the walk-throughs: attached if it exists, else created."""

import os

from azureml.core.compute import AmlCompute, ComputeTarget


def find_or_create(ws):
    name = os.environ.get("AML_COMPUTE_CLUSTER_NAME", "cpucluster")
    min_nodes = int(os.environ.get("AML_COMPUTE_CLUSTER_MIN_NODES", 0))
    max_nodes = int(os.environ.get("AML_COMPUTE_CLUSTER_MAX_NODES", 4))
    vm_size = os.environ.get("AML_COMPUTE_CLUSTER_SKU", "STANDARD_D2_V2")
    if name in ws.compute_targets and type(ws.compute_targets[name]) is AmlCompute:
        print("found compute target. just use it. " + name)
        return ws.compute_targets[name]
    print("creating a new compute target...")
    config = AmlCompute.provisioning_configuration(vm_size=vm_size, min_nodes=min_nodes, max_nodes=max_nodes)
    target = ComputeTarget.create(ws, name, config)
    target.wait_for_completion(show_output=True, min_node_count=None, timeout_in_minutes=20)
    return target
