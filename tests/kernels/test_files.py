"""Files are written whole or not at all, through links, to devices, and on disks that fail."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from papershell.kernels.files import replacing, replacing_path, write_json

NOBODY = 65534


@contextmanager
def plain_user() -> Iterator[None]:
    """Lose root's right to write everywhere, for a while."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(was)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


def write(path: Path | str, data: bytes, **options: bool) -> None:
    with replacing(path, **options) as file:
        file.write(data)


def test_an_exception_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "new" / "inner" / "file"
    with pytest.raises(ZeroDivisionError), replacing(path, parents=True) as file:
        file.write(b"half of the ne")
        1 / 0  # noqa: B018
    assert list(tmp_path.iterdir()) == []  # the folders made for it are gone as well
    write(path, b"old", parents=True)
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(b"half of the ne")
        1 / 0  # noqa: B018
    assert path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]


def test_a_folder_made_for_a_failed_file_stays_if_somebody_uses_it(tmp_path):
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "new" / "file", parents=True):
        (tmp_path / "new" / "other").touch()
        1 / 0  # noqa: B018
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["other"]


def test_a_device_is_written_and_stays_a_device(tmp_path):
    path = tmp_path / "null"
    if os.geteuid() == 0:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    else:
        path = Path("/dev/null")
    write(path, b"gone")
    (link := tmp_path / "link").symlink_to(path)
    write(link, b"gone too")
    with replacing(path) as file:
        np.savez(file, a=np.arange(3))
    assert stat.S_ISCHR(path.stat().st_mode) and link.is_symlink()


def test_a_full_device_is_one_sentence():
    with pytest.raises(
        OSError, match=r"^/dev/full cannot be written: the disk is full; free some space$"
    ) as told:
        write("/dev/full", b"x" * 100_000)
    assert told.value.errno == errno.ENOSPC
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_a_pipe_gets_the_bytes_and_stays_a_pipe(tmp_path):
    os.mkfifo(path := tmp_path / "pipe")
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(path.read_bytes()))
    reader.start()
    with replacing(path) as file:
        np.savez(file, a=np.arange(1000))  # a writer that would like to seek
    reader.join()
    (copy := tmp_path / "copy.npz").write_bytes(received[0])
    assert np.array_equal(np.load(copy)["a"], np.arange(1000))
    assert stat.S_ISFIFO(path.stat().st_mode)


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/proc/self/fd/1"])
def test_standard_output_is_written_where_it_goes(tmp_path, name):
    code = (
        "from papershell.kernels.files import replacing\nprint('first')\n"
        f"with replacing({name!r}) as file: file.write(b'second\\n')\nprint('third')"
    )
    with open(tmp_path / "out", "w") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True, cwd=tmp_path)
    assert (tmp_path / "out").read_text().split() == ["first", "second", "third"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_symbolic_link_keeps_its_target(tmp_path):
    target = tmp_path / "elsewhere" / "target"
    (link := tmp_path / "link").symlink_to("elsewhere/target")
    write(link, b"new", parents=True)  # the target does not exist yet
    assert link.is_symlink() and target.read_bytes() == b"new"
    write(link, b"newer")
    assert link.is_symlink() and target.read_bytes() == b"newer"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["elsewhere", "link", "target"]


def test_a_link_to_itself_is_one_sentence(tmp_path):
    (link := tmp_path / "link").symlink_to(link)
    with pytest.raises(
        OSError, match="link cannot be written: it is a symbolic link that leads back to itself"
    ):
        write(link, b"x")


def test_a_link_into_a_missing_folder_names_that_folder(tmp_path):
    (link := tmp_path / "link").symlink_to(tmp_path / "gone" / "target")
    with pytest.raises(FileNotFoundError, match=f"there is no folder {tmp_path / 'gone'}; make it first"):
        write(link, b"x")


def test_the_mode_of_an_old_file_stays_and_a_new_one_respects_the_umask(tmp_path):
    (old := tmp_path / "old").touch()
    old.chmod(0o606)
    before = os.umask(0o077)
    try:
        write(old, b"x")
        write(tmp_path / "new", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE(old.stat().st_mode) == 0o606
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


def test_a_private_file_was_never_readable_to_others(tmp_path):
    (path := tmp_path / "key").touch()
    path.chmod(0o644)
    with replacing(path, private=True):
        modes = [stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir() if file != path]
    assert modes == [0o600] and stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_missing_folder_is_named(tmp_path):
    path = tmp_path / "gone" / "file"
    with pytest.raises(
        FileNotFoundError,
        match=rf"^{path} cannot be written: there is no folder {path.parent}; make it first$",
    ):
        write(path, b"x")


def test_a_folder_in_the_place_of_the_file_stays(tmp_path):
    with pytest.raises(IsADirectoryError, match="it is a folder; name a file in it"):
        write(tmp_path, b"x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("parents", [False, True])
def test_a_file_in_the_place_of_the_folder_stays(tmp_path, parents):
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(OSError, match=f"{tmp_path / 'file'} is not a folder; choose another one"):
        write(tmp_path / "file" / "name", b"x", parents=parents)
    assert (tmp_path / "file").read_bytes() == b"x"


@pytest.mark.parametrize("name", ["n" * 300, "n" * 300 + "/file"])
def test_a_name_that_is_too_long_is_one_sentence(tmp_path, name):
    with pytest.raises(OSError, match="name is too long; choose a shorter one") as told:
        write(tmp_path / "new" / name, b"x", parents=True)
    assert told.value.errno == errno.ENAMETOOLONG and list(tmp_path.iterdir()) == []


def test_the_longest_name_is_written(tmp_path):
    write(tmp_path / ("n" * 255), b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["n" * 255]


def test_a_read_only_folder_is_one_sentence(open_folder):
    (folder := open_folder / "locked").mkdir(mode=0o555)
    with (
        plain_user(),
        pytest.raises(PermissionError, match=f"you may not write to the folder {folder}; choose"),
    ):
        write(folder / "file", b"x")
    with plain_user(), pytest.raises(PermissionError, match="you may not write"):
        write(folder / "new" / "file", b"x", parents=True)
    assert list(folder.iterdir()) == []


@pytest.fixture
def small_files_only() -> Iterator[None]:
    """No file may grow beyond 64 KiB: the system answers like a full disk, in the middle of the writing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_the_system_cuts_short_leaves_the_old_file(tmp_path, small_files_only):
    path = tmp_path / "new" / "file"
    with pytest.raises(OSError, match="cannot be written: the system allows no larger file"):
        write(path, b"x" * 100_000, parents=True)
    assert list(tmp_path.iterdir()) == []
    write(path, b"old", parents=True)
    with pytest.raises(OSError, match="allows no larger file"), replacing(path) as file:
        np.savez(file, a=np.zeros(100_000))
    assert path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]


def test_an_error_on_another_file_passes_unchanged(tmp_path):
    with pytest.raises(FileNotFoundError, match="source") as told, replacing(tmp_path / "file") as file:
        file.write((tmp_path / "source").read_bytes())
    assert told.value.filename == str(tmp_path / "source") and list(tmp_path.iterdir()) == []


WRITER = """
import sys
from papershell.kernels.files import replacing
version = 0
while True:
    version += 1
    with replacing(sys.argv[1], parents=True) as file:
        for _ in range(64):
            file.write(b"%08d" % version * 512)
    print(version, flush=True)
"""


def test_the_file_is_whole_whenever_its_writer_is_killed(tmp_path):
    rng = np.random.default_rng(7)
    path = tmp_path / "new" / "file"
    for _ in range(8):
        with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE) as writer:
            writer.stdout.readline()
            time.sleep(rng.uniform(0, 0.02))
            os.kill(writer.pid, signal.SIGKILL)
        content = path.read_bytes()
        assert content == content[:8] * 512 * 64


def test_json_is_written_with_its_folder(tmp_path):
    write_json(tmp_path / "a" / "b.json", {"name": "Zoë"}, private=True)
    assert json.loads((tmp_path / "a" / "b.json").read_text()) == {"name": "Zoë"}
    assert stat.S_IMODE((tmp_path / "a" / "b.json").stat().st_mode) == 0o600


def test_a_name_for_software_that_opens_files_itself(tmp_path):
    (path := tmp_path / "file").write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), replacing_path(path) as temporary:
        temporary.write_bytes(b"half")
        1 / 0  # noqa: B018
    assert path.read_bytes() == b"old"
    with replacing_path(path) as temporary:
        temporary.write_bytes(b"new")
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["-", "/dev/null"])
def test_a_device_is_never_replaced_by_a_name(name):
    with pytest.raises(OSError, match=f"^{name} is a device or a pipe; name a file$"), replacing_path(name):
        pytest.fail("the block must not run")


def test_a_folder_is_replaced_whole(tmp_path):
    folder = tmp_path / "made" / "folder"
    for content in ("old", "new"):
        with replacing_path(folder, parents=True) as temporary:
            temporary.mkdir()
            (temporary / content).touch()
        assert [path.name for path in folder.iterdir()] == [content]
    with pytest.raises(ZeroDivisionError), replacing_path(folder) as temporary:
        temporary.mkdir()
        1 / 0  # noqa: B018
    assert [path.name for path in folder.iterdir()] == ["new"] and list(folder.parent.iterdir()) == [folder]
