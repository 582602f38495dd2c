"""Corrupt media, many at a time: what was wrong with reading each, None if nothing was.

The tests run samples of them, `pytest -m slow` and benchmarks/faults.py run them all.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from .media_corruption import CLIPS, CORRUPTIONS, FRAMES, corrupted, encoded_image, write_clip

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
MEMORY_BYTES = 1 << 30
PHOTOS = 3
"""Images in a folder, of which the middle one is corrupt."""
Damage = tuple[str, int]
"""A kind of `CORRUPTIONS` and a seed."""
ALL: tuple[Damage, ...] = tuple(product(CORRUPTIONS, range(3)))


def clip_bytes(folder: Path) -> dict[str, bytes]:
    """The bytes of every clip."""
    for name in CLIPS:
        write_clip(folder / name, name)
    return {name: (folder / name).read_bytes() for name in CLIPS}


def write_corrupt_clip(folder: Path, name: str, content: bytes, damage: Damage) -> Path:
    """A clip with some damage."""
    kind, seed = damage
    path = folder / f"{seed}_{kind.replace(' ', '_')}_{name}"
    path.write_bytes(corrupted(content, kind, seed))
    return path


def corrupt_clips(folder: Path, name: str, content: bytes, damages: Iterable[Damage]) -> list[str | None]:
    """Read a clip with each kind of damage."""
    paths = [write_corrupt_clip(folder, name, content, damage) for damage in damages]
    return [problem_with_clip(outcome) for outcome in read_elsewhere(paths)]


def problem_with_clip(outcome: dict[str, Any]) -> str | None:
    """A corrupt clip gives some of its frames, or an error of one line."""
    error = outcome["error"]
    is_either = (error is None) == (outcome["frames"] > 0) or "changes its size" in str(error)
    is_right = outcome["frames"] <= FRAMES and is_either and "\n" not in str(error)
    return None if is_right and _left_nothing(outcome) else str(outcome)


def write_photos(folder: Path, suffix: str, damage: Damage) -> Path:
    """A folder of images, the middle one of which is corrupt."""
    kind, seed = damage
    photos = folder / f"{suffix}_{kind.replace(' ', '_')}_{seed}"
    photos.mkdir()
    for index in range(PHOTOS):
        content = encoded_image(index, suffix)
        if index == PHOTOS // 2:
            content = corrupted(content, kind, seed)
        (photos / f"{index}.{suffix}").write_bytes(content)
    return photos


def corrupt_photos(folder: Path, suffixes: Sequence[str], damages: Iterable[Damage]) -> list[str | None]:
    """Read a folder of images of each kind with each kind of damage, all in one process."""
    trials = list(product(suffixes, damages))
    outcomes = read_elsewhere([write_photos(folder, suffix, damage) for suffix, damage in trials])
    return [
        _problem_with_photos(outcome, suffix) for outcome, (suffix, _) in zip(outcomes, trials, strict=True)
    ]


def _problem_with_photos(outcome: dict[str, Any], suffix: str) -> str | None:
    """A corrupt image is an error that names it; what its decoder cannot notice gives a frame."""
    error = str(outcome["error"])
    is_whole = outcome["error"] is None and outcome["frames"] == PHOTOS
    names_it = f"{PHOTOS // 2}.{suffix}" in error and outcome["frames"] == PHOTOS // 2
    is_right = (is_whole or names_it) and "\n" not in error
    return None if is_right and _left_nothing(outcome) else str(outcome)


def _left_nothing(outcome: dict[str, Any]) -> bool:
    return outcome["children"] == 0 and outcome["peak_bytes"] < MEMORY_BYTES


def read_elsewhere(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Read inputs in a process of its own, which a broken decoder may take down or hold up."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.media_corruption", *map(str, paths)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S + 10 * len(paths),
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(outcomes) == len(paths)
    return outcomes
