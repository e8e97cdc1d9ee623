"""Data that a run gives back (OutputFileDatasetConfig): written to a folder, kept in a datastore as a data set."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from papershell.orchestration.loopback import datasets
from papershell.orchestration.loopback.inputs import Input, InputError
from papershell.orchestration.loopback.names import DATASTORES
from papershell.orchestration.loopback.store import Document, Store
from papershell.orchestration.loopback.stored_files import inside, regular_files

_DEFAULT = {"datastoreName": "workspaceblobstore", "relativePath": "dataset/{run-id}/{output-name}"}
RECORDS = "output-datasets"


def make_places(configuration: Document, folder: Path) -> list[Input]:
    """Make a folder below ``folder`` for each output of a submitted configuration; return what the script is told.

    Raises
    ------
    InputError
        An output is of a kind that this service does not have.
    """
    places = []
    for name, wanted in _outputs(configuration).items():
        options = wanted.get("additionalOptions") or {}
        registration = options.get("registrationOptions") or {}
        transformed = (registration.get("datasetRegistrationOptions") or {}).get("additionalTransformation")
        if str(wanted.get("mechanism")).lower() not in ("mount", "upload"):
            raise InputError(f"output {name!r} is neither mounted nor uploaded; use as_mount or as_upload")
        if transformed:
            raise InputError(f"output {name!r} is to become a table, which is missing here; keep it as files")
        place = inside(folder, name)
        place.mkdir(parents=True)
        places.append(Input(f"DatasetOutputConfig:{name}", name, str(place)))
    return places


def variables(places: Sequence[Input]) -> dict[str, str]:
    """Return the variable that `Run.output_datasets` reads."""
    return {"AZUREML_DATASET_FILE_OUTPUTS": ";".join(place.variable for place in places)} if places else {}


def keep(
    configuration: Document, places: Sequence[Input], run_id: str, completed: bool, store: Store, blobs: Path
) -> None:
    """Copy what a run wrote into the datastores, and note the data sets that it makes.

    An output that is uploaded is kept if the run completed, one that is mounted in any case.

    Raises
    ------
    InputError
        There is no such datastore.
    """
    kept = []
    for place in places:
        wanted = _outputs(configuration)[place.variable]
        if completed or str(wanted["mechanism"]).lower() == "mount":
            dataset = _keep(wanted, place, run_id, store, blobs)
            kept.append(
                {
                    "identifier": {"savedId": dataset},
                    "outputType": "RunOutput",
                    "outputDetails": {"outputName": place.variable},
                }
            )
    if kept:
        store.put(RECORDS, run_id, {"value": kept})


def _outputs(configuration: Document) -> Mapping[str, Document]:
    return configuration.get("outputData") or {}


def _keep(wanted: Document, place: Input, run_id: str, store: Store, blobs: Path) -> str:
    """Copy one output into its datastore; return the saved id of its data set."""
    where = (wanted.get("outputLocation") or {}).get("dataPath") or _DEFAULT
    datastore = where["datastoreName"]
    if datastore not in DATASTORES:
        raise InputError(f"there is no datastore {datastore!r}; there are {', '.join(DATASTORES)}")
    path = (where.get("relativePath") or "").strip("/")
    path = path.replace("{run-id}", run_id).replace("{output-name}", place.variable)
    options = wanted.get("additionalOptions") or {}
    _copy(Path(place.value), blobs / DATASTORES[datastore], path, options.get("uploadOptions") or {})
    definition = {"dataflow": datasets.dataflow_of(datastore, path), "datasetType": "file"}
    registration = options.get("registrationOptions") or {}
    if not registration.get("name"):
        return str(datasets.save(store, definition)["id"])
    named = {k: registration[k] for k in ("name", "description", "tags") if registration.get(k)}
    named |= {"datasetType": "file", "isVisible": True, "latest": definition}
    return str(datasets.register(store, named, new_version=True)["latest"]["savedDatasetId"])


def _copy(source: Path, container: Path, path: str, options: Document) -> None:
    globs = (options.get("sourceGlobs") or {}).get("patterns") or ["*"]
    for file in regular_files(source):
        name = file.relative_to(source).as_posix()
        if any(fnmatch(name, pattern) for pattern in globs):
            target = inside(container, "/".join(filter(None, (path, name))))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
