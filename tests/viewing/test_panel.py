"""What the panel says and shows."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from da3stream.errors import RunIncompleteError, StoreError
from da3stream.store import FinishedRun, FollowedRun, read_manifest
from da3stream.store.manifest import encode_manifest
from da3stream.viewing.colours import Colouring, frame_colours
from da3stream.viewing.describing import describe_run
from da3stream.viewing.frames import FrameReader
from da3stream.viewing.map_state import first_state_of
from da3stream.viewing.panel import AUTO, Panel
from da3stream.viewing.viewed_run import check_viewable


class NoEvents:
    """Stands for a viewer of which nothing is asked."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **options: None


def test_what_goes_wrong_in_a_callback_is_said_in_the_page(
    server: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    panel = Panel(server, NoEvents(), confidence_percentile=40, every=1)  # type: ignore[arg-type]
    said: list[tuple[str, str]] = []
    monkeypatch.setattr(panel, "notify", lambda title, body: said.append((title, body)))

    def fail(error: Exception) -> None:
        raise error

    panel.reported(lambda: fail(StoreError("the disk is gone")))(None)
    panel.reported(lambda: fail(ZeroDivisionError("oh")))(None)
    assert said == [("Not possible", "the disk is gone"), ("Error in the viewer", "ZeroDivisionError: oh")]
    assert "ZeroDivisionError" in caplog.text  # a bug: with its traceback on the terminal


def test_the_budget_follows_the_browser_unless_a_user_has_chosen_one(server: Any) -> None:
    chosen: list[tuple[int | None, float]] = []

    class Events(NoEvents):
        def choose_points(self, budget: int | None, confidence_percentile: float) -> None:
            chosen.append((budget, confidence_percentile))

    panel = Panel(server, Events(), confidence_percentile=40, every=1)  # type: ignore[arg-type]
    panel._confidence.value = 60
    panel._budget.value = "2 M"
    panel._budget.value = AUTO
    assert chosen == [(None, 60.0), (2_000_000, 60.0), (None, 60.0)]


def test_the_users_choice_of_frusta_is_kept(server: Any) -> None:
    panel = Panel(server, NoEvents(), confidence_percentile=40, every=1)  # type: ignore[arg-type]
    assert panel.suggest_every(4) == 4
    panel._nth.value = 7
    assert panel.suggest_every(9) == 7


def test_units_are_metres_only_if_they_are(run: FollowedRun) -> None:
    state = first_state_of(FinishedRun(run.root))
    manifest = {**run.manifest, "warnings": ["a <b>bold</b> *warning*"]}
    said = describe_run(manifest, state, is_metric=False)
    assert f"{state.length:.4g} units" in said
    assert "**Frames** 70" in said
    assert "a \\<b\\>bold\\</b\\> \\*warning\\*" in said
    assert f"{state.length:.4g} m\n" in describe_run(manifest, state, is_metric=True)


def test_a_model_is_no_html(run: FollowedRun) -> None:
    said = describe_run(
        {**run.manifest, "model": "<img src=x>"}, first_state_of(FinishedRun(run.root)), is_metric=False
    )
    assert "\\<img src=x\\>" in said


@pytest.mark.parametrize(("percentile", "shown"), [(0.0, 0), (42.0, 40), (97.5, 95), (100.0, 95)])
def test_whatever_the_run_left_out_can_be_shown(server: Any, percentile: float, shown: int) -> None:
    panel = Panel(server, NoEvents(), confidence_percentile=percentile, every=1)  # type: ignore[arg-type]
    assert panel._confidence.value == shown


def test_pictures_of_a_frame_agree_with_its_maps(run: FollowedRun) -> None:
    reader, maps = FrameReader(run), run.maps_of(20)
    height, width = maps.depth.shape
    depth, confidence = reader.depth(20), reader.confidence(20)
    assert depth.shape == confidence.shape
    times = depth.shape[0] // height
    assert depth.shape == (times * height, times * width, 3)
    small = depth[::times, ::times].astype(int)
    is_known = (maps.depth > 0) & (maps.confidence > 0)
    near = is_known & (maps.depth < np.percentile(maps.depth[is_known], 10))
    far = is_known & (maps.depth > np.percentile(maps.depth[is_known], 90))
    assert (small[near][:, 0] > small[near][:, 2]).mean() > 0.9  # red
    assert (small[far][:, 2] > small[far][:, 0]).mean() > 0.9  # blue
    assert not small[~is_known].any()
    camera = reader.camera(20)
    assert camera.fov_rad == pytest.approx(2 * np.arctan(0.5 * 42 / maps.image_intrinsics[1, 1]))
    assert camera.aspect == 3


def test_neighbouring_submaps_have_different_colours(run: FollowedRun) -> None:
    state = first_state_of(FinishedRun(run.root))
    by_submap = frame_colours(state, Colouring.SUBMAP, range(70)).astype(int)
    changes = np.flatnonzero(np.diff(state.submap))
    assert np.abs(np.diff(by_submap, axis=0)).sum(axis=1)[changes].min() > 100
    same = np.diff(state.submap) == 0
    assert not np.diff(by_submap, axis=0)[same].any()
    assert len(np.unique(frame_colours(state, Colouring.TIME, range(70)), axis=0)) > 60


def test_a_run_without_depth_maps_is_refused(viewed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(viewed, folder)
    manifest = read_manifest(folder)
    manifest["config"]["keep"] = "none"
    (folder / "run.json").write_bytes(encode_manifest(manifest))
    with pytest.raises(RunIncompleteError, match="--keep none"):
        check_viewable(folder, follow=False)
