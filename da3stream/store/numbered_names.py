"""Which names of frames are numbers that were made up."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from da3stream.store.records import FrameTable


def numbered_in(source: str, tables: Sequence[FrameTable]) -> str | None:
    """What the names of a run's frames are numbers of; None if they are names of files.

    Two runs over one video are numbered alike, whichever of its frames they took. Every capture of a live
    input has frames of its own: it is told by the first ones.

    Args:
        source: identity of the source, as run.json has it.
        tables: of all chunks that own frames, in their order; at least one.
    """
    kind, *parts = source.split(":")
    if kind == "images" or any(table.given_names is not None for table in tables):
        return None
    if kind == "live":
        return f"live:{zlib.crc32(tables[0].crc32.tobytes()):08x}"
    return f"video:{parts[0]}" if kind == "video" else source
