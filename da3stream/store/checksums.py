"""Checksums of outputs: what `da3stream` has written, as it was written."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path

BULKY = frozenset({".jpg", ".jpeg", ".png", ".npz", ".exr"})
"""Of such files in a folder name and size must do: there may be hundreds of gigabytes."""
_BLOCK_BYTES = 1 << 20


def checksum_of(path: Path) -> int | None:
    """CRC-32 of a file, or of a folder's names, sizes and contents (not of `BULKY` ones); None if missing."""
    if path.is_file():
        return _crc32_of_file(path, 0)
    return _crc32_of_folder(sorted(path.rglob("*")), path) if path.is_dir() else None


def _crc32_of_folder(paths: Iterable[Path], root: Path) -> int:
    crc32 = 0
    for path in paths:
        size = path.stat().st_size if path.is_file() else -1
        crc32 = zlib.crc32(f"{path.relative_to(root)}:{size}\n".encode(), crc32)
        if path.is_file() and path.suffix.lower() not in BULKY:
            crc32 = _crc32_of_file(path, crc32)
    return crc32


def _crc32_of_file(path: Path, crc32: int) -> int:
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            crc32 = zlib.crc32(block, crc32)
    return crc32
