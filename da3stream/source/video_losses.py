"""What the user must know about a video that was not decoded as it should be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_MISSING_INTERVALS = 3
_MISSING_SHARE = 0.01


def loss_warnings(end: dict[str, Any]) -> Iterator[str]:
    """One sentence for each kind of loss or repair in the fields of the decoder process's END record."""
    if end["broken_packets"]:
        yield f"{_count(end['broken_packets'], 'broken packet')} skipped"
    if end["damaged_frames"]:
        yield f"{_count(end['damaged_frames'], 'damaged frame')} skipped: what they refer to was broken"
    if (missing_s := _missing_s(end)) > 0:
        yield (
            f"the file ends after {end['end_s']:.2f} s ({_count(end['decoded_frames'], 'frame')}) of "
            f"{end['duration_s']:.2f} s: {missing_s:.2f} s are missing, it is probably truncated"
        )
    if end["repaired_times"]:
        yield f"{_count(end['repaired_times'], 'time stamp')} did not increase and became the usual interval"
    if end["missing_times"]:
        yield (
            f"{_count(end['missing_times'], 'frame')} without a time stamp: times were counted at "
            f"{1 / end['interval_s']:.3f} frames/s"
        )
    if end["is_turned_oddly"]:
        yield "the container asks for a rotation other than by right angles: frames are left as stored"
    if end["is_interlaced"]:
        yield "the video is interlaced: moving edges are combed, deinterlace it first for better results"
    if end["pixel_aspect_ratio"] != 1:
        yield (
            f"pixels are not square (width / height = {end['pixel_aspect_ratio']:.4f}): "
            "focal lengths in x and y will differ"
        )


def _missing_s(end: dict[str, Any]) -> float:
    """Seconds that the container promised and the file did not hold; 0 if it was not decoded to its end."""
    if not end["is_complete"] or end["duration_s"] is None:
        return 0.0
    missing_s: float = end["duration_s"] - end["end_s"]
    tolerance_s = max(_MISSING_INTERVALS * end["interval_s"], _MISSING_SHARE * end["duration_s"])
    return missing_s if missing_s > tolerance_s else 0.0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
