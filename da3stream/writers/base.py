"""The one streaming interface that every output format implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from da3stream.config import OutputConfig
from da3stream.geometry.lens import LensCamera
from da3stream.scene import FrameBlock, LoopClosure, PoseUncertainty
from da3stream.source.base import HasOriginals


class PendingFile(Protocol):
    """A file under a temporary name. Until `commit` nothing is visible under its own name."""

    stream: BinaryIO
    """Binary, seekable."""

    def commit(self) -> None:
        """Close, make durable and give it its name, replacing an older one."""
        ...

    def abort(self) -> None:
        """Close and remove."""
        ...


class PendingFolder(Protocol):
    """A folder under a temporary name, for native code that insists on writing files itself."""

    path: Path

    def commit(self) -> None:
        """Make its files durable and give the folder its name, replacing an older one."""
        ...

    def abort(self) -> None:
        """Remove it."""
        ...


class Outputs(Protocol):
    """Where writers put files; paths are relative to the run directory (`pcd/combined_pcd.ply`)."""

    def file(self, path: str) -> PendingFile:
        """Begin a file."""
        ...

    def folder(self, path: str) -> PendingFolder:
        """Begin a folder."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class WriterContext:
    """What a writer may know beside the frames."""

    outputs: Outputs
    config: OutputConfig
    positions_in_world: NDArray[np.float64]
    """(N, 3) camera centres of all frames that will come, in their order."""
    is_metric: bool
    """World unit is metres."""
    timestamps_are_synthetic: bool
    """Timestamps are made up from the frame index."""
    numbered_in: str | None
    """What the names of the frames are made-up numbers of: a video, say. None: they are names of files."""
    originals: HasOriginals | None
    """Reads the user's images a second time; None: not possible."""
    positions_before: NDArray[np.float64] | None = None
    """(N, 3) camera centres as the chain of chunks alone places them; None: nothing was optimised."""
    loops: tuple[LoopClosure, ...] = ()
    """Verified loops, accepted or not, in the order in which they were found."""
    loops_used: Mapping[int, bool] = field(default_factory=dict)
    """Chunk of each accepted loop -> whether the optimisation kept it (did not weight it down to nothing)."""
    pose_uncertainties: Mapping[int, PoseUncertainty] = field(default_factory=dict)
    """Chunk -> how well its cameras are known; empty where poses were known beforehand."""
    earlier: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Format -> `Writer.report` of when it was written before."""
    written: Callable[[str], Path | None] = lambda path: None
    """Where an output lies that was written before; None if it is not there, or has changed since."""
    say: Callable[[str], None] = lambda line: None
    """Is told how far a writer is that takes long."""

    lens: LensCamera | None = None
    """The camera of the input, at the user's resolution, if its distortion was taken out of the images."""

    @property
    def frames(self) -> int:
        """Number of frames that will come."""
        return len(self.positions_in_world)


class Writer(ABC):
    """Writes one format.

    `add` is called once a block, in order, then `finish` once. If anything fails, here or elsewhere, `abort`
    is called; it may also be called twice, and after `finish`, whose files it leaves alone.

    A subclass opens its pending files in `__init__` and keeps no block after `add` returns.
    """

    has_full_depth: ClassVar[bool] = False
    """Whether the format holds depth maps of full size where the run has kept them, reduced ones else."""
    has_originals: ClassVar[bool] = False
    """Whether the format holds images of the input, at their own size."""

    def __init__(self, context: WriterContext) -> None:
        self.context = context

    @classmethod  # noqa: B027
    def check_installed(cls) -> None:
        """Whether the optional packages of this format are there; most formats need none.

        Raises:
            MissingDependencyError: one is missing.
        """

    @abstractmethod
    def add(self, block: FrameBlock) -> None:
        """Write the frames of one block."""

    @abstractmethod
    def finish(self) -> None:
        """Publish what was written. Nothing is visible in the run directory before."""

    @abstractmethod
    def abort(self) -> None:
        """Remove what was begun."""

    @property
    def report(self) -> Mapping[str, Any]:
        """Figures for run.json about what was written, in plain JSON values; complete after `finish`."""
        return {}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What went wrong without ending the run; complete after `finish`."""
        return ()
