"""Corrupt videos and images end in frames or in one line: never in a traceback, a hang or a child left over.

The default suite reads a few of the corruptions, `pytest -m slow` all of them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from da3stream.source import video_decoding

from .media_corruption import (
    CLIPS,
    CORRUPTIONS,
    FRAMES,
    IMAGES,
    children,
    corrupted,
    encoded_image,
    read,
    with_claimed_size,
)
from .media_trials import (
    ALL,
    MEMORY_BYTES,
    PATIENCE_S,
    ROOT,
    clip_bytes,
    corrupt_clips,
    corrupt_photos,
    problem_with_clip,
    read_elsewhere,
    write_corrupt_clip,
)

COMMAND_PATIENCE_S = 300.0
"""It imports torch, on a machine that may be busy."""
RUN_OPTIONS = ("--model", "tiny", "--weights", "seeded:0", "--resolution", "84", "--chunk-size", "4")
RUN_OPTIONS += ("--max-frames", "8", "--no-loop")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of every clip."""
    return clip_bytes(tmp_path_factory.mktemp("clips"))


@contextmanager
def watched(known: set[int]) -> Iterator[None]:
    """Fails if the block lasts too long, or leaves a child that is not among the `known` ones."""
    late = threading.Event()

    def stop() -> None:
        late.set()
        for pid in children() - known:
            os.kill(pid, signal.SIGKILL)

    watchdog = threading.Timer(PATIENCE_S, stop)
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()
        watchdog.join()
        assert not late.is_set(), "it hung and was killed"
        assert children() <= known, "a child is left"


# A few of all ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLIPS)
def test_a_corrupt_clip(tmp_path: Path, clips: dict[str, bytes], name: str) -> None:
    """Another kind of damage for each clip, in turn."""
    kind = list(CORRUPTIONS)[list(CLIPS).index(name) % len(CORRUPTIONS)]
    path = write_corrupt_clip(tmp_path, name, clips[name], (kind, 0))
    with watched(children()):
        outcome = read(path)
    assert problem_with_clip({**asdict(outcome), "children": 0, "peak_bytes": 0}) is None


def test_a_folder_with_a_corrupt_image(tmp_path: Path) -> None:
    damages = [("truncated", 0), ("burst", 0), ("header bits", 0)]
    assert corrupt_photos(tmp_path, IMAGES, damages) == [None] * len(IMAGES) * len(damages)


# All of them ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", CLIPS)
def test_corrupt_clips(tmp_path: Path, clips: dict[str, bytes], name: str) -> None:
    assert corrupt_clips(tmp_path, name, clips[name], ALL) == [None] * len(ALL)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", IMAGES)
def test_folders_with_corrupt_images(tmp_path: Path, suffix: str) -> None:
    assert corrupt_photos(tmp_path, [suffix], ALL) == [None] * len(ALL)


# Sizes that cannot be ---------------------------------------------------------------------------------------


GIGANTIC_CLIPS = ("vp9.webm", "vp9.mkv", "mjpeg.avi", "mjpeg.mkv")
GIGANTIC_IMAGES = ("large.jpg", "large.png", "large.bmp", "large.tiff")


@pytest.fixture(scope="module")
def gigantic(tmp_path_factory: pytest.TempPathFactory, clips: dict[str, bytes]) -> dict[str, dict[str, Any]]:
    """What reading each in one process ended in, by name; what it took is the most of all before it."""
    folder = tmp_path_factory.mktemp("gigantic")
    for name in GIGANTIC_CLIPS:
        (folder / name).write_bytes(with_claimed_size(clips[name], 16000, 16000))
    for name in GIGANTIC_IMAGES:
        content = encoded_image(0, name.rpartition(".")[2])
        (folder / name).write_bytes(with_claimed_size(content, 40000, 30000))
    (folder / "grey.jpg").write_bytes(with_claimed_size(encoded_image(0, "jpg"), 4000, 3000))
    names = [*GIGANTIC_CLIPS, *GIGANTIC_IMAGES, "grey.jpg"]
    return dict(zip(names, read_elsewhere([folder / name for name in names]), strict=True))


@pytest.mark.parametrize("name", GIGANTIC_CLIPS)
def test_a_clip_that_claims_a_gigantic_size_is_refused_before_memory_is_taken(
    gigantic: dict[str, dict[str, Any]], name: str
) -> None:
    assert "could be decoded; got 40 broken packets" in gigantic[name]["error"]
    assert gigantic[name]["peak_bytes"] < 300e6


@pytest.mark.parametrize("name", CLIPS)
def test_every_decoder_obeys_the_limit(
    tmp_path: Path, clips: dict[str, bytes], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    path.write_bytes(clips[name])
    assert len(list(video_decoding.VideoDecoder(str(path)))) == FRAMES
    monkeypatch.setattr(video_decoding, "_LIMITS", {"max_pixels": str(128 * 64)})
    assert list(video_decoding.VideoDecoder(str(path))) == []


@pytest.mark.parametrize("name", GIGANTIC_IMAGES)
def test_an_image_that_claims_a_gigantic_size_is_refused_before_memory_is_taken(
    gigantic: dict[str, dict[str, Any]], name: str
) -> None:
    assert "claims 40000x30000 pixels in a file of" in gigantic[name]["error"]
    assert gigantic[name]["peak_bytes"] < MEMORY_BYTES // 2


def test_a_jpeg_is_not_filled_up_with_grey_to_a_size_that_its_bytes_cannot_hold(
    gigantic: dict[str, dict[str, Any]],
) -> None:
    assert "claims 4000x3000 pixels in a file of" in gigantic["grey.jpg"]["error"]


# The command line -------------------------------------------------------------------------------------------


def run_command(folder: Path, clip: Path) -> None:
    """The command ends in a run or in one line, and the decoders of this clip are gone."""
    command = [sys.executable, "-m", "da3stream", "run", str(clip), "-o", str(folder), *RUN_OPTIONS]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=COMMAND_PATIENCE_S,
        check=False,
    )
    assert done.returncode in (0, 1), (clip.name, done.returncode, done.stderr)
    assert "Traceback" not in done.stderr, (clip.name, done.stderr)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == done.returncode, (clip.name, done.stderr)
    assert errors == done.stderr.splitlines()[-1:] or not errors, (clip.name, done.stderr)
    status = json.loads((folder / "run.json").read_text())["status"] if done.returncode == 0 else "failed"
    assert status == ("failed" if errors else "finished")
    assert not processes_that_name(clip)


def processes_that_name(path: Path) -> list[str]:
    """Command lines of living processes with this path in them."""
    lines = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(entry.read_bytes().decode("utf-8", "replace").replace("\0", " "))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return [line for line in lines if str(path) in line]


def test_the_command_with_a_corrupt_clip(tmp_path: Path, clips: dict[str, bytes]) -> None:
    clip = tmp_path / "cut.mp4"
    clip.write_bytes(corrupted(clips["h264.mp4"], "truncated", 0))
    run_command(tmp_path / "run", clip)


@pytest.mark.slow
def test_the_command_with_corrupt_clips(tmp_path: Path, clips: dict[str, bytes]) -> None:
    """Every clip with two kinds of damage, two commands at a time."""
    kinds = list(CORRUPTIONS)
    jobs = []
    for number, name in enumerate(CLIPS):
        for offset in (1, 4):
            kind = kinds[(number + offset) % len(kinds)]
            clip = tmp_path / f"{offset}_{name}"
            clip.write_bytes(corrupted(clips[name], kind, 7))
            jobs.append((tmp_path / f"run_{offset}_{name}", clip))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda job: run_command(*job), jobs))
