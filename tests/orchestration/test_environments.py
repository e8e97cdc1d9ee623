"""The project's own environment files against the compatibility tables, and the tables' own rows."""

from __future__ import annotations

import itertools
import tomllib
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from papershell.orchestration.azure import conda_file, images, pins, sizes, tables

FILES = [conda_file.shipped(device) for device in ("cpu", "gpu")]

# Read in the packages' metadata and recipes: which versions may stand in the file.
ALLOWED = {
    "python": ">=3.11,<3.13", "cuda-version": ">=12.8,<13", "numpy": ">=2.0,<2.3.3", "packaging": ">=20,<26",
    "pathspec": "<1.0", "cupy": ">=14,<14.2", "numba": ">=0.60", "numba-cuda": ">=0.20,<0.30.3",
    "tensorflow-gpu": "<2.20", "keras": ">=3.5", "pytorch-gpu": "<2.14", "azureml-core": ">=1.61.0.post4",
    "pip": ">=25.3",
}  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_pins_of_ours_conflict(path):
    assert list(pins.conflicts(conda_file.read_conda_file(path))) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_pin_leaves_room_in_the_compatibility_table(path):
    for pin in conda_file.read_conda_file(path).pins:
        allowed = SpecifierSet(ALLOWED.get(pin.name, ""))
        assert pins.satisfiable(pin.versions & allowed), pin


def test_the_gpu_file_has_what_was_asked_for_by_name():
    file = conda_file.read_conda_file(conda_file.shipped("gpu"))
    assert file.channels[0] == "conda-forge"
    conda = {pin.name for pin in file.pins if not pin.pip}
    assert {"tensorflow-gpu", "cupy", "numba", "numba-cuda", "pytorch-gpu", "cuda-version", "pip"} <= conda
    assert file.pin("azureml-core", pip=True)


@pytest.mark.parametrize(
    ("device", "extras", "conda_names"),
    [
        (
            "gpu", ("torch", "keras", "cuda"),
            {"torch": "pytorch-gpu", "tensorflow-cpu": "tensorflow-gpu", "cupy-cuda12x": "cupy"},
        ),
        ("cpu", ("torch", "keras"), {"torch": "pytorch-cpu", "tensorflow-cpu": "tensorflow"}),
    ],
)  # fmt: skip
def test_a_job_finds_everything_that_kernels_and_trainers_need(device, extras, conda_names):
    """All that pyproject lists, but for what the command alone needs, which does not run in a job."""
    project = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())["project"]
    lines = [
        *project["dependencies"],
        *(line for e in extras for line in project["optional-dependencies"][e]),
    ]
    file = conda_file.read_conda_file(conda_file.shipped(device))
    for needed in map(Requirement, lines):
        package = canonicalize_name(needed.name)
        if package == "typer":
            continue
        conda_name = {"matplotlib": "matplotlib-base", **conda_names}.get(package, package)
        versions = file.versions(conda_name)
        assert versions is not None, f"environment-{device}.yml lacks {conda_name}"
        assert pins.satisfiable(versions & needed.specifier), conda_name


def test_the_files_say_what_no_solver_has_confirmed():
    for path in FILES:
        assert "no conda solver has" in " ".join(path.read_text().lower().replace("#", " ").split())


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["<", "<=", ">", ">=", "==", "!="]),
            st.sampled_from(["1", "1.2", "1.2.3", "2", "2.0", "2.0.1"]),
        ),
        max_size=4,
    )
)
def test_satisfiable_agrees_with_trying_every_version(parts):
    versions = SpecifierSet(",".join(operator + version for operator, version in parts))
    grid = [f"{a}.{b}.{c}.{d}" for a in range(4) for b in range(4) for c in range(5) for d in range(2)]
    assert pins.satisfiable(versions) == any(versions.contains(v) for v in grid)


@given(st.text(max_size=80))
def test_any_text_is_an_environment_or_one_sentence(text):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "e.yml"
        path.write_text("dependencies:\n  - " + text, encoding="utf-8")
        try:
            list(pins.conflicts(conda_file.read_conda_file(path)))
        except conda_file.CondaFileError as error:
            assert "\n" not in str(error)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(9 * ['*' + before])}]\n" for before, name in itertools.pairwise("abcdefghi")
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 5000, "cannot be read"),
        (BOMB + "dependencies: [*i]\n", "is neither a package nor a pip list"),
        (BOMB + "dependencies: [{pip: [*i]}]\n", "is no pip requirement"),
        ("\udcff", "cannot be read"),
        ("channels: 7\ndependencies: [python]\n", None),
    ],
    ids=["deep", "bomb", "bomb of pip", "not UTF-8", "channels"],
)
def test_a_hostile_file_is_one_short_sentence(text, says, tmp_path):
    path = tmp_path / "e.yml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    if says is None:
        assert conda_file.read_conda_file(path).channels == ()
        return
    with pytest.raises(conda_file.CondaFileError, match=says) as caught:
        conda_file.read_conda_file(path)
    assert len(str(caught.value)) < 1000 and "\n" not in str(caught.value)


def test_an_unknown_size_is_compared_with_sizes_that_are_offered():
    for size in sizes.SIZES.values():
        suggested = [sizes.find(name) for name in sizes.similar(size.name + "x")]
        assert all(found.retires_on is None or found.retires_on > date.today() for found in suggested)
    assert sizes.similar("STANDARD_NC4as_T4_v33")[0] == "STANDARD_NC4as_T4_v3"


def test_no_row_of_the_tables_is_there_twice_and_each_says_where_it_was_read():
    for name, key, held in (
        ("vm_sizes", "name", sizes.SIZES), ("base_images", "name", images.IMAGES), ("pins", None, pins.RULES)
    ):  # fmt: skip
        rows = tables.read_table(name)
        assert len(rows) == len(held) == len({row[key] if key else tuple(row.values()) for row in rows})
        assert all(row.get("source") or row.get("why") for row in rows)


def test_every_size_says_when_it_was_read():
    for key, size in sizes.SIZES.items():
        assert key == size.name.upper() and date(2026, 1, 1) <= size.read_on
        assert (size.gpus > 0) == (size.compute_capability is not None)
        assert not size.successor or sizes.find(size.successor), size
        if size.successor:
            assert sizes.find(size.successor).retires_on is None
        assert size.retires_on is None or size.successor


@pytest.mark.parametrize(
    ("size", "capability", "newest_cuda"),
    # The facts' table, row by row: GPU, compute capability, newest CUDA major with code for it.
    [
        ("STANDARD_NC6", (3, 7), 11), ("STANDARD_NC6s_v2", (6, 0), 12), ("STANDARD_ND6s", (6, 1), 12),
        ("STANDARD_NC6s_v3", (7, 0), 12), ("STANDARD_NC4as_T4_v3", (7, 5), 13),
        ("STANDARD_NV36ads_A10_v5", (8, 6), 13), ("STANDARD_NC24ads_A100_v4", (8, 0), 13),
        ("STANDARD_NC40ads_H100_v5", (9, 0), 13), ("STANDARD_ND96isr_H200_v5", (9, 0), 13),
    ],
)  # fmt: skip
def test_gpus_and_cuda(size, capability, newest_cuda):
    assert sizes.find(size).compute_capability == capability
    supported = [major for major in (10, 11, 12, 13) if images.supports((major, 8), capability)]
    assert max(supported) == newest_cuda


@pytest.mark.parametrize("size", sizes.SIZES.values(), ids=lambda size: size.name)
def test_the_image_chosen_for_a_gpu_has_code_for_it(size):
    image = images.find(images.image_for(size.compute_capability))
    if size.compute_capability is None:
        assert image.cuda is None
    else:
        assert images.supports(image.cuda, size.compute_capability)
        assert not image.deprecated_on or size.compute_capability < (5, 0)


def test_version_literals_of_the_rules_are_versions():
    for rule in pins.RULES:
        for specifier in SpecifierSet(rule.needs):
            Version(specifier.version.removesuffix(".*"))
