"""A run that is begun anew, goes back or is damaged while the viewer follows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import da3stream
from da3stream.errors import RunCorruptError
from da3stream.store import FollowedRun, open_existing
from da3stream.store.journal import JOURNAL
from da3stream.synthetic.capture import SimulatedEstimator, SimulatedSource, SimulatedWorld
from da3stream.synthetic.paths import street_laps
from da3stream.viewing.describing import escaped
from da3stream.viewing.viewer import Viewer, open_viewer
from tests.viewing.conftest import OPTIONS
from tests.viewing.test_following import Writer
from tests.viewing.test_page import wait_for


@pytest.fixture
def writer(viewed: Path, tmp_path: Path) -> Writer:
    return Writer(viewed, tmp_path / "growing")


@pytest.fixture
def follower(writer: Writer) -> Iterator[Viewer]:
    """A viewer that follows what the writer writes."""
    pytest.importorskip("viser", reason="needs viser: pip install 'da3stream[view]'")
    viewer = open_viewer(writer.folder, "127.0.0.1", 0, follow=True)
    yield viewer
    viewer.close()


def frames_in(viewer: Viewer) -> int:
    """How many frames it shows."""
    return 0 if viewer.state is None else len(viewer.state)


def is_at(viewer: Viewer, world_from_cam: np.ndarray) -> bool:
    """Whether it shows these cameras (N, 3, 4)."""
    return viewer.state is not None and np.allclose(viewer.state.world_from_cam, world_from_cam, atol=1e-9)


def go_back(folder: Path, share: float) -> bytes:
    """Cut the journal as a writer does that goes back; returns what it forgot."""
    lines = (folder / JOURNAL).read_bytes().splitlines(keepends=True)
    kept = round(share * len(lines))
    (folder / "scratch").write_bytes(b"".join(lines[:kept]))
    (folder / "scratch").replace(folder / JOURNAL)
    return b"".join(lines[kept:])


def test_a_run_that_goes_back_is_shown_as_it_is_then(writer: Writer, follower: Viewer) -> None:
    writer.write(10)
    wait_for(lambda: frames_in(follower) > 0)
    before = frames_in(follower)
    forgotten = go_back(writer.folder, 0.5)
    wait_for(lambda: 0 < frames_in(follower) < before)
    wait_for(lambda: follower.scene is not None and follower.scene.points > 0)
    assert follower.scene is not None
    assert max(follower.scene.keyframes) < frames_in(follower)
    with (writer.folder / JOURNAL).open("ab") as file:
        file.write(forgotten)
    writer.finish()
    wait_for(lambda: frames_in(follower) == 70)


def test_a_run_that_nobody_writes_any_more_says_how_it_goes_on(writer: Writer, follower: Viewer) -> None:
    def says(text: str) -> bool:
        return text in follower._panel._status.content

    wait_for(lambda: says("Waiting for the first chunk"))
    writer.stop()
    wait_for(lambda: says("No chunk yet") and says(escaped(f"da3stream resume {writer.folder}")))
    writer.begin_again()
    writer.write(10)
    wait_for(lambda: says("points of") and says("the run goes on"))
    writer.stop()
    wait_for(lambda: says("points of") and says("interrupted"))
    writer.finish()
    wait_for(lambda: frames_in(follower) == 70 and not says("interrupted"))


def test_a_finished_run_that_is_made_anew_is_followed(writer: Writer, follower: Viewer) -> None:
    """By the real writer, which removes the old one file by file."""
    writer.finish()
    wait_for(lambda: frames_in(follower) == 70)
    world = SimulatedWorld(street_laps(40), seed=8, size=(14, 42), hfov_deg=82)
    da3stream.reconstruct(
        SimulatedSource(world),
        writer.folder,
        estimator=SimulatedEstimator(world, seed=3, level=1.0),
        config=da3stream.load_config(None, {**OPTIONS, "place": "none", "confidence_percentile": 20.0}),
        overwrite=True,
    )
    final = open_existing(writer.folder)
    expected = final.trajectory().world_from_cam[:, :3]
    final.close()
    wait_for(lambda: frames_in(follower) == 40 and is_at(follower, expected))
    wait_for(lambda: follower.scene is not None and follower.scene.points > 0)


def test_a_damaged_journal_is_read_again_once_it_is_mended(writer: Writer, follower: Viewer) -> None:
    writer.write(8)
    wait_for(lambda: frames_in(follower) > 0)
    journal = writer.folder / JOURNAL
    content = journal.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    journal.write_bytes(whole + b"00000000 damaged\n")
    with pytest.raises(RunCorruptError):
        FollowedRun(writer.folder)
    wait_for(lambda: follower._optimised is None)
    (writer.folder / "scratch").write_bytes(whole)
    (writer.folder / "scratch").replace(journal)
    wait_for(lambda: frames_in(follower) > 0)


def test_a_new_file_with_the_old_number_is_noticed(writer: Writer) -> None:
    """Overwriting in place keeps the inode, as a file does that gets the number of a removed one."""
    writer.write(6)
    run = FollowedRun(writer.folder)
    journal = writer.folder / JOURNAL
    journal.write_bytes(b"x" * 2 * journal.stat().st_size)
    with pytest.raises(da3stream.errors.RunRestartedError, match="begun anew"):
        run.catch_up()
    journal.unlink()
    with pytest.raises(da3stream.errors.RunRestartedError, match="begun anew"):
        run.catch_up()
