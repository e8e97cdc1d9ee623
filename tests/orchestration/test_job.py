"""Jobs as data: JSON both ways, bad values refused with the valid ones named."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from papershell.orchestration.azure.job import (
    GPU_CLUSTER,
    Cluster,
    JobError,
    TrainJob,
    default_cluster,
)
from papershell.orchestration.catalogue import TRAINERS

JOB = TrainJob("torch-cifar10", Cluster("gpu-cluster", "STANDARD_NC4as_T4_v3"), "env.yml")


def changed(**fields):
    return json.dumps(json.loads(JOB.to_json()) | fields)


@given(
    trainer=st.sampled_from(sorted(TRAINERS)),
    arguments=st.lists(st.text(max_size=20), max_size=4).map(tuple),
    data=st.none() | st.text(max_size=20),
    nodes=st.integers(1, 8),
    minutes=st.none() | st.floats(0.1, 1e6),
)
def test_json_both_ways(trainer, arguments, data, nodes, minutes):
    job = TrainJob(
        trainer, GPU_CLUSTER, "e.yml", arguments=arguments, data=data, nodes=nodes, time_limit_min=minutes
    )
    assert TrainJob.from_json(job.to_json()) == job


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        (b"\xff", "not JSON"),
        ("[1]", "not a JSON object"),
        (changed(gpus=1), "no field 'gpus'; its fields are trainer, cluster"),
        (changed(cluster={"name": "c1", "vm_size": "X", "zone": 1}), "cluster has no field 'zone'"),
        (changed(cluster={"name": "c1"}), "lacks 'vm_size'"),
        (changed(cluster="c1"), "cluster is not a JSON object"),
        (changed(trainer="xgboost"), "choose one of logreg, keras-mnist, torch-cifar10"),
        (changed(nodes=0), "nodes must be a whole number of at least 1"),
        (changed(nodes="2"), "nodes must be a whole number"),
        (changed(data_mode="copy"), "choose one of download, mount"),
        (changed(time_limit_min=0), "time_limit_min must be above 0"),
        (changed(experiment="a b"), "experiment 'a b' must be"),
        (changed(experiment="x" * 256), "1 to 255"),
        (changed(cluster={"name": "x" * 17, "vm_size": "X"}), "2 to 16"),
        (changed(cluster={"name": "c1", "vm_size": "X", "min_nodes": 5}), "at least 5, not 4"),
    ],
)
def test_bad_jobs_are_refused_in_one_sentence(text, says):
    with pytest.raises(JobError) as caught:
        TrainJob.from_json(text)
    assert says in str(caught.value) and "\n" not in str(caught.value)


@given(st.text() | st.dictionaries(st.text(), st.none() | st.integers() | st.text()).map(json.dumps))
def test_any_text_is_a_job_or_a_job_error(text):
    with contextlib.suppress(JobError):
        TrainJob.from_json(text)


def test_the_walk_throughs_clusters():
    assert default_cluster("keras-mnist", {}) == Cluster("gpu-cluster", "STANDARD_NC6", 0, 4)
    assert default_cluster("logreg", {}) == Cluster("cpucluster", "STANDARD_D2_V2", 0, 4)
    asked = {
        "AML_COMPUTE_CLUSTER_NAME": "mine", "AML_COMPUTE_CLUSTER_SKU": "STANDARD_D4s_v5",
        "AML_COMPUTE_CLUSTER_MIN_NODES": "1", "AML_COMPUTE_CLUSTER_MAX_NODES": "2",
    }  # fmt: skip
    assert default_cluster("logreg", asked) == Cluster("mine", "STANDARD_D4s_v5", 1, 2)
    with pytest.raises(JobError, match="AML_COMPUTE_CLUSTER_MIN_NODES='many' is not a number"):
        default_cluster("logreg", {"AML_COMPUTE_CLUSTER_MIN_NODES": "many"})


def test_arguments_reach_the_shell_as_they_are():
    import shlex

    job = TrainJob("logreg", GPU_CLUSTER, "e.yml", ("--out", "a b; rm -rf $HOME"))
    line = " ".join(map(str, job.command("DatasetConsumptionConfig:data")))
    assert shlex.split(line) == [
        "python", "-m", "papershell.trainers.logreg", "--data-folder", "DatasetConsumptionConfig:data", *job.arguments
    ]  # fmt: skip
