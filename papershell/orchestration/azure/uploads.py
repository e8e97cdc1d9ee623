"""Data of a workspace: folders uploaded and verified, datasets registered."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from papershell.orchestration.azure.sdk import asking
from papershell.orchestration.azure.snapshot import file_sizes
from papershell.orchestration.errors import OrchestrationError

if TYPE_CHECKING:
    from azureml.core import Dataset, Workspace

Stamp = tuple[int, bytes]  # size in bytes and MD5 of a file's content
_UPLOADS_AT_ONCE = 8


def upload_folder(workspace: Workspace, folder: Path, target: str) -> dict[str, int]:
    """Bring a folder to ``target`` of the default datastore; return the sizes of the files that were sent, by name.

    Only files whose content differs are sent: blob storage keeps the MD5 of each, which is compared.

    Raises
    ------
    OrchestrationError
        A file cannot be sent, or a listing of the datastore does not show every file as it is here.
    """
    wanted = {name: (size, _md5(folder / name)) for name, size in file_sizes(folder).items()}
    with asking(f"upload {folder}"):
        datastore = workspace.get_default_datastore()
        container = datastore.blob_service.get_container_client(datastore.container_name)
        sent = _differing(wanted, _stamps(container, target))
        with ThreadPoolExecutor(_UPLOADS_AT_ONCE) as pool:
            list(
                pool.map(
                    lambda name: _send(container, folder / name, f"{target}/{name}", wanted[name][1]), sent
                )
            )
        there = _stamps(container, target) if sent else wanted
    if wrong := _differing(wanted, there):
        raise OrchestrationError(
            f"{len(wrong)} of {len(wanted)} files of {folder} did not arrive whole, such as {wrong[0]} "
            f"({there.get(wrong[0], (0,))[0]} of {wanted[wrong[0]][0]} bytes); submit again"
        )
    return {name: wanted[name][0] for name in sent}


def _differing(wanted: dict[str, Stamp], there: dict[str, Stamp]) -> list[str]:
    return [name for name, stamp in wanted.items() if there.get(name) != stamp]


def _stamps(container: Any, target: str) -> dict[str, Stamp]:
    """Return size and MD5 of every blob below ``target``, as the storage keeps them."""
    return {
        blob.name.removeprefix(f"{target}/"): (blob.size, bytes(blob.content_settings.content_md5 or b""))
        for blob in container.list_blobs(name_starts_with=f"{target}/")
    }


def _send(container: Any, path: Path, name: str, md5: bytes) -> None:
    """Send one file. Its MD5 goes along: the storage computes it by itself only for what comes in one request."""
    from azureml._vendor.azure_storage.blob import ContentSettings

    with path.open("rb") as file:
        container.upload_blob(
            name, file, overwrite=True, content_settings=ContentSettings(content_md5=bytearray(md5))
        )


def _md5(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).digest()


def register_dataset(workspace: Workspace, name: str, paths: Sequence[str]) -> Dataset:
    """Register a FileDataset as the next version of ``name``.

    Parameters
    ----------
    paths : web addresses, or paths of the default datastore; the SDK refuses a mix of both.
    """
    from azureml.core import Dataset

    with asking(f"register dataset {name}"):
        datastore = workspace.get_default_datastore()
        sources = [p if "://" in p else (datastore, p) for p in paths]
        # Validation would need the data preparation engine, which reads its own network settings.
        dataset = Dataset.File.from_files(sources, validate=False)
        return dataset.register(workspace, name, create_new_version=True)
