"""The parts of the service by themselves: filters, the store, blobs in blocks and ranges."""

from __future__ import annotations

import base64
import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

import pytest
import requests
import werkzeug.exceptions as http
from hypothesis import given
from hypothesis import strategies as st

from papershell.orchestration import loopback
from papershell.orchestration.loopback.filters import parse_filter
from papershell.orchestration.loopback.store import Store

RUN = {
    "runId": "r1", "status": "Completed", "parentRunId": None, "runType": "azureml.scriptrun", "target": "c1",
    "createdUtc": "2026-11-20T10:00:00Z", "tags": {"colour": "light blue"}, "properties": {"kind": "probe"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("Status eq Completed", True),
        ("(Status eq Failed)", False),
        ("RunId ne r1", False),
        ("(ParentRunId eq null)", True),
        ("(Tags/colour eq light blue)", True),
        ("(Tags/size ne null or Tags/size eq null)", True),
        ("(Tags/colour eq light blue) and (Properties/kind eq other)", False),
        ("((RunType eq a.b or Properties/azureml.runsource eq a.b) and (Status eq Completed))", False),
        ("Status eq Failed or Status eq Completed and Target eq c1", True),
        ("(Status eq Failed or Status eq Completed) and Target eq c2", False),
        ("(CreatedUtc ge 2026-11-20 09:00:00)", True),
        ("(CreatedUtc ge 2026-11-20 11:00:00)", False),
        ("(CreatedUtc gt 2026-11-19T11:00:00Z)", True),
    ],
)
def test_filters_as_the_client_writes_them(text, fits):
    assert parse_filter(text)(RUN) is fits


@pytest.mark.parametrize(
    "text", ["", "Status", "Status is Completed", "(Status eq a", "Status eq a)", "and", "()"]
)
def test_what_is_no_filter_is_refused(text):
    with pytest.raises(http.BadRequest):
        parse_filter(text)


@given(
    st.text(max_size=60) | st.lists(st.sampled_from(["(", ")", " and ", " or ", "a eq b", "x"])).map("".join)
)
def test_any_text_is_a_filter_or_refused(text):
    with contextlib.suppress(http.BadRequest):
        assert parse_filter(text)(RUN) in (True, False)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "a/b", "ab", "%", "_"]),
            st.none() | st.dictionaries(st.text(), st.integers()),
        )
    )
)
def test_the_store_is_an_ordered_dictionary_that_survives(steps):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        store, model = Store(Path(folder) / "s.sqlite"), {}
        for key, document in steps:
            if document is None:
                store.remove("k", key)
                model.pop(key, None)
            else:
                store.put("k", key, document)
                model[key] = document
        store.close()
        again = Store(Path(folder) / "s.sqlite")
        assert again.all("k") == list(model.values())
        assert again.all("k", "a") == [d for key, d in model.items() if key.startswith("a")]
        assert again.get("k", "%") == model.get("%") and again.all("other") == []
        again.close()


def test_updates_from_many_threads_are_all_kept(tmp_path):
    store = Store(tmp_path / "s.sqlite")
    store.put("k", "counter", {"n": 0})

    def add(_: int) -> None:
        store.update("k", "counter", lambda document: document.update(n=document["n"] + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(200)))
    assert store.get("k", "counter") == {"n": 200}
    with pytest.raises(KeyError):
        store.update("k", "absent", lambda document: None)
    store.close()


@pytest.fixture
def blob(root, workspace):
    """The address of a blob of the default datastore, without its signature, and the signature."""
    store = workspace.get_default_datastore()
    return f"{loopback.find(root).url}/blobs/{store.container_name}", store.sas_token


def test_a_blob_in_blocks(blob):
    address, signature = blob
    blocks = {base64.b64encode(bytes([i])).decode(): os.urandom(1000) for i in range(3)}
    for name, content in blocks.items():
        answer = requests.put(
            f"{address}/big.bin?{signature}", params={"comp": "block", "blockid": name}, data=content
        )
        assert answer.status_code == 201
    assert requests.head(f"{address}/big.bin?{signature}").status_code == 404
    order = [*blocks][::-1]
    listed = "".join(f"<Latest>{name}</Latest>" for name in order)
    commit = requests.put(
        f"{address}/big.bin?{signature}",
        params={"comp": "blocklist"},
        data=f"<BlockList>{listed}</BlockList>",
    )
    assert commit.status_code == 201
    assert requests.get(f"{address}/big.bin?{signature}").content == b"".join(blocks[name] for name in order)
    for body in ("<BlockList><Latest>none</Latest></BlockList>", "no xml"):
        bad = requests.put(f"{address}/bad.bin?{signature}", params={"comp": "blocklist"}, data=body)
        assert bad.status_code == 400
    assert requests.head(f"{address}/bad.bin?{signature}").status_code == 404


def test_ranges_listing_and_removal(blob):
    address, signature = blob
    for name in ("part/a", "part/b", "other"):
        assert requests.put(f"{address}/{name}?{signature}", data=b"0123456789").status_code == 201
    for header in ("Range", "x-ms-range"):
        part = requests.get(f"{address}/part/a?{signature}", headers={header: "bytes=3-5"})
        assert (part.status_code, part.content, part.headers["Content-Range"]) == (
            206,
            b"345",
            "bytes 3-5/10",
        )
    beyond = requests.get(f"{address}/part/a?{signature}", headers={"Range": "bytes=10-"})
    assert beyond.status_code == 416
    listing = requests.get(f"{address}?{signature}", params={"comp": "list", "prefix": "part/"})
    blobs = ElementTree.fromstring(listing.content).iter("Blob")
    found = {b.findtext("Name"): b.findtext("Properties/Content-Length") for b in blobs}
    assert found == {"part/a": "10", "part/b": "10"}
    assert requests.delete(f"{address}/part/a?{signature}").status_code == 202
    assert requests.get(f"{address}/part/a?{signature}").status_code == 404
