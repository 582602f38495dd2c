"""Place descriptors and their vocabulary in a run directory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from da3stream.errors import RunCorruptError
from da3stream.store import Run, RunRequest
from da3stream.store.places import VOCABULARY

from .samples import CHUNKS, put

Opener = Callable[..., Run]
VECTORS = np.array([[0.5, -0.25, 1.0], [0.0, 0.125, 2.0]], dtype=np.float32)
CENTRES = np.random.default_rng(0).normal(size=(4, 128)).astype(np.float32)
CHUNK_1 = "descriptors/000001.safetensors"


def describe(run: Run) -> None:
    """Give every chunk of a run its descriptors."""
    for index, record in run.chunks.items():
        run.put_descriptors(index, np.full((len(record.chunk.new), 3), index + 0.5, dtype=np.float32))


def damage(path: Path, how: str) -> None:
    good = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))


@pytest.fixture
def described(opened: Opener, request_: RunRequest) -> Callable[..., Run]:
    """Opens a run that is to be described."""

    def open_it(**options: Any) -> Run:
        return opened(replace(request_, place="vlad"), **options)

    return open_it


def test_vectors_and_vocabulary_come_back(opened: Opener) -> None:
    run = opened()
    put(run, 0)
    put(run, 1)
    run.put_vocabulary(CENTRES, 4)
    run.put_descriptors(1, VECTORS)
    for same in (run, opened(resume=True)):
        np.testing.assert_array_equal(same.descriptors(1), VECTORS)
        np.testing.assert_array_equal(same.vocabulary(), CENTRES)
        assert same.has_vocabulary
        assert (same.has_descriptors(0), same.has_descriptors(1)) == (False, True)
        assert same.descriptors(0) is None


def test_a_run_has_no_vocabulary_before_it_is_learnt(opened: Opener) -> None:
    run = opened()
    assert run.vocabulary() is None
    assert not run.has_vocabulary


def test_a_run_that_is_to_be_described_is_complete_with_its_descriptors(
    described: Callable[..., Run],
) -> None:
    run = described()
    for index in range(3):
        put(run, index)
    run.end_stream(8, [])
    assert all(run.needs_descriptors(index) for index in range(3))
    assert not run.is_complete
    describe(run)
    assert run.is_complete
    assert described(resume=True).is_complete


def test_a_run_that_is_not_to_be_described_is_complete_without(opened: Opener) -> None:
    run = opened()
    put(run, 0)
    run.end_stream(4, [])
    assert not run.needs_descriptors(0)
    assert run.is_complete


def test_a_video_that_cannot_be_described_is_complete_without_and_says_why(
    described: Callable[..., Run],
) -> None:
    run = described()
    put(run, 0)
    run.end_stream(4, [])
    assert (run.no_places, run.is_complete) == (None, False)
    run.put_no_places("no loops are looked for: fog")
    for same in (run, described(resume=True)):
        assert (same.no_places, same.is_complete) == ("no loops are looked for: fog", True)
        assert not same.needs_descriptors(0)


def test_a_chunk_that_is_made_anew_is_described_anew(described: Callable[..., Run]) -> None:
    run = described()
    put(run, 0)
    put(run, 1)
    describe(run)
    put(run, 1)
    for same in (run, described(resume=True)):
        assert (same.has_descriptors(0), same.has_descriptors(1)) == (True, False)
        assert same.descriptors(1) is None


def test_another_vocabulary_voids_what_the_old_one_described(described: Callable[..., Run]) -> None:
    run = described()
    put(run, 0)
    run.put_vocabulary(CENTRES, 4)
    describe(run)
    run.put_vocabulary(CENTRES, 4)
    assert run.has_descriptors(0)
    run.put_vocabulary(CENTRES + 1, 4)
    for same in (run, described(resume=True)):
        assert not same.has_descriptors(0)
        np.testing.assert_array_equal(same.vocabulary(), CENTRES + 1)


@pytest.mark.parametrize("how", ["missing", "flipped"])
def test_a_damaged_descriptor_file_is_noticed(described: Callable[..., Run], root: Path, how: str) -> None:
    run = described()
    for index in range(3):
        put(run, index)
    describe(run)
    run.end_stream(8, [])
    good = (root / CHUNK_1).read_bytes()
    damage(root / CHUNK_1, how)
    again = described(resume=True)
    assert [again.has_descriptors(index) for index in range(3)] == [True, False, True]
    assert again.is_intact(again.chunks[1]), "the chunk itself need not be estimated again"
    assert not again.is_complete
    with pytest.raises(RunCorruptError, match="000001"):
        again.descriptors(1)
    describe(again)
    assert (root / CHUNK_1).read_bytes() == good
    assert again.is_complete


@pytest.mark.parametrize("how", ["missing", "flipped"])
def test_a_damaged_vocabulary_is_noticed(opened: Opener, root: Path, how: str) -> None:
    opened().put_vocabulary(CENTRES, 4)
    damage(root / VOCABULARY, how)
    run = opened(resume=True)
    assert not run.has_vocabulary
    with pytest.raises(RunCorruptError, match="vocabulary"):
        run.vocabulary()


def test_descriptors_are_journaled_after_their_file(
    opened: Opener, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill in between leaves a file that counts as not made."""
    run = opened()
    put(run, 0)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("da3stream.store.journal.Journal.append", killed)
        with pytest.raises(KeyboardInterrupt):
            run.put_descriptors(0, np.ones((len(CHUNKS[0].new), 3), dtype=np.float32))
    assert (root / "descriptors" / "000000.safetensors").exists()
    assert not opened(resume=True).has_descriptors(0)


def test_descriptors_of_any_frames_are_read_alone(opened: Opener) -> None:
    run = opened()
    put(run, 0)
    put(run, 1)
    first = run.chunks[0].chunk.new
    vectors = np.arange(3.0 * len(first)).reshape(-1, 3)
    run.put_descriptors(0, vectors)
    run.put_descriptors(1, VECTORS)
    later = run.chunks[1].chunk.new[1]
    for same in (run, opened(resume=True)):
        found = same.descriptors_of(np.array([first[0], first[2], later]))
        np.testing.assert_array_equal(found, [vectors[0], vectors[2], VECTORS[1]])
        assert found.dtype == np.float32
    with pytest.raises(KeyError):
        run.descriptors_of(np.array([1000]))


def test_descriptors_that_are_gone_or_no_file_are_said_to_be(opened: Opener) -> None:
    run = opened()
    put(run, 0)
    with pytest.raises(RunCorruptError, match=r"000000\.safetensors cannot be read"):
        run.descriptors_of(np.array([0]))
    run.put_descriptors(0, np.zeros((len(run.chunks[0].chunk.new), 3)))
    (run.root / "descriptors/000000.safetensors").write_bytes(b"nothing")
    with pytest.raises(RunCorruptError, match=r"000000\.safetensors cannot be read"):
        run.descriptors_of(np.array([0]))
