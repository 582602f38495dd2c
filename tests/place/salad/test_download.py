"""Downloads that break, continue, and are checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from da3stream.errors import WeightsError
from da3stream.place.salad import weights
from da3stream.place.salad.download import download
from da3stream.place.salad.loading import fetch_salad, load_salad
from tests.place.salad.file_server import FileServer, serving

BODY = bytes(range(256)) * 40


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(FileServer(BODY)) as server:
        yield server


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "weights" / "file.part"


def fetched(server: FileServer, part: Path) -> bytes:
    download(server.url, part, by_hand=part.with_suffix(""))
    return part.read_bytes()


def refusal(server: FileServer, part: Path) -> str:
    with pytest.raises(WeightsError) as raised:
        fetched(server, part)
    return str(raised.value)


@pytest.mark.parametrize("redirects", [False, True])
def test_a_broken_connection_is_continued(server: FileServer, part: Path, redirects: bool) -> None:
    server.cut_after, server.redirects = 4000, redirects
    assert fetched(server, part) == BODY
    assert server.ranges == [None, "bytes=4000-", "bytes=8000-"]


def test_an_earlier_download_is_continued(server: FileServer, part: Path) -> None:
    part.parent.mkdir()
    part.write_bytes(BODY[:1234])
    assert fetched(server, part) == BODY
    assert server.ranges == ["bytes=1234-"]


def test_a_server_without_ranges_sends_everything_again(server: FileServer, part: Path) -> None:
    server.knows_ranges = False
    part.parent.mkdir()
    part.write_bytes(b"x" * 5000)
    assert fetched(server, part) == BODY


def test_a_server_without_ranges_that_always_breaks_is_given_up(server: FileServer, part: Path) -> None:
    server.knows_ranges, server.cut_after = False, 4000
    assert "broke off; got 4,000 bytes; expected 10,240" in refusal(server, part)
    assert len(server.ranges) == 2


def test_a_connection_without_progress_is_given_up_and_keeps_what_there_is(
    server: FileServer, part: Path
) -> None:
    part.parent.mkdir()
    part.write_bytes(BODY[:100])
    server.cut_after = 0
    assert "continues where it stopped" in refusal(server, part)
    assert part.read_bytes() == BODY[:100]


@pytest.mark.parametrize("extra", [b"", b"and more"])
def test_a_part_as_long_as_the_file_is_fetched_anew(server: FileServer, part: Path, extra: bytes) -> None:
    """Nothing can follow it, and it may be of another file."""
    part.parent.mkdir()
    part.write_bytes(b"x" * len(BODY) + extra)
    assert fetched(server, part) == BODY


def test_a_length_is_needed_to_know_the_end(server: FileServer, part: Path) -> None:
    server.says_length = False
    assert "does not say how long the file is" in refusal(server, part)


def test_what_the_network_raises_is_one_line(server: FileServer, part: Path) -> None:
    server.body = b""
    assert "HTTP Error 404" in refusal(server, part)
    server.url = "http://127.0.0.1:9/file"
    message = refusal(server, part)
    assert "cannot be fetched (URLError" in message
    assert f"copy it to {part.with_suffix('')}" in message


def test_a_disk_that_cannot_be_written_is_one_line(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("no folder")
    assert "FileExistsError" in refusal(server, tmp_path / "weights" / "file.part")


def test_fetch_checks_and_records(small_file: Path, tmp_path: Path) -> None:
    body, folder = small_file.read_bytes(), tmp_path / "weights"
    with serving(FileServer(body, cut_after=len(body) // 2)) as server:
        held = fetch_salad(folder, server.url)
        assert fetch_salad(folder, server.url) == held == folder / "dino_salad.ckpt"
        assert len(server.ranges) <= 3
    assert held.read_bytes() == body
    record = json.loads((folder / "dino_salad.ckpt.json").read_text())
    assert record["sha256"] == hashlib.sha256(body).hexdigest()
    assert record["source"] == server.url
    assert sorted(file.name for file in folder.iterdir()) == ["dino_salad.ckpt", "dino_salad.ckpt.json"]
    load_salad(held)


def test_what_is_no_checkpoint_is_not_kept(small_salad: None, tmp_path: Path) -> None:
    with (
        serving(FileServer(b"<html>Please log in</html>")) as server,
        pytest.raises(WeightsError, match="is no checkpoint"),
    ):
        fetch_salad(tmp_path, server.url)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_changed_after_the_download_is_refused(small_file: Path, tmp_path: Path) -> None:
    with serving(FileServer(small_file.read_bytes())) as server:
        held = fetch_salad(tmp_path, server.url)
        content = bytearray(held.read_bytes())
        content[len(content) // 2] ^= 1
        held.write_bytes(content)
        for again in (lambda: load_salad(held), lambda: fetch_salad(tmp_path, server.url)):
            with pytest.raises(WeightsError, match="is not the file that was downloaded; got SHA-256"):
                again()


@pytest.mark.parametrize("record", ["{", "[]", '{"sha256": "abc"}', '{"sha256": 5}'])
def test_a_damaged_record_is_an_error(small_file: Path, record: str) -> None:
    weights.record_file(small_file).write_text(record)
    with pytest.raises(WeightsError, match=r"dino_salad\.ckpt\.json"):
        load_salad(small_file)
