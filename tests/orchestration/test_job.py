"""Jobs as data: JSON both ways, bad values refused with the valid ones named."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from papershell.orchestration.azure.job import (
    CPU_CLUSTER,
    GPU_CLUSTER,
    Cluster,
    JobError,
    TrainJob,
    build_job,
    default_cluster,
)
from papershell.orchestration.catalogue import TRAINERS

JOB = TrainJob("torch-cifar10", Cluster("gpu-cluster", "STANDARD_NC4as_T4_v3"), "env.yml")


def changed(**fields):
    return json.dumps(json.loads(JOB.to_json()) | fields)


def test_a_script_of_ones_own_is_a_job(tmp_path):
    job = TrainJob(
        script="sub/train it.py", source="code", experiment="mine", arguments=("--path", "{data}"), data="d"
    )
    assert TrainJob.from_json(job.to_json()) == job
    assert job.name == "sub/train it.py" and job.cluster == CPU_CLUSTER
    assert job.command("/mnt/d") == ["python", "'sub/train it.py'", "--path", "/mnt/d"]
    assert replace(job, arguments=("1",)).command("/mnt/d") == [
        "python",
        "'sub/train it.py'",
        "--data-folder",
        "/mnt/d",
        "1",
    ]


@pytest.mark.parametrize(
    ("program", "source", "script", "folder"),
    [
        ("code/train.py", None, "train.py", "code"),
        ("code/train.py", "code", "train.py", "code"),
        ("train.py", "code", "train.py", "code"),
        ("code/sub/other.py", "code", "sub/other.py", "code"),
        ("sub/other.py", "code", "sub/other.py", "code"),
        ("absent.py", "code", "absent.py", "code"),
        ("code/absent.py", None, "absent.py", "code"),
    ],
)
def test_a_script_is_named_from_here_or_from_its_source(
    program, source, script, folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code" / "sub").mkdir(parents=True)
    (tmp_path / "train.py").touch()
    (tmp_path / "code" / "train.py").touch()
    (tmp_path / "code" / "sub" / "other.py").touch()
    job = build_job(program, source=source and Path(source))
    assert (job.script, job.source, job.experiment_name) == (script, folder, Path(script).stem)
    absolute = build_job(str(tmp_path / "code" / "train.py"), source=Path("code"))
    assert (absolute.script, absolute.source) == ("train.py", "code")
    with pytest.raises(JobError, match=r"script \.\./elsewhere\.py is outside the source code"):
        (tmp_path / "elsewhere.py").touch()
        build_job("elsewhere.py", source=Path("code"))


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
        ("{}", "choose one of logreg, keras-mnist, torch-cifar10"),
        (changed(script="train.py", source="."), "trainer torch-cifar10 runs beside it"),
        (
            changed(trainer="", script="train.py"),
            "its source is missing; a job runs a trainer, or a script of a source",
        ),
        (
            changed(trainer="", script="../train.py", source="src"),
            "script ../train.py is outside the source src",
        ),
        (changed(trainer="", script="/train.py", source="src"), "script /train.py is outside the source src"),
        (changed(arguments=["--path", "{data}"]), "stands for the job's data, and the job has none"),
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
    assert default_cluster(True, {}) == Cluster("gpu-cluster", "STANDARD_NC6", 0, 4)
    assert default_cluster(False, {}) == Cluster("cpucluster", "STANDARD_D2_V2", 0, 4)
    asked = {
        "AML_COMPUTE_CLUSTER_NAME": "mine", "AML_COMPUTE_CLUSTER_SKU": "STANDARD_D4s_v5",
        "AML_COMPUTE_CLUSTER_MIN_NODES": "1", "AML_COMPUTE_CLUSTER_MAX_NODES": "2",
    }  # fmt: skip
    assert default_cluster(False, asked) == Cluster("mine", "STANDARD_D4s_v5", 1, 2)
    with pytest.raises(JobError, match="AML_COMPUTE_CLUSTER_MIN_NODES='many' is not a number"):
        default_cluster(False, {"AML_COMPUTE_CLUSTER_MIN_NODES": "many"})


def test_arguments_reach_the_shell_as_they_are():
    import shlex

    job = TrainJob("logreg", GPU_CLUSTER, "e.yml", ("--out", "a b; rm -rf $HOME"))
    line = " ".join(map(str, job.command("DatasetConsumptionConfig:data")))
    assert shlex.split(line) == [
        "python", "-m", "papershell.trainers.logreg", "--data-folder", "DatasetConsumptionConfig:data", *job.arguments
    ]  # fmt: skip
