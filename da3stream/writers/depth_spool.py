"""Reduced depth and colours of all frames in a file: what is needed again after the last frame has come."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from da3stream.writers.tsdf import DepthView


class DepthSpool:
    """A file of views of one size, with their cameras."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream = path.open("w+b")
        self._record = np.dtype([])
        self._views = 0

    def __len__(self) -> int:
        return self._views

    def append(self, view: DepthView) -> None:
        """Add a view, of the size of the others."""
        self._record = np.dtype(
            [
                ("depth", "<f4", view.depth.shape),
                ("colors", "u1", view.colors.shape),
                ("intrinsics", "<f8", (3, 3)),
                ("world_from_cam", "<f8", (4, 4)),
            ]
        )
        record = np.zeros((), dtype=self._record)
        for name in self._record.names or ():
            record[name] = getattr(view, name)
        self._stream.seek(self._views * self._record.itemsize)
        self._stream.write(record.tobytes())
        self._views += 1

    def __getitem__(self, row: int) -> DepthView:
        self._stream.seek(row * self._record.itemsize)
        record = np.frombuffer(self._stream.read(self._record.itemsize), dtype=self._record)[0]
        return DepthView(**{name: record[name] for name in self._record.names or ()})

    def remove(self) -> None:
        """Close and remove the file; doing it again changes nothing."""
        self._stream.close()
        self._path.unlink(missing_ok=True)
