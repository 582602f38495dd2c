"""Strings that tell whether an input is still the same."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

_VIDEO_EDGE_BYTES = 1 << 20


def content_fingerprint(path: Path, edge_bytes: int = _VIDEO_EDGE_BYTES) -> str:
    """SHA-256 of a file's size and of its first and last `edge_bytes`.

    Not of all of it: an hour of 4K video is tens of gigabytes, and both ends hold what changes with any new
    recording or encoding (headers, index, first and last frames). Name and modification time do not count: a
    copy is the same input.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size_bytes = file.seek(0, os.SEEK_END)
        digest.update(size_bytes.to_bytes(8, "little"))
        for start in (0, max(edge_bytes, size_bytes - edge_bytes)):
            file.seek(start)
            digest.update(file.read(edge_bytes))
    return digest.hexdigest()


def identity_string(kind: str, fingerprint: str, **options: object) -> str:
    """`kind:fingerprint:options`: equal for equal content and options."""
    return f"{kind}:{fingerprint}:{json.dumps(options, sort_keys=True, separators=(',', ':'))}"
