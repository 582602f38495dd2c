"""What counts as a live input, and how it is opened: URLs, webcams and standard input."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

STANDARD_INPUT = "-"
STANDARD_INPUT_NAME = "standard input"
"""In messages."""
PIPE_EXAMPLE = "ffmpeg -i in.mp4 -c copy -f matroska - | da3stream run - -o out"
_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "udp", "tcp", "srt", "rtp")
_SECRET_IN_QUERY = re.compile(r"(?i)\b(pass\w*|token|key|secret|auth\w*)=[^&#]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveAddress:
    """What FFmpeg is told to open."""

    url: str
    """As FFmpeg takes it, passwords included: never stored and never shown."""
    shown: str
    """The same without passwords: for messages, run.json and identities."""
    format: str | None = None
    """FFmpeg's name of the input device or container; None: it finds out."""
    options: dict[str, str] = field(default_factory=dict)
    """FFmpeg's options."""

    def fields(self) -> dict[str, Any]:
        """The fields of a request to the decoder process."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long a capture waits, in seconds."""

    answer_s: float = 15.0
    """For a connection and its first packets."""
    silence_s: float = 10.0
    """For the next packet; then the stream counts as broken."""
    first_delay_s: float = 0.5
    """Before the first attempt to connect again; every further delay is twice as long."""
    longest_delay_s: float = 8.0
    give_up_s: float = 60.0
    """Without a frame for so long, the capture ends."""


def live_address(text: str) -> LiveAddress | None:
    """The URL or webcam that a text names; None: it is none, but a path or standard input.

    A bare number is a webcam, unless there is a file or folder of that name.
    """
    if urlsplit(text).scheme.lower() in _SCHEMES and "://" in text:
        return LiveAddress(url=text, shown=without_secrets(text), options=_options(text))
    if text.isdecimal() and not Path(text).exists():
        text = f"/dev/video{int(text)}"
    if re.fullmatch(r"/dev/video\d+", text):
        return LiveAddress(url=text, shown=text, format="v4l2")
    return None


def is_live(text: str) -> bool:
    """Whether a text names a URL, a webcam or standard input."""
    return text == STANDARD_INPUT or live_address(text) is not None


def without_secrets(url: str) -> str:
    """The URL with `***` for its password and for what its query calls a key, token or password."""
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    login, at, host = authority.rpartition("@")
    user, colon, _ = login.partition(":")
    password = ":***" if colon else ""
    hidden = f"{user}{password}{at}{host}{slash}{path}"
    return scheme + "://" + _SECRET_IN_QUERY.sub(r"\1=***", hidden)


def _options(url: str) -> dict[str, str]:
    """RTP over TCP loses no packets; cameras that cannot do so are asked for UDP next."""
    return {"rtsp_flags": "prefer_tcp"} if url.lower().startswith("rtsp") else {}
