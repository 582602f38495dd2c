"""`--publish` as a user meets it."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from da3stream.publishing import Publisher
from da3stream.synthetic.demo_video import demo_capture
from da3stream.synthetic.video import encode_video
from tests.test_publishing import Subscriber, array, free_address

OPTIONS = ["--config", "cpu", "--resolution", "252", "--chunk-size", "6", "--overlap", "3", "--json"]


def da3stream(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "da3stream", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    capture = demo_capture()
    path = tmp_path / "walk.mp4"
    encode_video(path, itertools.islice(capture.images(), 10), capture.fps)
    return path


def cameras_of(heard: list[tuple[str, dict[str, Any]]]) -> np.ndarray:
    """(N, 4, 4) cameras as a subscriber knows them in the end."""
    cameras: dict[int, np.ndarray] = {}
    for topic, body in heard:
        for told in (body, body.get("corrections", body)):
            if topic in ("update", "snapshot"):
                cameras.update(
                    zip(array(told["frames"]).tolist(), array(told["world_from_cam"]), strict=True)
                )
    return np.stack([cameras[frame] for frame in sorted(cameras)])


@pytest.mark.parametrize(
    "address", ["5555", "127.0.0.1:5555", "tcp://127.0.0.1", "tcp://:5555", "udp://h:1", "tcp://h:70000"]
)
def test_a_malformed_address_is_wrong_usage(tmp_path: Path, address: str) -> None:
    ended = da3stream("run", "x.mp4", "-o", tmp_path / "run", "--publish", address)
    assert ended.returncode == 2
    assert f"'{address}' is no address like tcp://127.0.0.1:5555" in ended.stderr


def test_a_port_in_use_is_said_before_anything_else(tmp_path: Path) -> None:
    address = free_address()
    with Publisher(address):
        ended = da3stream("run", tmp_path / "x.mp4", "-o", tmp_path / "run", "--publish", address)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"error: cannot publish at {address}; got Address already in use")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_is_published_and_published_again_on_running_it_again(video: Path, tmp_path: Path) -> None:
    run, address = tmp_path / "run", free_address()
    for command in (
        ["run", str(video), "-o", str(run), *OPTIONS, "--publish", address],
        ["run", str(video), "-o", str(run), *OPTIONS, "--resume", "--publish", address],
    ):
        subscriber = Subscriber(address)
        ended = da3stream(*command)
        assert ended.returncode == 0, ended.stderr
        assert json.loads(ended.stdout.splitlines()[-1])["stage"] == "result"
        heard = subscriber.until_the_end()
        subscriber.close()
        assert (heard[-1][1]["status"], heard[-1][1]["is_metric"]) == ("finished", False)
        poses = np.loadtxt(run / "camera_poses.txt").reshape(-1, 4, 4)
        assert len(poses) == 10
        np.testing.assert_allclose(cameras_of(heard), poses, atol=1e-6)
    assert da3stream("resume", run).returncode == 0  # not to publish is no difference
