"""When photographs were taken, by their EXIF data."""

from __future__ import annotations

import io
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path

from da3stream.source.image_file import MAX_PIXELS

_JPEG_HEAD_BYTES = 1 << 18
"""EXIF segments lie at the start of a JPEG file, so the picture behind them need not be decoded."""


def capture_times_s(paths: Iterable[Path]) -> list[float] | None:
    """EXIF capture times in seconds since 1970, read as UTC.

    None unless all images have one and they strictly increase.
    """
    times_s: list[float] = []
    for path in paths:
        time_s = _capture_time_s(path)
        if time_s is None or (times_s and time_s <= times_s[-1]):
            return None
        times_s.append(time_s)
    return times_s or None


def _capture_time_s(path: Path) -> float | None:
    """DateTimeOriginal plus SubSecTimeOriginal of the EXIF data (CIPA DC-008, tags 0x9003 and 0x9291)."""
    tags = exif_tags(path)
    try:
        moment = datetime.strptime(tags.get("DateTimeOriginal", ""), "%Y:%m:%d %H:%M:%S")
        fraction_s = float("0." + (tags.get("SubSecTimeOriginal", "").strip() or "0"))
    except ValueError:
        return None
    return moment.replace(tzinfo=timezone.utc).timestamp() + fraction_s


def exif_tags(path: Path) -> dict[str, str]:
    """EXIF tags by name. FFmpeg attaches them to the picture; newer ones say `ExifIFD/DateTimeOriginal`."""
    # Three tenths of a second, which `da3stream --help` must not pay.
    import av
    from av.error import FFmpegError

    limits = {"max_pixels": str(MAX_PIXELS)}
    is_jpeg = path.suffix.lower() in (".jpg", ".jpeg")
    try:
        with path.open("rb") as file:
            head = file.read(_JPEG_HEAD_BYTES if is_jpeg else -1)
        with av.open(io.BytesIO(head), metadata_errors="replace", options=limits) as container:
            container.streams.video[0].codec_context.options = limits
            for frame in container.decode(video=0):
                metadata = getattr(frame, "metadata", {})  # PyAV 17, the last for Python 3.10, has none
                return {name.rpartition("/")[2]: value.strip() for name, value in metadata.items()}
    except (FFmpegError, OSError, IndexError):
        pass  # an unreadable image is reported when it is read
    return {}
