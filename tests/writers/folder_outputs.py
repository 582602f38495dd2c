"""A folder that stands in for the store."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


@dataclass
class FolderFile:
    """A file that gets its name at `commit`."""

    pending: Path
    final: Path

    def __post_init__(self) -> None:
        self.stream: BinaryIO = self.pending.open("w+b")

    def commit(self) -> None:
        self.stream.close()
        self.final.parent.mkdir(parents=True, exist_ok=True)
        self.pending.replace(self.final)

    def abort(self) -> None:
        self.stream.close()
        self.pending.unlink()


@dataclass
class FolderFolder:
    """A folder that gets its name at `commit`."""

    path: Path
    final: Path

    def __post_init__(self) -> None:
        self.path.mkdir()

    def commit(self) -> None:
        self.final.parent.mkdir(parents=True, exist_ok=True)
        if self.final.exists():
            shutil.rmtree(self.final)
        self.path.replace(self.final)

    def abort(self) -> None:
        shutil.rmtree(self.path)


@dataclass
class FolderOutputs:
    """Outputs in a folder; what is pending lies in another one."""

    root: Path
    scratch: Path
    begun: int = 0

    def file(self, path: str) -> FolderFile:
        return FolderFile(self._pending(), self.root / path)

    def folder(self, path: str) -> FolderFolder:
        return FolderFolder(self._pending(), self.root / path)

    def _pending(self) -> Path:
        self.begun += 1
        return self.scratch / f"{self.begun}.pending"

    def visible(self) -> list[str]:
        """Names of the published files."""
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file())

    def pending(self) -> list[Path]:
        return sorted(self.scratch.iterdir())
