"""What Ctrl-C does while a live input is captured."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from da3stream.progress import Progress, ProgressCallback
from da3stream.source.base import CapturesOnce


@contextmanager
def interrupt_stops_capture(source: object, progress: ProgressCallback) -> Iterator[None]:
    """The first Ctrl-C ends a capture, so that the run is finished from it; all others interrupt as usual.

    Nothing changes for a source that is no capture.
    """
    if not isinstance(source, CapturesOnce) or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield
        return

    def stop() -> None:
        source.stop()
        line = "capture stopped, finishing; Ctrl-C again to interrupt"
        progress(Progress(stage="estimation", message=line))

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not source.is_capturing:
            raise KeyboardInterrupt
        # In a thread of its own: the signal may have come in the middle of a write to the terminal. The next
        # Ctrl-C must not depend on when that thread runs.
        signal.signal(signal.SIGINT, before)
        threading.Thread(target=stop).start()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
