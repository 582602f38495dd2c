"""How fast a 1080p H.264 file is decoded and resized, against ffmpeg on the same file.

    python benchmarks/decoding.py [--frames 300] [--rounds 5] [--video FILE]

Both sides run in alternation, with everything from start to end of their processes, and are judged by the
ratio within each pair: other load on the machine hits both. Prints JSON. Needs the program `ffmpeg`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from metadata import describe_environment

from da3stream.config import SourceConfig
from da3stream.source import VideoSource

WIDTH, HEIGHT, FPS = 1920, 1080, 30
SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--frames", type=int, default=900)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--video", type=Path, help="measure on this file instead of a made one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        video = options.video or make_video(Path(folder) / "1080p.mp4", options.frames)
        result = {"benchmark": "decoding", **measure(video, options.rounds)}
    result |= describe_environment(vars(options)) | {"load": os.getloadavg()[0], "ffmpeg": _ffmpeg_version()}
    json.dump(result, sys.stdout, indent=2)
    sys.stdout.write("\n")


def make_video(path: Path, frames: int) -> Path:
    """A camera that pans and turns over a texture with detail at all scales; the same bytes each time."""
    ground = _texture()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"preset": "fast", "crf": "23"}
        for index in range(frames):
            view = cv2.getRotationMatrix2D((1500, 800), 3 * np.sin(index / 40), 1.0)
            view[:, 2] -= (100 + 2.5 * index, 160 + 100 * np.sin(index / 60))
            image = cv2.warpAffine(ground, view, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "bgr24")))
        container.mux(stream.encode())
    return path


def _texture() -> np.ndarray:
    rng = np.random.default_rng(SEED)
    texture = np.full((1600, 3000, 3), 128, np.float32)
    for cell_px in (2, 4, 8, 16, 64):
        noise = rng.normal(size=(1600 // cell_px + 2, 3000 // cell_px + 2, 3)).astype(np.float32)
        texture += 8 * cell_px**0.5 * cv2.resize(noise, (3000, 1600), interpolation=cv2.INTER_CUBIC)
    return np.clip(texture, 0, 255).astype(np.uint8)


def measure(video: Path, rounds: int) -> dict[str, Any]:
    """Medians of both sides, and the ratio of every pair."""
    frames = decode_with_da3stream(video)  # warms the disk cache and counts
    decode_with_ffmpeg(video)
    ours, theirs = [], []
    for round_index in range(rounds):
        sides = [(decode_with_da3stream, ours), (decode_with_ffmpeg, theirs)]
        for decode, seconds in sides[:: 1 if round_index % 2 else -1]:
            seconds.append(_seconds(decode, video))
    ratios = [ffmpeg_s / da3stream_s for da3stream_s, ffmpeg_s in zip(ours, theirs, strict=True)]
    return {
        "frames": frames,
        "rounds": rounds,
        "seed": SEED,
        "da3stream_fps": round(frames / statistics.median(ours), 1),
        "ffmpeg_fps": round(frames / statistics.median(theirs), 1),
        "speed_ratio_median": round(statistics.median(ratios), 3),
        "speed_ratio_per_pair": [round(ratio, 3) for ratio in ratios],
        "video_bytes": video.stat().st_size,
    }


def decode_with_da3stream(video: Path) -> int:
    """Decode and resize all frames; returns their number."""
    return sum(1 for _ in VideoSource(video, SourceConfig(select="all")))


def decode_with_ffmpeg(video: Path) -> int:
    """Decode and resize all frames by ffmpeg into a pipe; returns the number of bytes."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(video)]
    command += ["-vf", "scale=504:-2", "-f", "rawvideo", "-"]
    total_bytes = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while block := process.stdout.read(1 << 20):
            total_bytes += len(block)
    return total_bytes


def _seconds(decode: Callable[[Path], int], video: Path) -> float:
    start_s = time.perf_counter()
    decode(video)
    return time.perf_counter() - start_s


def _ffmpeg_version() -> str:
    return subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True).stdout.split()[
        2
    ]


if __name__ == "__main__":
    main()
