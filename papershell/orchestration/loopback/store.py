"""Everything the service remembers, as JSON documents in one SQLite file."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import werkzeug.exceptions as http

Document = dict[str, Any]
_LAST = "\U0010ffff"  # comes after every sign that a key can hold


def key_of(*parts: str) -> str:
    """Return the key made of these parts; a slash within a part is quoted."""
    return "/".join(quote(part, safe=" ") for part in parts)


class Store:
    """Documents by kind and key, kept in the order in which they were first put.

    Every call is one committed transaction, or belongs to the one that the caller opened, so the
    file is whole whenever the process ends. Safe to share between threads.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS documents ("
            "place INTEGER PRIMARY KEY, kind TEXT, key TEXT, body TEXT, UNIQUE (kind, key))"
        )
        # In the order of places, so that the newest of a kind are found without looking at the others.
        self._connection.execute("CREATE INDEX IF NOT EXISTS by_kind ON documents (kind)")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the block one step: other threads wait, and an exception undoes its changes."""
        with self._lock:
            if self._connection.in_transaction:
                yield
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def put(self, kind: str, key: str, document: Document) -> Document:
        """Write ``document``, replacing the one that lay there; return it."""
        with self._lock:
            self._connection.execute(
                "INSERT INTO documents (kind, key, body) VALUES (?, ?, ?) "
                "ON CONFLICT (kind, key) DO UPDATE SET body = excluded.body",
                (kind, key, json.dumps(document)),
            )
        return document

    def add(self, kind: str, key: str, document: Document) -> Document:
        """Write ``document`` unless one lies there already; return the one that is there now."""
        with self.transaction():
            return self.get(kind, key) or self.put(kind, key, document)

    def get(self, kind: str, key: str) -> Document | None:
        """Return the document, or None.

        Raises
        ------
        TypeError
            The key, which a request may have brought, is no text.
        """
        if not isinstance(key, str):
            raise TypeError(f"a {kind} is named by text, not by {key!r}")
        with self._lock:
            row = self._connection.execute(
                "SELECT body FROM documents WHERE kind = ? AND key = ?", (kind, key)
            ).fetchone()
        return json.loads(row[0]) if row else None

    def require(self, kind: str, key: str, sentence: str) -> Document:
        """Return the document.

        Raises
        ------
        werkzeug.exceptions.NotFound
            There is none; the message is ``sentence``.
        """
        if (document := self.get(kind, key)) is None:
            raise http.NotFound(sentence)
        return document

    def update(self, kind: str, key: str, change: Callable[[Document], object]) -> Document:
        """Let ``change`` edit the document in place, as one step; return it.

        Raises
        ------
        KeyError
            There is no such document.
        """
        with self.transaction():
            document = self.get(kind, key)
            if document is None:
                raise KeyError(key)
            change(document)
            return self.put(kind, key, document)

    def remove(self, kind: str, key: str) -> None:
        """Forget the document, if there is one."""
        with self._lock:
            self._connection.execute("DELETE FROM documents WHERE kind = ? AND key = ?", (kind, key))

    def all(self, kind: str, prefix: str = "") -> list[Document]:
        """Return the documents of one kind whose key begins with ``prefix``, oldest first."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT body FROM documents WHERE kind = ? AND key >= ? AND key < ? ORDER BY place",
                (kind, prefix, prefix + _LAST),  # a range of the index
            ).fetchall()
        return [json.loads(body) for (body,) in rows]

    def newest(self, kind: str, fields: Document, first: int = 0, most: int = -1) -> list[Document]:
        """Return documents of one kind whose ``fields`` are these, newest first, from the ``first``-th on."""
        query, values = _where(kind, fields)
        with self._lock:
            rows = self._connection.execute(
                f"SELECT body FROM documents {query} ORDER BY place DESC LIMIT ? OFFSET ?",
                (*values, most, first),
            ).fetchall()
        return [json.loads(body) for (body,) in rows]

    def sample(self, kind: str, prefix: str, most: int) -> list[tuple[int, Document]]:
        """Return about ``most`` of the documents that `all` returns, evenly spread, with their places there.

        The last one is among them.
        """
        numbered = (
            "SELECT body, row_number() OVER (ORDER BY place) - 1 AS n, count(*) OVER () AS total "
            "FROM documents WHERE kind = :kind AND key >= :first AND key < :last"
        )
        query = (
            f"SELECT n, body FROM ({numbered}) "
            "WHERE n % ((total + :most - 1) / :most) = 0 OR n = total - 1 ORDER BY n"
        )
        bound = {"kind": kind, "first": prefix, "last": prefix + _LAST, "most": most}
        with self._lock:
            rows = self._connection.execute(query, bound).fetchall()
        return [(n, json.loads(body)) for n, body in rows]

    def count(self, kind: str) -> int:
        """Return the number of documents of one kind."""
        query, values = _where(kind, {})
        with self._lock:
            return int(
                self._connection.execute(f"SELECT count(*) FROM documents {query}", values).fetchone()[0]
            )

    def counts(self, kind: str, field: str, fields: Document) -> dict[Any, int]:
        """Return how many documents of one kind whose ``fields`` are these have each value of ``field``."""
        query, values = _where(kind, fields)
        value = f"CASE WHEN json_valid(body) THEN json_extract(body, '$.{field}') END"
        with self._lock:
            rows = self._connection.execute(
                f"SELECT {value}, count(*) FROM documents {query} GROUP BY 1", values
            ).fetchall()
        return dict(rows)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()


def _where(kind: str, fields: Document) -> tuple[str, list[Any]]:
    """Return the condition that selects documents, and its values. A body with NaN is no JSON to SQLite."""
    parts = [
        "kind = ?",
        *(f"CASE WHEN json_valid(body) THEN json_extract(body, '$.{name}') IS ? END" for name in fields),
    ]
    return "WHERE " + " AND ".join(parts), [kind, *fields.values()]
