"""AmlCompute: created, listed, resized, looked at, deleted."""

from azureml.core import Workspace
from azureml.core.compute import AmlCompute, ComputeTarget
from azureml.core.compute_target import ComputeTargetException

ws = Workspace.from_config()
cluster_name = "gpu-cluster"
try:
    compute_target = ComputeTarget(workspace=ws, name=cluster_name)
    print("Found existing compute target")
except ComputeTargetException:
    print("Creating a new compute target...")
    compute_config = AmlCompute.provisioning_configuration(vm_size="STANDARD_NC6", max_nodes=4)
    compute_target = ComputeTarget.create(ws, cluster_name, compute_config)
    compute_target.wait_for_completion(show_output=True, min_node_count=None, timeout_in_minutes=20)
status = compute_target.get_status().serialize()
print(status)
assert status["vmSize"].upper() == "STANDARD_NC6" and status["scaleSettings"]["maxNodeCount"] == 4
assert {ct.name: ct.type for ct in ws.compute_targets.values()}[cluster_name] == "AmlCompute"
compute_target.update(max_nodes=2)
assert ComputeTarget(ws, cluster_name).get_status().scale_settings.maximum_node_count == 2
compute_target.delete()
other = AmlCompute.provisioning_configuration(vm_size="Standard_DS12_v2", min_nodes=0, max_nodes=1)
ComputeTarget.create(ws, "other", other).delete()
assert cluster_name not in ws.compute_targets
