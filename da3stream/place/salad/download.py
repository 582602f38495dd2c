"""A download that continues where it stopped.

Range requests: RFC 9110, section 14.
"""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from da3stream.errors import WeightsError

TIMEOUT_S = 30
_BLOCK_BYTES = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


def download(source: str, part: Path, *, by_hand: Path) -> None:
    """Fetch a file; what an earlier call has fetched of it is kept.

    Args:
        source: address, http or https.
        part: where it goes; its folder is made if need be.
        by_hand: where the file can be put instead, for the error message.

    Raises:
        WeightsError: no network, no such file, no space, or the connection breaks without any progress.
    """
    with _network_errors(source, by_hand):
        part.parent.mkdir(parents=True, exist_ok=True)
        while not _continued(source, part):
            pass


def _continued(source: str, part: Path) -> bool:
    """Fetch what is missing; whether it is complete now.

    Raises:
        WeightsError: the connection broke before anything new came, or the sizes do not fit.
    """
    held = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={held}-"} if held else {}
    try:
        with urlopen(Request(source, headers=headers), timeout=TIMEOUT_S) as answer:
            start, total = _announced(answer, source)
            if start not in (0, held):
                raise WeightsError(f"{source} sent another part than asked for", got=start, expected=held)
            received = _append(answer, part, start)
    except HTTPError as error:
        if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not held:
            raise
        part.unlink()  # it is as long as the file or longer: nothing can follow, and nothing vouches for it
        return False
    size = start + received
    if size > total:
        part.unlink()
        raise WeightsError(f"{source} sent more than it announced", got=size, expected=total)
    if size < total and size <= held:
        raise WeightsError(
            f"the download of {source} broke off",
            got=f"{size:,} bytes",
            expected=f"{total:,}",
            hint="Run it again: it continues where it stopped",
        )
    return size == total


def _announced(answer: http.client.HTTPResponse, source: str) -> tuple[int, int]:
    """Where the body begins in the file, and how long the file is."""
    if answer.status == HTTPStatus.PARTIAL_CONTENT:
        matched = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if matched:
            return int(matched[1]), int(matched[2])
    elif (length := answer.headers.get("Content-Length", "")).isdecimal():
        return 0, int(length)
    raise WeightsError(f"{source} does not say how long the file is", got=f"status {answer.status}")


def _append(answer: http.client.HTTPResponse, part: Path, start: int) -> int:
    """Write the body behind the first `start` bytes; how many bytes came before it ended or broke."""
    received = 0
    with part.open("ab") as stream:
        stream.truncate(start)
        while block := _next_block(answer):
            stream.write(block)
            received += len(block)
    return received


def _next_block(answer: http.client.HTTPResponse) -> bytes:
    """Some bytes of the body; none where it ends, and none where the connection breaks."""
    try:
        return answer.read(_BLOCK_BYTES)
    except http.client.IncompleteRead as broken:
        return broken.partial
    except (ConnectionError, TimeoutError):
        return b""


@contextmanager
def _network_errors(source: str, by_hand: Path) -> Iterator[None]:
    """Turn what the network and the disk raise into one line that says what to do."""
    try:
        yield
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise WeightsError(
            f"{source} cannot be fetched ({reason})",
            hint=f"Run it again, or download it elsewhere and copy it to {by_hand}",
        ) from error
