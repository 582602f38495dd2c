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
from click.testing import CliRunner

from da3stream.cli import cli
from da3stream.cli.view import _announce as announce
from da3stream.errors import Da3StreamError
from da3stream.synthetic.demo_video import demo_capture
from da3stream.synthetic.video import encode_video
from da3stream.viewing.gallery_server import MAX_OPEN
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


def refusal(*arguments: str | Path) -> str:
    """What a command that raises an error of ours says."""
    error = CliRunner().invoke(cli, [*map(str, arguments)]).exception
    assert isinstance(error, Da3StreamError)
    return str(error)


def start_view(*arguments: str | Path) -> subprocess.Popen[str]:
    """`da3stream view` at any free port; Ctrl-C reaches it also where tests run in the background."""
    return subprocess.Popen(
        [*COMMAND, "view", *map(str, arguments), "--port", "0", "--no-open"],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


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
        (tmp_path / "empty").mkdir()
        refused = refusal("view", tmp_path / "empty", "--port", str(port), "--no-open")
    assert ended.returncode == 1
    assert f"127.0.0.1:{port}" in ended.stderr
    assert "holds no run" in refused


def test_what_cannot_become_a_run_is_not_waited_for(viewed: Path) -> None:
    pytest.importorskip("viser", reason="needs viser: pip install 'da3stream[view]'")
    for path, words in (
        (viewed / "journal.jsonl", "is a file"),
        (viewed / "journal.jsonl" / "run", "is a file"),
        (viewed.parent, "Leave out --follow to see the list"),
    ):
        assert words in refusal("view", path, "--follow")


def test_a_wrong_host_is_said(viewed: Path) -> None:
    pytest.importorskip("viser", reason="needs viser: pip install 'da3stream[view]'")
    for path in (viewed, viewed.parent):
        assert "with --host" in refusal("view", path, "--host", "no.such.host.invalid", "--no-open")


def test_a_run_of_another_version_is_no_folder_of_runs(viewed: Path, tmp_path: Path) -> None:
    pytest.importorskip("viser", reason="needs viser: pip install 'da3stream[view]'")
    shutil.copytree(viewed, tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({**manifest, "version": 99}))
    assert "another version" in refusal("view", tmp_path / "run", "--port", "0", "--no-open")


def test_what_is_waited_for_is_said_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    pytest.importorskip("viser", reason="needs viser: pip install 'da3stream[view]'")
    process = start_view(tmp_path / "run", "--follow")
    assert process.stdout is not None
    assert process.stdout.readline() == f"waiting for {tmp_path / 'run' / 'run.json'} (Ctrl-C ends)\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    process.stdout.close()


@pytest.mark.parametrize(
    ("host", "here", "elsewhere"),
    [
        ("127.0.0.1", "127.0.0.1:80", "ssh -L 80:127.0.0.1:80 THIS_MACHINE, then http://127.0.0.1:80"),
        ("::1", "[::1]:80", "ssh -L 80:[::1]:80 THIS_MACHINE, then http://127.0.0.1:80"),
        ("0.0.0.0", "127.0.0.1:80", "http://box:80"),
        ("::", "127.0.0.1:80", "http://box:80"),
        ("fd00::2", "[fd00::2]:80", None),
        ("box.lan", "box.lan:80", None),
    ],
)
def test_addresses_are_said_that_can_be_opened(
    host: str,
    here: str,
    elsewhere: str | None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("socket.gethostname", lambda: "box")
    monkeypatch.setattr("webbrowser.open", opened.append)
    announce(Path("out"), host, 80, True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"out: http://{here}  (Ctrl-C ends)"
    assert lines[1:] == ([] if elsewhere is None else [f"from another machine: {elsewhere}"])
    assert opened == [f"http://{here}"]


@pytest.mark.ipv6
@pytest.mark.parametrize("is_gallery", [False, True])
def test_all_addresses_are_those_of_ipv4_and_ipv6(viewed: Path, is_gallery: bool) -> None:
    pytest.importorskip("viser", reason="needs viser: pip install 'da3stream[view]'")
    process = start_view(viewed.parent if is_gallery else viewed, "--host", "::")
    assert process.stdout is not None
    port = address_in(iter(process.stdout)).rsplit(":", 1)[1]
    opened = "open/" + viewed.name if is_gallery else ""
    for address in ("127.0.0.1", "[::1]"):
        assert is_served(f"http://{address}:{port}/{opened}")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0
    process.stdout.close()


def test_the_help_knows_how_many_viewers_stay_open() -> None:
    assert f"at most {MAX_OPEN} stay open" in CliRunner().invoke(cli, ["view", "--help"]).output


@pytest.mark.parametrize("is_gallery", [False, True])
def test_the_page_is_local_and_ctrl_c_ends_it(viewed: Path, is_gallery: bool) -> None:
    pytest.importorskip("viser", reason="needs viser: pip install 'da3stream[view]'")
    path = viewed.parent if is_gallery else viewed
    process = start_view(path)
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
