"""`info` and `run` with live inputs, as a shell calls them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from da3stream.cli import cli
from tests.source.clips import encode_video
from tests.source.rtsp_server import RtspCamera


def da3stream(*arguments: str, stdin: bytes) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "da3stream", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=120)


def test_info_of_a_camera(tmp_path: Path) -> None:
    clip = encode_video(tmp_path / "clip.ts", frames=60)
    with RtspCamera([clip, clip], clip_s=0.5) as camera:
        as_json = CliRunner().invoke(cli, ["info", camera.url, "--json"], catch_exceptions=False)
        lines = CliRunner().invoke(cli, ["info", camera.url], catch_exceptions=False)
    described = json.loads(as_json.output)
    assert (described["kind"], described["width"], described["chunks"]) == ("live", 160, None)
    assert "160 x 96 px" in lines.output
    assert "an unknown number of" in lines.output


def test_info_of_a_pipe(tmp_path: Path) -> None:
    clip = encode_video(tmp_path / "clip.mkv", frames=30)
    done = da3stream("info", "-", stdin=clip.read_bytes())
    assert done.returncode == 0, done.stderr
    assert b"160 x 96 px" in done.stdout


def test_what_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    for source, expected in (
        ("rtsp://me:secret@127.0.0.1:9/a", b"rtsp://me:***@127.0.0.1:9/a cannot be opened"),
        ("-", b"standard input is no video"),
    ):
        done = da3stream("run", source, "-o", str(tmp_path / "run"), "--model", "classical", stdin=b"no")
        assert done.returncode == 1
        lines = [line for line in done.stderr.splitlines() if line.startswith(b"error:")]
        assert len(lines) == 1
        assert expected in lines[0]
        assert b"Traceback" not in done.stderr
        assert b"secret" not in done.stderr
        assert not (tmp_path / "run").exists(), "the same command can be given again"
