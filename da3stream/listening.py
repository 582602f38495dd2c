"""Who hears of a run while it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol

from da3stream.result import Update


class Listener(Protocol):
    """Is told the start, every update and the end. A context manager: what breaks a run off is told, too."""

    def __enter__(self) -> Listener:
        """Begin."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; `error` is what ended the run, if anything did."""
        ...

    def start(self, config: Mapping[str, Any]) -> None:
        """Tell the options of the run, JSON values."""
        ...

    def update(self, update: Update) -> None:
        """Tell what a chunk has told."""
        ...

    def end(self, status: str, *, is_metric: bool | None) -> None:
        """Tell that the run is over."""
        ...
