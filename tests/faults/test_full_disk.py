"""A file system that takes no more, for real: RLIMIT_FSIZE, native writers included; and the command line."""

from __future__ import annotations

import contextlib
import errno
import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from da3stream.cli import main
from da3stream.errors import RunLockedError
from da3stream.synthetic.capture import SimulatedWorld
from tests.estimation.da3.seeded_weights import seeded_images

from .capture import reconstruct, through
from .doubles import FailingFileSystem, WatchedFileSystem

ROOT = Path(__file__).parents[2]


def under_limits(folder: Path, export: str, *limits_bytes: int) -> dict[str, str]:
    """By limit: what a run said that could write no longer file, having come out right without the limit."""
    limits = [str(limit) for limit in limits_bytes]
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.victim", "limit", str(folder), export, *limits],
        cwd=ROOT,
        capture_output=True,
        timeout=300,
        check=True,
    )
    said: dict[str, str] = json.loads(done.stdout)
    return said


def test_files_of_the_store(tmp_path: Path) -> None:
    paths = {500: "run.json", 3000: "submaps/", 50_000: "frames/", 60_000: "journal.jsonl"}
    said = under_limits(tmp_path, "poses", *paths)
    for limit, path in paths.items():
        assert f"cannot write {path}" in said[str(limit)]
        assert "File too large" in said[str(limit)]
        assert "--resume" in said[str(limit)]


def test_the_worker_of_the_colmap_folder_hands_its_error_on(tmp_path: Path) -> None:
    said = under_limits(tmp_path, "colmap", 120_000)
    assert "colmap/database.db could not be written" in said["120000"]
    assert "--resume" in said["120000"]


def test_the_colmap_library_is_not_believed(tmp_path: Path) -> None:
    """It writes a model that is cut short without a word, and an error of the database is a RuntimeError."""
    script = (
        "import resource, sys, pathlib, numpy as np\n"
        "from da3stream.errors import StoreError\n"
        "from da3stream.geometry.camera import Camera\n"
        "from da3stream.writers.colmap.model import ModelImage, build_model, open_database\n"
        "from da3stream.writers.colmap.model import add_points, write_cameras_and_images, write_model\n"
        "from da3stream.writers.depth_vis import save_picture\n"
        "from da3stream.writers.npz import save_results\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "camera = Camera(fx=9.0, fy=9.0, cx=5.0, cy=5.0, width=10, height=10)\n"
        "images = [ModelImage(name='a.jpg', world_from_cam=np.eye(4))]\n"
        "noise = np.random.default_rng(0).integers(0, 255, (99, 99, 3)).astype(np.uint8)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "arrays = {'image': noise, 'depth': np.ones((99, 99), np.float32)}\n"
        "def database():\n"
        "    with open_database(folder) as opened:\n"
        "        write_cameras_and_images(opened, build_model([camera], images, 'PINHOLE'))\n"
        "def model():\n"
        "    made = build_model([camera], images, 'PINHOLE')\n"
        "    add_points(made, np.ones((999, 3)), np.ones((999, 3), np.uint8))\n"
        "    write_model(folder, made, 'binary')\n"
        "for action in (\n"
        "    model,\n"
        "    database,\n"
        "    lambda: save_picture(folder / 'a.png', noise, arrays['depth'], None),\n"
        "    lambda: save_results(folder, [arrays], ['a'], with_images=True),\n"
        "):\n"
        "    try:\n"
        "        action()\n"
        "    except (StoreError, OSError) as error:\n"
        "        sys.stdout.write(f'{type(error).__name__}: {error}\\n')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    model, database, picture, arrays = done.stdout.splitlines()
    assert "colmap/sparse/0/points3D.bin could not be written; got 9000 of 50957 bytes" in model
    assert database.startswith("StoreError: colmap/database.db could not be written")
    assert "File too large" in picture
    assert "File too large" in arrays
    assert done.stderr == "", "no log lines of the library beside the error"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_the_command_line_says_it_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for index, image in enumerate(seeded_images(5, 6, 56, 84, shift=0.03)):
        assert cv2.imwrite(str(photos / f"{index:03d}.png"), image)
    small = ("--model", "tiny", "--weights", "seeded:0", "--chunk-size", "4", "--resolution", "84")
    arguments = ["run", str(photos), "-o", str(tmp_path / "run"), *small, "--place", "none"]
    for at in (4, 60):
        with through(FailingFileSystem(at, number)), pytest.raises(SystemExit) as stopped:
            main([*arguments, "--resume"])
        shown = capsys.readouterr().err
        assert stopped.value.code == 1
        (line,) = [line for line in shown.splitlines() if line.startswith("error: ")]
        assert "cannot write" in line
        assert "Traceback" not in shown
    with through(WatchedFileSystem()), contextlib.suppress(SystemExit):
        main([*arguments, "--resume"])
    assert (tmp_path / "run" / "camera_poses.txt").read_text().count("\n") == 6


def test_a_second_process_refuses(tmp_path: Path, world: SimulatedWorld) -> None:
    """The first holds the lock while it writes its first output."""
    seen: list[str] = []

    class Meeting(WatchedFileSystem):
        def replace(self, source: Path, target: Path) -> None:
            super().replace(source, target)
            if target.name == "trajectory.safetensors":
                other = subprocess.run(
                    [sys.executable, "-m", "da3stream", "resume", str(tmp_path / "run")],
                    cwd=ROOT,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                seen.append(f"{other.returncode} {other.stderr}")
                with pytest.raises(RunLockedError, match="another process works on"):
                    reconstruct(world, tmp_path / "run", WatchedFileSystem())

    reconstruct(world, tmp_path / "run", Meeting(), export="poses")
    (said,) = seen
    assert said.startswith("1 error: ")
