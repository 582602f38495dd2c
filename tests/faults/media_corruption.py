"""Small clips and images of many formats, seeded corruptions of their bytes, and what reading them ends in.

    python -m tests.faults.media_corruption PATH...

reads inputs and prints one JSON line for each. Images are decoded in the process itself, so a test that reads
corrupt ones starts this process and gives it a time limit.
"""

from __future__ import annotations

import json
import os
import re
import resource
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from da3stream.config import SourceConfig
from da3stream.errors import Da3StreamError
from da3stream.source import open_source
from tests.source.clips import picture

FRAMES, FPS = 40, 30
CLIPS = {
    "h264.mp4": ("libx264", {"preset": "ultrafast", "g": "10", "bf": "2", "sc_threshold": "0"}),
    "h264.mkv": ("libx264", {"preset": "ultrafast", "g": "10", "bf": "2", "sc_threshold": "0"}),
    "h264.ts": ("libx264", {"preset": "ultrafast", "g": "10", "bf": "2", "sc_threshold": "0"}),
    "hevc.mp4": ("libx265", {"preset": "ultrafast", "x265-params": "log-level=none:keyint=10"}),
    "hevc.ts": ("libx265", {"preset": "ultrafast", "x265-params": "log-level=none:keyint=10"}),
    "mpeg4.mp4": ("mpeg4", {"g": "10"}),
    "mpeg4.avi": ("mpeg4", {"g": "10"}),
    "mjpeg.avi": ("mjpeg", {}),
    "mjpeg.mkv": ("mjpeg", {}),
    "vp9.webm": ("libvpx-vp9", {"cpu-used": "8", "deadline": "realtime", "g": "10"}),
    "vp9.mkv": ("libvpx-vp9", {"cpu-used": "8", "deadline": "realtime", "g": "10"}),
    "mpeg2.ts": ("mpeg2video", {"g": "10"}),
}
"""By name: FFmpeg's encoder and its options. The container follows from the suffix."""
IMAGES = ("jpg", "png", "webp", "tiff", "bmp")
READ = SourceConfig(select="all", resolution=84)


def write_clip(path: Path, name: str) -> None:
    """Encode 40 moving pictures of 160x96 as the clip of this name."""
    codec, options = CLIPS[name]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS)
        stream.width, stream.height = 160, 96
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.options = options
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(picture(index), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def encoded_image(index: int, suffix: str) -> bytes:
    """A picture of 160x96 as a file of this format."""
    bytes_of: bytes = cv2.imencode(f".{suffix}", picture(index)[..., ::-1])[1].tobytes()
    return bytes_of


# Corruptions ------------------------------------------------------------------------------------------------

Corruption = Callable[[bytes, np.random.Generator], bytes]


def _truncated(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(1, len(content)))]


def _header_only(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(1, min(2000, len(content))))]


def _single_bits(content: bytes, rng: np.random.Generator) -> bytes:
    damaged = bytearray(content)
    for position in rng.integers(0, len(content), int(rng.integers(1, 9))):
        damaged[position] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def _header_bits(content: bytes, rng: np.random.Generator) -> bytes:
    """Bits of the first or the last kilobyte: there lie the indices and the sizes."""
    edge = min(1024, len(content))
    damaged = bytearray(content)
    start = 0 if rng.random() < 0.5 else len(content) - edge
    for position in rng.integers(start, start + edge, int(rng.integers(1, 5))):
        damaged[position] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def _burst(content: bytes, rng: np.random.Generator) -> bytes:
    """A run of random bytes."""
    start, stop = _block(content, rng)
    return content[:start] + rng.bytes(stop - start) + content[stop:]


def _zeros(content: bytes, rng: np.random.Generator) -> bytes:
    start, stop = _block(content, rng)
    return content[:start] + bytes(stop - start) + content[stop:]


def _swapped(content: bytes, rng: np.random.Generator) -> bytes:
    """Two neighbouring blocks change places."""
    start, stop = _block(content, rng)
    middle = (start + stop) // 2
    return content[:start] + content[middle:stop] + content[start:middle] + content[stop:]


def _lost(content: bytes, rng: np.random.Generator) -> bytes:
    """A block is missing, so that all offsets behind it are wrong."""
    start, stop = _block(content, rng)
    return content[:start] + content[stop:]


def _block(content: bytes, rng: np.random.Generator) -> tuple[int, int]:
    size = int(rng.integers(1, max(2, min(4096, len(content) // 2))))
    start = int(rng.integers(0, len(content) - size + 1))
    return start, start + size


CORRUPTIONS: dict[str, Corruption] = {
    "truncated": _truncated,
    "header only": _header_only,
    "single bits": _single_bits,
    "header bits": _header_bits,
    "burst": _burst,
    "zeros": _zeros,
    "swapped": _swapped,
    "lost": _lost,
}


def corrupted(content: bytes, kind: str, seed: int) -> bytes:
    """The bytes with damage of a kind of `CORRUPTIONS`; equal seeds do equal damage."""
    return CORRUPTIONS[kind](content, np.random.default_rng([seed, list(CORRUPTIONS).index(kind)]))


def with_claimed_size(content: bytes, width: int, height: int) -> bytes:
    """The bytes with another size in the headers of JPEG frames (SOF0), PNG, BMP, TIFF or VP9 key frames."""
    damaged = bytearray(content)
    for start in _positions(content, b"\xff\xc0\x00\x11\x08"):
        damaged[start + 5 : start + 9] = struct.pack(">HH", height, width)
    for start in _positions(content, b"\x49\x83\x42"):  # four bits of colour lie between this and the size
        first, last = content[start + 3] >> 4, content[start + 7] & 15
        packed = first << 36 | (width - 1) << 20 | (height - 1) << 4 | last
        damaged[start + 3 : start + 8] = packed.to_bytes(5, "big")
    if content.startswith(b"\x89PNG"):
        damaged[16:24] = struct.pack(">II", width, height)
        damaged[29:33] = struct.pack(">I", zlib.crc32(damaged[12:29]))
    if content.startswith(b"BM"):
        damaged[18:26] = struct.pack("<ii", width, height)
    if content.startswith(b"II*"):
        (start,) = struct.unpack_from("<I", content, 4)
        for at in range(start + 2, start + 2 + 12 * struct.unpack_from("<H", content, start)[0], 12):
            tag = struct.unpack_from("<H", content, at)[0]
            if tag in (256, 257):
                struct.pack_into("<HHII", damaged, at, tag, 4, 1, width if tag == 256 else height)
    assert bytes(damaged) != content
    return bytes(damaged)


def _positions(content: bytes, pattern: bytes) -> list[int]:
    return [match.start() for match in re.finditer(re.escape(pattern), content)]


# What reading ends in ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What reading an input ended in: frames, or an error that is known and one line long."""

    frames: int
    error: str | None


def read(path: Path) -> Outcome:
    """Read all frames of an input as a run does. Anything but a `Da3StreamError` goes through."""
    frames = 0
    try:
        source = open_source(path, READ)
        source.identity()
        for frame in source:
            assert frame.index == frames
            assert frame.image.shape[2] == 3
            frames += 1
        source.size_hint()
    except Da3StreamError as error:
        return Outcome(frames=frames, error=str(error))
    return Outcome(frames=frames, error=None)


def children() -> set[int]:
    """Process ids of our children, zombies included."""
    return {pid for pid, parent in _parents() if parent == os.getpid()}


def _parents() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            yield int(entry.name), int(fields[1])


def peak_bytes() -> int:
    """The most that this process, or a child that has ended, has had in memory.

    `ru_maxrss` of this process would not do: Linux counts in it what the process had that started it. That of
    the children is no less than ours, for the same reason.
    """
    status = Path("/proc/self/status").read_text()
    (own,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return 1024 * max(int(own), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def main() -> None:
    for argument in sys.argv[1:]:
        outcome = read(Path(argument))
        line: dict[str, Any] = {
            **asdict(outcome), "path": argument, "peak_bytes": peak_bytes(), "children": len(children())
        }  # fmt: skip
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
