"""Data of a workspace: folders uploaded and verified, datasets registered."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from papershell.orchestration.azure.sdk import asking
from papershell.orchestration.azure.snapshot import file_sizes
from papershell.orchestration.errors import OrchestrationError

if TYPE_CHECKING:
    from azureml.core import Dataset, Workspace


def upload_folder(workspace: Workspace, folder: Path, target: str) -> dict[str, int]:
    """Upload a folder to ``target`` of the default datastore; return its names and sizes there.

    Raises
    ------
    OrchestrationError
        A listing of the datastore does not show every file with its size: the SDK itself reports
        a failed upload in its log only.
    """
    wanted = file_sizes(folder)
    with asking(f"upload {folder}"):
        datastore = workspace.get_default_datastore()
        with _quiet():
            datastore.upload(str(folder), target_path=target, overwrite=True, show_progress=False)
        container = datastore.blob_service.get_container_client(datastore.container_name)
        blobs = container.list_blobs(name_starts_with=f"{target}/")
        there = {blob.name.removeprefix(f"{target}/"): blob.size for blob in blobs}
    wrong = [name for name, size in wanted.items() if there.get(name) != size]
    if wrong:
        raise OrchestrationError(
            f"{len(wrong)} of {len(wanted)} files of {folder} did not arrive whole, such as {wrong[0]} "
            f"({there.get(wrong[0], 0)} of {wanted[wrong[0]]} bytes); submit again"
        )
    return wanted


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


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the SDK from printing that Datastore.upload is deprecated: its replacement loses errors."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
