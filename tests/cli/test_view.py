"""`da3stream view` and `run --view` as a user meets them."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from da3stream.synthetic.demo_video import demo_capture
from da3stream.synthetic.video import encode_video
from tests.viewing.conftest import viewed as viewed

COMMAND = (sys.executable, "-m", "da3stream")


def da3stream(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )


def address_in(lines: Iterator[str]) -> str:
    """The first address of a page that is said."""
    for line in lines:
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            return found[0]
    raise AssertionError("no address was said")


def is_served(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


def test_without_viser_the_way_to_get_it_is_said_before_anything_else(tmp_path: Path) -> None:
    script = "import sys; sys.modules['viser'] = None\nfrom da3stream.cli import main\nmain(sys.argv[1:])"
    for arguments in (
        ["view", tmp_path / "missing"],
        ["run", tmp_path / "missing.mp4", "-o", tmp_path / "run", "--view"],
    ):
        command = [sys.executable, "-c", script, *map(str, arguments)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert ended.returncode == 1
        assert "pip install 'da3stream[view]'" in ended.stderr
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_shown_is_one_line(viewed: Path, tmp_path: Path) -> None:
    pytest.importorskip("viser", reason="needs viser: pip install 'da3stream[view]'")
    unfinished = tmp_path / "unfinished"
    shutil.copytree(viewed, unfinished)
    (unfinished / "run.json").unlink()
    for arguments, words in (
        ([tmp_path / "missing"], "no run directory"),
        ([unfinished], "--follow"),
    ):
        ended = da3stream("view", *arguments, "--port", "0", "--no-open")
        assert ended.returncode == 1
        assert len(ended.stderr.strip().splitlines()) == 1
        assert words in ended.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = da3stream("view", viewed, "--port", str(port), "--no-open")
    assert ended.returncode == 1
    assert f"127.0.0.1:{port}" in ended.stderr


@pytest.mark.parametrize("is_gallery", [False, True])
def test_the_page_is_local_and_ctrl_c_ends_it(viewed: Path, is_gallery: bool) -> None:
    pytest.importorskip("viser", reason="needs viser: pip install 'da3stream[view]'")
    path = viewed.parent if is_gallery else viewed
    process = subprocess.Popen(
        [*COMMAND, "view", str(path), "--port", "0", "--no-open"],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a test run in the
        # background ignores it
    )
    assert process.stdout is not None
    address = address_in(iter(process.stdout))
    assert is_served(address)
    port = address.rsplit(":", 1)[1]
    listening = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    lines = [line.split()[1] for line in listening.splitlines() if line.split()[3] == "0A"]
    assert [line for line in lines if line.endswith(f":{int(port):04X}")] == [f"0100007F:{int(port):04X}"]
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0
    assert "closed" in process.stdout.read()
    process.stdout.close()


@pytest.mark.slow
def test_a_run_shows_itself_and_takes_its_page_with_it(tmp_path: Path) -> None:
    pytest.importorskip("viser", reason="needs viser: pip install 'da3stream[view]'")
    capture = demo_capture()
    encode_video(tmp_path / "walk.mp4", itertools.islice(capture.images(), 20), capture.fps)
    options = ["--config", "cpu", "--resolution", "252", "--chunk-size", "6", "--overlap", "3", "--json"]
    process = subprocess.Popen(
        [*COMMAND, "run", str(tmp_path / "walk.mp4"), "-o", str(tmp_path / "run"), *options, "--view"],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "see it at http://" in line:
            break
    address = json.loads(lines[-1])["message"].removeprefix("see it at ")
    assert is_served(address)
    assert process.poll() is None
    lines += process.stdout
    assert process.wait(timeout=60) == 0
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert not is_served(address)
