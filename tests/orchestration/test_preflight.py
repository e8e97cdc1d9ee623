"""Preflight: each planted fault is found by its sentence, clean jobs pass, all in well under a second."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from papershell.orchestration.azure import conda_file, images, sizes, snapshot
from papershell.orchestration.azure.job import Cluster, TrainJob
from papershell.orchestration.azure.preflight import ERROR, WARNING, preflight, quota
from papershell.orchestration.catalogue import TRAINERS
from papershell.orchestration.errors import OrchestrationError

TODAY = date(2026, 11, 20)
for trainer in TRAINERS.values():  # the time that a library takes to load is not preflight's
    importlib.import_module(trainer.module)
T4, A100, V100, NC6 = "STANDARD_NC4as_T4_v3", "STANDARD_NC24ads_A100_v4", "STANDARD_NC6s_v3", "STANDARD_NC6"
IMAGE = images.REGISTRY
SDK = "azureml-core"


class Project:
    """A source folder, data and a job without faults, to plant faults into."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.root = folder / "source"
        for name in ("papershell/kernels", "papershell/trainers"):
            (self.root / name).mkdir(parents=True)
        for name in ("logreg", "keras_mnist", "torch_cifar10"):
            (self.root / "papershell" / "trainers" / f"{name}.py").write_text("")
        self.data = folder / "mnist"
        self.data.mkdir()
        for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
            (self.data / f"{name}.bin").write_bytes(bytes(3073) + b"\1" + bytes(3072))
        self.environment = folder / "environment.yml"
        self.lines: list[str] = []
        self.job = TrainJob(
            "torch-cifar10",
            Cluster("gpu-cluster", T4),
            str(conda_file.shipped("gpu")),
            data=str(self.data),
            source=str(self.root),
        )

    def pins(self, *lines: str, pip: tuple[str, ...] = ("azureml-core==1.61.0.post4",)) -> None:
        """Write an environment file of these lines, and let the job use it."""
        text = ["channels: [conda-forge]", "dependencies:", *(f"  - {line}" for line in lines), "  - pip:"]
        self.environment.write_text("\n".join([*text, *(f"      - {line}" for line in pip)]) + "\n")
        self.change(environment=str(self.environment))

    def change(self, **fields) -> None:
        self.job = replace(self.job, **fields)

    def size(self, name: str) -> None:
        self.change(cluster=replace(self.job.cluster, vm_size=name))

    def cpu(self) -> None:
        self.change(trainer="logreg", environment=str(conda_file.shipped("cpu")))
        self.size("STANDARD_D4s_v5")


def _large(p: Project, size_bytes: int = snapshot.MAX_BYTES + 1) -> None:
    with (p.root / "papershell" / "trainers" / "weights.bin").open("wb") as file:
        file.truncate(size_bytes)


def _many(p: Project) -> None:
    for number in range(snapshot.MAX_FILES):
        (p.root / "papershell" / "kernels" / f"f{number}.txt").touch()


def _script(p: Project, name: str = "train.py", text: str = "print(1)") -> None:
    """Let the job run a script of one's own."""
    (p.root / name).write_text(text)
    p.change(trainer="", script=name)


def _unsent(p: Project) -> None:
    _script(p)
    (p.root / ".amlignore").write_text("*.py\n")


def _text(text: str) -> Callable[[Project], None]:
    def plant(p: Project) -> None:
        p.environment.write_text(text)
        p.change(environment=str(p.environment))

    return plant


FAULTS: list[tuple[str, Callable[[Project], None], str, str]] = [
    # VM sizes
    ("NC6 retired", lambda p: p.size(NC6), ERROR, "retired on 2023-09-06; take STANDARD_NC4as_T4_v3"),
    ("V100 retired", lambda p: p.size(V100), ERROR, "retired on 2025-09-30; take STANDARD_NC24ads_A100_v4"),
    ("Dv2 closed", lambda p: (p.cpu(), p.size("STANDARD_D2_V2")), WARNING, "retires on 2028-05-01 and new"),
    ("typing error", lambda p: p.size("STANDARD_NC4_T4_v3"), ERROR, "did you mean STANDARD_NC4as_T4_v3"),
    ("arm64 host", lambda p: p.size("STANDARD_ND128isr_NDR_GB200_v6"), ERROR, "aarch64"),
    ("no GPU", lambda p: p.size("STANDARD_D4s_v5"), WARNING, "has no GPU"),
    ("idle GPU", lambda p: (p.cpu(), p.size(T4)), WARNING, "idle"),
    # Nodes
    ("too many nodes", lambda p: p.change(nodes=5), ERROR, "at most 4; it would wait for ever"),
    ("one-process trainer", lambda p: p.change(trainer="keras-mnist", nodes=2), ERROR, "only logreg, torch-cifar10"),
    ("shared GPU", lambda p: p.change(processes_per_node=2), ERROR, "2 processes a node share 1 GPU"),
    # Base images
    ("CUDA 10 image", lambda p: p.change(image=IMAGE + "openmpi3.1.2-cuda10.0-cudnn7-ubuntu18.04"), WARNING,
     f"no longer maintained since 2024-12-06; take {images.GPU_IMAGE}"),
    ("SDK's default image", lambda p: p.change(image=IMAGE + "openmpi4.1.0-cuda11.8-cudnn8-ubuntu22.04"),
     WARNING, "2025-09-09"),
    ("unknown image", lambda p: p.change(image=IMAGE + "openmpi9-cuda99"), ERROR, "is unknown; take"),
    ("image without CUDA", lambda p: p.change(image=images.CPU_IMAGE), ERROR, "has no CUDA for the T4"),
    ("image with idle CUDA", lambda p: (p.cpu(), p.change(image=images.GPU_IMAGE)), WARNING, "no GPU"),
    ("CUDA 13 image on V100",
     lambda p: (p.size(V100), p.change(image=IMAGE + "openmpi5.0-cuda13.1-ubuntu24.04")), ERROR,
     "CUDA 13.1 of base image openmpi5.0-cuda13.1-ubuntu24.04 has no code for the V100"),
    ("CUDA 12 image on K80", lambda p: (p.size(NC6), p.change(image=images.GPU_IMAGE)), ERROR,
     "compute capability 3.7); take mcr.microsoft.com/azureml/openmpi4.1.0-cuda11.8-cudnn8-ubuntu22.04"),
    # GPU packages
    ("CUDA 13 packages on V100", lambda p: (p.size(V100), p.pins("python=3.11", "cuda-version=13.*")), ERROR,
     "CUDA 13 has no code for the V100"),
    ("torch 2.15 on V100", lambda p: (p.size(V100), p.pins("python=3.11", pip=(SDK, "torch>=2.15"))),
     ERROR, "torch from 2.15 on has no code for the V100"),
    ("TensorFlow on K80", lambda p: (p.change(trainer="keras-mnist"), p.size(NC6),
                                     p.pins("python=3.11", "tensorflow-gpu=2.19")), ERROR,
     "tensorflow-gpu from 2.15 on has no code for the K80"),
    ("two CUDA majors", lambda p: p.pins("python=3.11", "cuda-version=13.0"), ERROR,
     "asks for CUDA 13 and base image openmpi5.0-cuda12.8-ubuntu24.04 has CUDA 12.8"),
    # Environment files
    ("no such file", lambda p: p.change(environment="nowhere.yml"), ERROR, "there is no environment file"),
    ("not YAML", _text("a: ["), ERROR, "cannot be read"),
    ("no dependencies", _text("name: x\n"), ERROR, "has no list of dependencies"),
    ("not a requirement", _text("dependencies: ['numpy=>1']\n"), ERROR, "'numpy=>1' is no conda requirement"),
    ("no azureml-core", lambda p: p.pins("python=3.11", pip=("numpy",)), ERROR, "lists no azureml-core"),
    ("no conda-forge", _text("dependencies: [python=3.11, {pip: [azureml-core]}]\n"), WARNING, "conda-forge"),
    ("packaging", lambda p: p.pins("python=3.11", "packaging=26"), ERROR, "azureml-core needs packaging<26"),
    ("numpy", lambda p: p.pins("python=3.11", "numpy=2.4", pip=("azureml-core", "azureml-dataset-runtime")),
     ERROR, "azureml-dataset-runtime needs numpy<2.3.3"),
    ("mlflow", lambda p: p.pins("python=3.11", "mlflow=3.18", pip=("azureml-core", "azureml-mlflow")), ERROR,
     "azureml-mlflow needs mlflow<3.16"),
    ("tensorflow-gpu of pip", lambda p: p.pins("python=3.11", pip=("azureml-core", "tensorflow-gpu")), ERROR,
     "is an empty package"),
    ("TensorFlow on Python 3.13", lambda p: p.pins("python=3.13", "setuptools", "tensorflow-gpu=2.19"), ERROR,
     "tensorflow-gpu needs python<3.13"),
    ("newer than conda-forge", lambda p: p.pins("python=3.11", "tensorflow-gpu=2.21"), ERROR, "ends at"),
    ("cudatoolkit", lambda p: p.pins("python=3.11", "cudatoolkit=11.8", "cuda-version=12.9"), ERROR,
     "cudatoolkit is CUDA 11"),
    ("two cuDNNs", lambda p: p.pins("python=3.11", pip=(SDK, "torch", "tensorflow[and-cuda]")), ERROR,
     "brings CUDA 12 and torch from PyPI CUDA 13"),
    ("contradiction", lambda p: p.pins("python=3.11", "numpy>=2.4", pip=(SDK, "numpy<2.3")), ERROR,
     "no version of numpy meets"),
    ("distutils", lambda p: p.pins("python=3.12"), ERROR, "Python 3.12 dropped; list setuptools"),
    # Snapshot
    ("large snapshot", _large, ERROR, "is 300 MB, Azure ML takes 300 MB; move away or list in .amlignore: "
     "papershell/trainers/weights.bin (314.6 MB)"),
    ("many files", _many, ERROR, "has 2003 files, Azure ML takes 2,000"),
    ("two gigabytes", lambda p: (_script(p), _large(p, 2 << 30)), ERROR, "is 2048 MB, Azure ML takes 300 MB"),
    # Scripts
    ("package missing", lambda p: shutil.rmtree(p.root / "papershell"), ERROR,
     "there is no script papershell/trainers/torch_cifar10.py in the source"),
    ("no script", lambda p: (_script(p), (p.root / "train.py").unlink()), ERROR, "there is no script train.py in"),
    ("script not sent", _unsent, ERROR, "script train.py would not be sent: the ignore file of"),
    ("no Python file", lambda p: _script(p, "train.sh"), ERROR, "train.sh is no Python file; its name ends with .sh"),
    ("no Python", lambda p: _script(p, text="a\n1 +\n"), ERROR, "train.py is not valid Python: line 2, invalid syntax"),
    ("bytes", lambda p: _script(p, text="\0"), ERROR, "train.py is not valid Python: source code string cannot"),
    ("nothing reports", lambda p: (_script(p), p.pins("python=3.11", pip=("numpy",))), WARNING,
     "lists none of azureml-core, azureml-defaults, azureml-mlflow"),
    # Data
    ("no data", lambda p: p.change(data="nowhere"), ERROR, "there is no data folder nowhere"),
    ("empty data", lambda p: [path.unlink() for path in p.data.iterdir()], ERROR, "holds no file"),
    ("other data", lambda p: p.change(data=str(p.root)), ERROR,
     "torch-cifar10 cannot read its data: no data_batch_1.bin"),
    ("damaged data", lambda p: (p.data / "test_batch.bin").write_bytes(b"x"), ERROR,
     "it is cut or not a file of CIFAR-10"),
    # Flags
    ("unknown flag", lambda p: (p.cpu(), p.change(arguments=("--regularisation", "0.5"))), ERROR,
     "logreg: unrecognized arguments: --regularisation 0.5; did you mean --regularization?; `papershell train logreg"),
    ("wrong value", lambda p: (p.cpu(), p.change(arguments=("--regularization", "-1"))), ERROR,
     "logreg: argument --regularization: '-1' is not a number above zero"),
    ("wrong choice", lambda p: p.change(arguments=("--recipe", "quick")), ERROR,
     "argument --recipe: invalid choice: 'quick'"),
    ("missing value", lambda p: p.change(arguments=("--epochs",)), ERROR, "argument --epochs: expected one argument"),
    ("unknown back end", lambda p: (p.cpu(), p.change(arguments=("--backend", "abacus"))), ERROR,
     "invalid choice: 'abacus'"),
    ("data twice", lambda p: p.change(arguments=("--data-folder", "mine")), ERROR, "name the data with --data"),
    ("data forgotten", lambda p: p.change(data=None), WARNING, "no data is given"),
]  # fmt: skip


@pytest.mark.parametrize(("plant", "level", "says"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_a_planted_fault_is_found(plant, level, says, tmp_path):
    project = Project(tmp_path)
    assert preflight(project.job, today=TODAY) == []
    plant(project)
    start = time.perf_counter()
    found = preflight(project.job, today=TODAY)
    assert time.perf_counter() - start < 1
    fitting = [finding for finding in found if says in finding.message]
    assert [finding.level for finding in fitting] == [level], found
    assert "\n" not in fitting[0].message


def test_there_are_twenty_faults_and_more():
    assert len({name for name, *_ in FAULTS}) == len(FAULTS) >= 20


@pytest.mark.parametrize("size", [T4, A100, "STANDARD_ND96isr_H200_v5", T4.lower()])
def test_clean_gpu_jobs_pass(size, tmp_path):
    project = Project(tmp_path)
    project.size(size)
    assert preflight(project.job, today=TODAY) == []


def test_a_clean_cpu_job_passes(tmp_path):
    project = Project(tmp_path)
    project.cpu()
    assert preflight(project.job, today=TODAY) == []


def test_only_sizes_that_can_be_had_are_suggested(tmp_path):
    for name in ("STANDARD_NC8", "STANDARD_NC6s", "STANDARD_NV6s"):
        project = Project(tmp_path / name)
        project.size(name)
        (found,) = [f.message for f in preflight(project.job, today=TODAY) if "is unknown" in f.message]
        suggested = [word.strip(",?") for word in found.split() if word.startswith("STANDARD_")][1:]
        retired = [sizes.SIZES[word.upper()].retires_on for word in suggested]
        assert retired and all(day is None or day > TODAY for day in retired), found


def test_a_trainer_is_judged_by_its_own_libraries(tmp_path):
    project = Project(tmp_path)
    project.pins("python=3.11", "tensorflow-gpu=2.19", "pytorch-gpu")
    project.size(NC6)
    assert not any("tensorflow" in finding.message for finding in preflight(project.job, today=TODAY))


def test_a_size_is_there_until_the_day_it_retires(tmp_path):
    project = Project(tmp_path)
    project.size(V100)
    before = preflight(project.job, today=date(2025, 9, 29))
    assert [finding.level for finding in before] == [WARNING]


def test_amlignore_is_honoured_and_stands_before_gitignore(tmp_path):
    project = Project(tmp_path)
    _large(project)
    (project.root / ".gitignore").write_text("papershell/trainers/weights.bin\n")
    assert preflight(project.job, today=TODAY) == []
    (project.root / ".amlignore").write_text("*.txt\n")
    assert len(preflight(project.job, today=TODAY)) == 1
    (project.root / ".amlignore").write_text("weights.*\n")
    assert preflight(project.job, today=TODAY) == []


def staged(job: TrainJob, folder: Path) -> set[str]:
    """The files that a job sends."""
    snapshot.stage(job.snapshot(), folder)
    found = (Path(top, name) for top, _, names in os.walk(folder) for name in names)
    return {path.relative_to(folder).as_posix() for path in found}


def test_what_preflight_measures_is_what_is_sent(tmp_path):
    project = Project(tmp_path)
    for name in ("papershell/kernels/__pycache__", "papershell/orchestration", ".git"):
        (project.root / name).mkdir()
        (project.root / name / "x").touch()
    (project.root / "other.txt").touch()
    trainers = {f"papershell/trainers/{name}.py" for name in ("logreg", "keras_mnist", "torch_cifar10")}
    assert staged(project.job, tmp_path / "of a trainer") == trainers
    _script(project)
    everything = {*trainers, "train.py", "other.txt", "papershell/orchestration/x"}
    assert staged(project.job, tmp_path / "of a script") == everything


def test_the_client_would_choose_the_same_files(tmp_path):
    """What `azureml-core` itself takes of a source folder, by its own rules."""
    from azureml._base_sdk_common.merkle_tree import create_merkletree
    from azureml._project.ignore_file import get_project_ignore_file

    root = tmp_path / "source"
    for name in (
        "train.py",
        "keep/a.txt",
        "keep/b.bin",
        "data/a.txt",
        "data/deep/c.txt",
        "x/y/z.log",
        "x/keep.log",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "linked").symlink_to(root / "keep")
    (root / ".gitignore").write_text("*\n")
    for lines in (
        "*.bin",
        "data",
        "data/\n!data/a.txt",
        "/x/**\n!x/keep.log",
        "*.log\n!keep.log",
        "linked",
        ".amlignore",
    ):
        (root / ".amlignore").write_text(f"# own\n{lines}\n")

        def files(node, prefix=""):
            for child in node.children:
                yield from (
                    [prefix + child.name] if child.is_file() else files(child, f"{prefix}{child.name}/")
                )

        theirs = create_merkletree(str(root), get_project_ignore_file(str(root)).is_file_excluded)
        assert set(snapshot.measure(root).sizes_bytes) == set(files(theirs)), lines


def test_links_are_followed_but_not_round_in_circles(tmp_path):
    project = Project(tmp_path)
    _script(project)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w.bin").write_bytes(bytes(3))
    (project.root / "linked").symlink_to(tmp_path / "weights")
    assert project.job.snapshot().sizes_bytes["linked/w.bin"] == 3
    (project.root / "self").symlink_to(project.root)
    with pytest.raises(OrchestrationError, match="self is a link to a folder that it lies in; remove it"):
        project.job.snapshot()
    (project.root / "self").unlink()
    (project.root / "broken").symlink_to("nowhere")
    with pytest.raises(OrchestrationError, match="broken is a link that leads nowhere; remove it"):
        project.job.snapshot()
    project.change(source=str(tmp_path / "absent"))
    with pytest.raises(OrchestrationError, match=r"there is no source folder .*absent"):
        project.job.snapshot()


@given(st.binary(max_size=60))
def test_any_ignore_file_is_honoured_or_one_sentence(lines):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / ".amlignore").write_bytes(lines)
        try:
            snapshot.measure(Path(folder))
        except OrchestrationError as error:
            assert "cannot be read" in str(error) and "\n" not in str(error)


def test_flags_are_not_checked_without_the_trainers_libraries(tmp_path, monkeypatch):
    project = Project(tmp_path)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, TRAINERS["torch-cifar10"].module)
    monkeypatch.delitem(sys.modules, "papershell.trainers.cifar10_model")
    (found,) = preflight(project.job, today=TODAY)
    says = "the flags and data of torch-cifar10 are not checked, because torch is not installed here"
    assert (found.level, found.message) == (WARNING, says)


def test_quota(tmp_path):
    job = replace(Project(tmp_path).job, nodes=3)
    family = sizes.SIZES[T4.upper()].family
    assert quota(job, None) == quota(job, {"other": 0}) == quota(job, {family: 12}) == []
    (found,) = quota(job, {family: 11})
    assert found.level == ERROR and "12 cores" in found.message and "11 left" in found.message
