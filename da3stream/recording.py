"""An input that comes only once, recorded before anything is made of it."""

from __future__ import annotations

from collections.abc import Iterator

from da3stream.config import Config
from da3stream.errors import Da3StreamError
from da3stream.progress import Progress, ProgressCallback
from da3stream.scene import Frame
from da3stream.source.base import CapturesOnce, FrameSource
from da3stream.store import Run
from da3stream.writers import export_names

BATCH_FRAMES = 8
BATCH_S = 1.0
"""A batch ends with as many frames, or with the frame that comes so long after its first one."""


class Recording:
    """A `FrameSource` over a live one: frames are stored as JPEGs first, and given out as these have them.

    So the run that captures and one that resumes see the same pixels. A resumed run captures nothing: after a
    gap in time the new frames would share nothing with the old ones. It is finished from what was recorded.
    If nothing was, the capture begins. Recorded frames whose file is damaged are left out, as if they had
    been dropped in the capture, and a warning says so; chunks made of them or of later ones are forgotten.
    """

    def __init__(self, run: Run, source: CapturesOnce, config: Config, progress: ProgressCallback) -> None:
        """
        Args:
            run: where the frames are stored.
            source: gives its frames once.
            config: of the run.
            progress: is told what a resumed run does.
        """
        self._run, self._stored, self._source, self._progress = run, run.recording, source, progress
        self._is_left = False
        self._makes_colmap = "colmap" in export_names(config)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames. Raises what the source raises; everything that came before is recorded then.

        Raises:
            StoreError: recorded frames that stored chunks were made of are damaged. The run goes back to
                before these chunks, and resuming it again leaves the frames out.
        """
        return self._replayed() if self._stored.batches else self._captured()

    @property
    def warnings(self) -> list[str]:
        """Of the source, and what follows from it being live; complete once an iteration has ended."""
        return list(self._stored.warnings)

    def size_hint(self) -> int | None:
        """The source's, or the number of recorded frames."""
        return self._stored.frames if self._stored.batches else self._source.size_hint()

    def identity(self) -> str:
        """The source's."""
        return self._source.identity()

    def stop(self) -> None:
        """Break the capture off, from any thread: a later run will say that it was interrupted."""
        self._is_left = True
        self._source.stop()

    def _captured(self) -> Iterator[Frame]:
        for batch in _batches(self._source):
            yield from self._stored.read(self._stored.put(batch, self._source_warnings()))
        if not self._is_left:
            self._end(self._source_warnings())

    def _replayed(self) -> Iterator[Frame]:
        self._leave_out_damaged()
        if not self._stored.batches:
            return
        last = self._stored.batches[-1]
        span_s = last.timestamp_s[-1] - self._stored.batches[0].timestamp_s[0]
        recorded = f"{self._stored.frames:,} recorded frames ({span_s:.1f} s)"
        if not self._stored.has_ended:
            cut = f"the capture was interrupted: the run was finished from its {recorded}"
            self._end([*self._stored.warnings, cut])
        line = f"a live input cannot be rewound: going on with {recorded}, nothing more is captured"
        self._progress(Progress(stage="start", message=line))
        for number in range(len(self._stored.batches)):
            yield from self._stored.read(number)

    def _leave_out_damaged(self) -> None:
        """Nothing has been made of the frames in this process yet."""
        damaged = self._stored.damaged()
        for record in self._run.fine_chunks if damaged else ():
            if record.chunk.new[-1] >= damaged[0].first:
                lost = sum(map(len, damaged))
                raise self._run.forget_from(record.chunk.index, f"{lost} frames of the live input are lost")
        for batch in damaged:
            self._stored.lose(batch)
            self._progress(Progress(stage="start", message=self._stored.warnings[-1]))

    def _end(self, warnings: list[str]) -> None:
        if self._makes_colmap:
            warnings = [*warnings, "colmap/images are at processing resolution: a live input is read once"]
        self._stored.end(warnings)

    def _source_warnings(self) -> list[str]:
        return list(getattr(self._source, "warnings", ()))


def _batches(source: FrameSource) -> Iterator[list[Frame]]:
    """The frames in batches; what came before an error is a batch, too."""
    batch: list[Frame] = []
    try:
        for frame in source:
            batch.append(frame)
            if len(batch) >= BATCH_FRAMES or frame.timestamp_s - batch[0].timestamp_s >= BATCH_S:
                yield batch
                batch = []
    except Da3StreamError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
