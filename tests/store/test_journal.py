"""The journal: what was appended comes back; what a crash cut short goes; what is damaged is an error."""

from __future__ import annotations

import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from da3stream.errors import RunCorruptError, StoreError
from da3stream.store.files import RunFiles
from da3stream.store.journal import JOURNAL, Journal

EVENTS = [
    {"event": "output", "path": "pcd/ü.ply"},
    {"event": "edge", "a": 1, "scale": 0.1},
    {"event": "line\nbreak"},
]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """A journal of EVENTS."""
    journal = Journal(RunFiles(tmp_path))
    for event in EVENTS:
        journal.append(**event)
    return journal


def events(journal: Journal) -> list[dict[str, Any]]:
    return [dict(event) for event in journal.read()]


def test_events_come_back_in_order(journal: Journal) -> None:
    assert events(journal) == EVENTS


def test_no_journal_holds_no_events(tmp_path: Path) -> None:
    assert events(Journal(RunFiles(tmp_path))) == []
    assert list(Journal(RunFiles(tmp_path)).salvage()) == []


def test_numbers_come_back_exactly(tmp_path: Path) -> None:
    journal = Journal(RunFiles(tmp_path))
    numbers = [0.1, 1e-300, -1 / 3, 2.0**53, 5e-324]
    journal.append("edge", numbers=numbers)
    assert events(journal)[0]["numbers"] == numbers


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_cannot_say_is_refused_before_anything_is_written(tmp_path: Path, value: float) -> None:
    journal = Journal(RunFiles(tmp_path))
    with pytest.raises(ValueError, match="JSON"):
        journal.append("edge", scale=value)
    assert not (tmp_path / JOURNAL).exists()


def test_a_line_carries_its_checksum(journal: Journal, tmp_path: Path) -> None:
    for line in (tmp_path / JOURNAL).read_bytes().splitlines():
        checksum, _, payload = line.partition(b" ")
        assert int(checksum, 16) == zlib.crc32(payload)


def test_a_line_cut_short_anywhere_is_dropped_and_the_journal_goes_on(
    journal: Journal, tmp_path: Path
) -> None:
    path = tmp_path / JOURNAL
    whole = path.read_bytes()
    last = whole[:-1].rindex(b"\n") + 1
    for length in range(last, len(whole)):
        path.write_bytes(whole[:length])
        assert events(journal) == EVENTS[:2]
        assert path.read_bytes() == whole[:last]
        journal.append("resumed")
        assert events(journal) == [*EVENTS[:2], {"event": "resumed"}]


def test_a_last_line_of_garbage_is_dropped(journal: Journal, tmp_path: Path) -> None:
    """Blocks of zeros are what some file systems leave after a power cut."""
    with (tmp_path / JOURNAL).open("ab") as stream:
        stream.write(bytes(100))
    assert events(journal) == EVENTS


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_changed_byte_before_the_last_line_is_an_error_that_names_its_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("journal")
    journal = Journal(RunFiles(root))
    for event in EVENTS:
        journal.append(**event)
    content = bytearray((root / JOURNAL).read_bytes())
    last = content[:-1].rindex(b"\n") + 1
    place = data.draw(st.integers(0, last - 2))
    content[place] ^= data.draw(st.integers(1, 255))
    (root / JOURNAL).write_bytes(content)
    before = (root / JOURNAL).read_bytes()
    line_start = before.rfind(b"\n", 0, place) + 1
    with pytest.raises(RunCorruptError, match=rf"journal\.jsonl is damaged at byte {line_start}\b.*resume"):
        events(journal)
    assert (root / JOURNAL).read_bytes() == before
    assert journal.damaged_at == line_start
    journal.go_back_to(line_start)
    assert events(journal) == EVENTS[: before[:place].count(b"\n")]


def test_salvage_passes_over_what_is_damaged_and_changes_nothing(journal: Journal, tmp_path: Path) -> None:
    content = bytearray((tmp_path / JOURNAL).read_bytes())
    content[content.index(b"\n") + 3] ^= 1
    (tmp_path / JOURNAL).write_bytes(content)
    assert [dict(event) for event in journal.salvage()] == [EVENTS[0], EVENTS[2]]
    assert (tmp_path / JOURNAL).read_bytes() == content


def test_after_a_line_that_could_not_be_written_nothing_follows(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of it may be in the file: what would follow would lie behind a damaged line."""

    def half(files: RunFiles, path: str, line: bytes) -> None:
        with files.path(path).open("ab") as stream:
            stream.write(line[:10])
        raise StoreError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(RunFiles, "append", half)
        with pytest.raises(StoreError, match="full"):
            journal.append("edge")
    with pytest.raises(StoreError, match="nothing can follow"):
        journal.append("edge")
    assert events(journal) == EVENTS


def test_threads_append_whole_lines(tmp_path: Path) -> None:
    journal = Journal(RunFiles(tmp_path))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: journal.append("edge", number=number), range(40)))
    assert sorted(event["number"] for event in events(journal)) == list(range(40))
