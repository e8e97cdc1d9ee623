"""The state that all services of one workspace share: folder, records, tokens, addresses."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from papershell.orchestration.loopback.names import ARTIFACTS, BLOB_HOST, SCOPE
from papershell.orchestration.loopback.page_access import PageAccess
from papershell.orchestration.loopback.store import Store
from papershell.orchestration.loopback.tokens import Tokens

HOST = "127.0.0.1"
DISCOVERY = "discovery"


@dataclass(frozen=True)
class Identity:
    """The identity of a workspace: its id, the key that signs its tokens, its last port."""

    workspace_id: str
    key: str
    port: int


class State:
    """The state of a workspace, and the addresses under which parts of it are reached.

    Layout of ``root``: ``state.sqlite`` (all records), ``blobs/<container>/...`` (data, artifacts,
    logs, snapshots), ``blocks/`` (blocks of unfinished blobs), ``runs/<run id>/`` (working folders),
    ``access.log`` (one line per request).

    Parameters
    ----------
    provision_s : seconds that a cluster takes to appear, to resize and to vanish.
    """

    def __init__(self, root: Path, identity: Identity, *, provision_s: float = 0.0) -> None:
        self.root = root
        self.blobs = root / "blobs"
        self.store = Store(root / "state.sqlite")
        self.tokens = Tokens(identity.key)
        self.page_access = PageAccess(self.tokens)
        self.provision_s = provision_s
        self.url = ""  # this and the id are known as soon as a server carries the service
        self.workspace_id = ""
        self._identity = identity

    def carried_on(self, port: int) -> None:
        """Learn the port. Clients cache addresses by the workspace's id, so the id goes with the port."""
        self.url = f"http://{HOST}:{port}"
        self.workspace_id = str(uuid.uuid5(uuid.UUID(self._identity.workspace_id), str(port)))

    def discovery_url(self) -> str:
        """Return the address of the discovery document, which clients fetch without a token."""
        return f"{self.url}/{DISCOVERY}/{self.tokens.signature(DISCOVERY)}"

    def tracking_url(self) -> str:
        """Return the address that MLflow's client takes as its tracking URI."""
        return f"{self.url}/mlflow/v2.0{SCOPE}"

    def files_url(self, name: str) -> str:
        """Return the signed address below which MLflow's client reads and writes artifacts."""
        return f"{self.url}/mlflow-files/{self.tokens.signature(ARTIFACTS)}/mlflow-artifacts/artifacts/{name}"

    def upload_url(self, container: str, name: str) -> str:
        """Return the signed address under which the client writes a blob."""
        return f"https://{BLOB_HOST}/{self._signed(container, name)}"

    def download_url(self, container: str, name: str) -> str:
        """Return the signed address under which anyone who has it reads a blob, without TLS."""
        return f"{self.url}/blobs/{self._signed(container, name)}"

    def _signed(self, container: str, name: str) -> str:
        return f"{container}/{quote(name)}?sig={self.tokens.signature(container)}"
