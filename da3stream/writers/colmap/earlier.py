"""Features and matches of a folder that was written before. Imported by the worker process only.

They depend on images alone, not on poses: the same run in another world, or adjusted, has the same.
Tables: https://colmap.github.io/database.html
"""

from __future__ import annotations

import filecmp
import sqlite3
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any

import numpy as np
import pycolmap
from numpy.typing import NDArray

from da3stream.features import Features


class EarlierFolder:
    """A folder colmap/, open for reading; nothing in it changes. A context manager, for use in any thread."""

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: as it was written, with images/ and database.db.
        """
        self._images, self._lock = folder / "images", Lock()
        # Immutable: the library would make files beside it, and leave them there if it is killed.
        self._connection = sqlite3.connect(
            f"{(folder / 'database.db').resolve().as_uri()}?immutable=1", uri=True, check_same_thread=False
        )
        self._ids: dict[str, int] = dict(self._connection.execute("SELECT name, image_id FROM images"))

    def __enter__(self) -> EarlierFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def has(self, name: str, path: Path) -> bool:
        """Whether the image of a name has the bytes of a file."""
        earlier = self._images / name
        return name in self._ids and earlier.is_file() and filecmp.cmp(earlier, path, shallow=False)

    def features(self, name: str) -> Features | None:
        """Of an image; None if they are not known."""
        points = self._table("keypoints", "image_id", self._ids[name], np.dtype("<f4"))
        descriptors = self._table("descriptors", "image_id", self._ids[name], np.dtype(np.uint8))
        if points is None or descriptors is None:
            return None
        return Features(points=np.ascontiguousarray(points[:, :2]), descriptors=descriptors)

    def matches(self, first: str, second: str) -> NDArray[np.int32] | None:
        """(M, 2) rows of the features of two images; None if they are not known: pairs of which few matches
        fitted the poses were left out."""
        ids = self._ids[first], self._ids[second]
        if ids[0] >= ids[1]:
            return None
        pair_id = pycolmap.image_pair_to_pair_id(*ids)
        rows = self._table("matches", "pair_id", pair_id, np.dtype("<u4"))
        return None if rows is None else rows.astype(np.int32)

    def _table(self, table: str, key: str, value: int, dtype: np.dtype[Any]) -> NDArray[Any] | None:
        """The matrix in a row of a table."""
        with self._lock:
            found = self._connection.execute(
                f"SELECT rows, cols, data FROM {table} WHERE {key} = ?", (value,)
            ).fetchone()
        if found is None:
            return None
        rows, columns, content = found
        return np.frombuffer(content or b"", dtype).reshape(rows, columns).copy()
