"""A finished run directory for looking at: what stays in memory is some bytes for each chunk and loop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import RunCorruptError, RunIncompleteError, command_line
from da3stream.scene import WorldAlignment
from da3stream.store.files import RunFiles
from da3stream.store.frame_file import read_frame
from da3stream.store.journal import JOURNAL, Event, complete_events
from da3stream.store.manifest import MANIFEST, load_manifest
from da3stream.store.opening import read_manifest
from da3stream.store.records import ChunkRecord, FrameTable, parse_alignment, parse_loop
from da3stream.store.run import TRAJECTORY, frames_path, submap_path
from da3stream.store.submap_file import FrameMaps, read_all_cameras, read_frame_maps
from da3stream.store.trajectory_file import read_trajectory_field

_READ = tuple(b'{"event":"%s"' % name for name in (b"chunk", b"loop", b"alignment"))
"""How the events begin that are wanted here. Edges, most of the journal, are passed over."""
_CHECKSUM_BYTES = 9
"""In front of every event, with the space."""


class FinishedRun:
    """A finished run that is only read, without its lock. What it reads of a frame, it reads by name.

    Args:
        root: the run directory.

    Raises:
        StoreError: there is no run directory.
        RunIncompleteError: it has not finished.
        RunCorruptError: its journal is damaged.
    """

    def __init__(self, root: Path) -> None:
        self._files = RunFiles(root)
        self._manifest_ns = self._manifest_time()
        self.manifest: dict[str, Any] = read_manifest(root)
        if not is_finished(root, self.manifest):
            raise RunIncompleteError(
                f"the run {root} has not finished", hint=f"Finish it: {command_line('resume', root)}"
            )
        self.alignment: WorldAlignment | None = None
        """The world frame that was chosen by hand."""
        self.closed_loops: list[tuple[int, int]] = []
        """(later, earlier) frames of the loops that were closed."""
        self.typical_confidence = 0.0
        """Median over the chunks of their median confidence; 0 if all of it is 0."""
        self._fine = np.zeros((0, 4), dtype=np.int64)
        """(C, 4) of the chunks that own frames: first of these frames, how many, chunk, length of context."""
        self._read_journal()

    @property
    def root(self) -> Path:
        """The folder."""
        return self._files.root

    def is_outdated(self) -> bool:
        """Whether its map is another one by now, or is being made anew."""
        if self._manifest_time() == self._manifest_ns:
            return False
        self._manifest_ns = self._manifest_time()
        manifest = load_manifest(self._files)
        return not is_finished(self.root, manifest) or _map_of(manifest) != _map_of(self.manifest)

    def trajectory_field(self, name: str) -> NDArray[Any]:
        """One field of the final `Trajectory`. RunCorruptError if it cannot be read."""
        return read_trajectory_field(self._files.path(TRAJECTORY), name)

    def frame_tables(self) -> list[FrameTable]:
        """What is known of the frames of each chunk that owns some, in their order. Reads the journal again.

        Raises:
            RunCorruptError: the journal is damaged.
        """
        events = (event for event in _wanted_events(self.root) if event["event"] == "chunk" and event["new"])
        tables = {event["index"]: ChunkRecord.parse(event).frames for event in events}
        return [tables[index] for index in self._fine[:, 2].tolist()]

    def image_of(self, frame: int) -> NDArray[np.uint8]:
        """(H, W, 3) RGB image of one frame, read alone. KeyError if there is none.

        Raises:
            RunCorruptError: its file cannot be read.
        """
        _, _, index, _ = self._owner(frame)
        return read_frame(self._files.path(frames_path(index)), frame)

    def maps_of(self, frame: int) -> FrameMaps:
        """Depth and confidence of one frame by its owner, read alone and not checked. KeyError if there is
        none.

        Raises:
            RunCorruptError: its file cannot be read.
        """
        first, _, index, context = self._owner(frame)
        return read_frame_maps(self._files.path(submap_path(index)), context + frame - first)

    def own_cameras(self, index: int) -> tuple[NDArray[np.float64], float]:
        """(M, 3, 4) submap frame to camera of the frames that a chunk owns, and its median depth > 0.

        Raises:
            RunCorruptError: its file cannot be read.
        """
        cam_from_submap, typical_depth = read_all_cameras(self._files.path(submap_path(index)))
        _, _, _, context = self._fine[self._fine[:, 2] == index][0].tolist()
        return cam_from_submap[context:], typical_depth

    def _owner(self, frame: int) -> list[int]:
        """The row of `_fine` of the chunk that owns a frame."""
        row = int(np.searchsorted(self._fine[:, 0], frame, side="right")) - 1
        if row < 0 or frame >= self._fine[row, 0] + self._fine[row, 1]:
            raise KeyError(frame)
        fine: list[int] = self._fine[row].tolist()
        return fine

    def _manifest_time(self) -> int:
        path = self._files.path(MANIFEST)
        return path.stat().st_mtime_ns if path.exists() else 0

    def _read_journal(self) -> None:
        confidence: dict[int, float] = {}
        fine: dict[int, tuple[int, int, int, int]] = {}
        loops: dict[tuple[int, int], bool] = {}
        for event in _wanted_events(self.root):
            match event["event"]:
                case "chunk":
                    index, new = event["index"], event["new"]
                    confidence[index] = event["typical_confidence"]
                    if new:
                        fine[index] = (new[0], len(new), index, len(event["context"]))
                case "loop":
                    loops[event["later"], event["earlier"]] = parse_loop(event).is_accepted
                case "alignment":
                    self.alignment = parse_alignment(event)
        self.closed_loops = [pair for pair, is_closed in loops.items() if is_closed]
        self._fine = np.array(sorted(fine.values()), dtype=np.int64).reshape(-1, 4)
        known = [value for value in confidence.values() if value > 0]
        self.typical_confidence = float(np.median(known)) if known else 0.0


def is_finished(root: Path, manifest: dict[str, Any]) -> bool:
    """Whether all outputs were written, and no --overwrite has begun to remove them."""
    return manifest["status"] == "finished" and (root / TRAJECTORY).is_file()


def _map_of(manifest: dict[str, Any]) -> int | None:
    """What tells one map from another: the checksum of its trajectory."""
    checksum: int | None = manifest.get("checksums", {}).get(TRAJECTORY)
    return checksum


def _wanted_events(root: Path) -> Iterator[Event]:
    """The events that begin as `_READ` says, with one line in memory at a time."""
    try:
        with (root / JOURNAL).open("rb") as file:
            for line in file:
                if line.startswith(_READ, _CHECKSUM_BYTES) and line.endswith(b"\n"):
                    yield from complete_events(line, root)
    except OSError as error:
        raise RunCorruptError(f"{root / JOURNAL} cannot be read: {error.strerror}") from error
