"""Submaps that agree, that disagree, that overlap threefold; and the last, short one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from da3stream.assembly import assemble
from da3stream.chunking import Chunker
from da3stream.geometry.sim3 import Sim3
from da3stream.scene import Chunk, ChunkSizes, Frame, PlacedCameras

LAW = settings(max_examples=25, deadline=None)
PIXEL = np.zeros((1, 1, 3), dtype=np.uint8)


def walk(frames: int) -> np.ndarray:
    """(N, 4, 4) world_from_cam of a camera that walks and turns."""
    return Sim3.exp(np.arange(frames)[:, None] * [0.02, 0.05, -0.01, 0.1, 0.02, 0.3, 0.0]).matrix()


def plan(frames: int, size: int, overlap: int) -> list[Chunk]:
    images = (Frame(index=i, source_index=i, timestamp_s=0.0, image=PIXEL) for i in range(frames))
    sizes = ChunkSizes(size=size, overlap=overlap)
    windows = Chunker(images, lambda _frame: sizes)
    return [window.numbered(index).chunk for index, window in enumerate(windows)]


def placed(chunk: Chunk, world_from_cam: np.ndarray, depth_scale: float = 1.0) -> PlacedCameras:
    """The submap that says `world_from_cam` (of all frames) of its frames."""
    own = list(chunk.frames)
    return PlacedCameras(
        chunk=chunk, world_from_cam=world_from_cam[own], depth_scale=np.full(len(own), depth_scale)
    )


def shifted(poses: np.ndarray, offset: float) -> np.ndarray:
    moved = poses.copy()
    moved[:, 0, 3] += offset
    return moved


def shares_of_each(chunks: list[Chunk], frames: int) -> np.ndarray:
    """(chunks, frames) how much each submap counts, read off by moving one at a time."""
    still = np.tile(np.eye(4), (frames, 1, 1))
    shares = []
    for loud in chunks:
        submaps = [placed(chunk, shifted(still, float(chunk is loud))) for chunk in chunks]
        shares.append(assemble(range(frames), submaps).world_from_cam[:, 0, 3])
    return np.array(shares)


@LAW
@given(st.integers(1, 40), st.integers(3, 12), st.data())
def test_submaps_that_agree_give_what_they_say(frames: int, size: int, data: st.DataObject) -> None:
    chunks = plan(frames, size, data.draw(st.integers(1, size - 2)))
    truth = walk(frames)
    submaps = [placed(chunk, truth) for chunk in chunks]
    np.testing.assert_allclose(assemble(range(frames), submaps).world_from_cam, truth, atol=1e-9)


@LAW
@given(st.integers(1, 60), st.integers(3, 12), st.data())
def test_shares_are_not_negative_sum_to_one_and_follow_membership(
    frames: int, size: int, data: st.DataObject
) -> None:
    chunks = plan(frames, size, data.draw(st.integers(1, size - 2)))
    shares = shares_of_each(chunks, frames)
    np.testing.assert_allclose(shares.sum(axis=0), np.ones(frames), atol=1e-12)
    for chunk, share in zip(chunks, shares, strict=True):
        assert set(np.nonzero(share > 0)[0].tolist()) == set(chunk.frames)


@pytest.mark.parametrize(("size", "overlap"), [(20, 10), (20, 4), (9, 4)])
def test_across_an_overlap_one_submap_fades_linearly_into_the_next(size: int, overlap: int) -> None:
    frames = 2 * size - overlap
    earlier, later = shares_of_each(plan(frames, size, overlap), frames)
    ramp = (np.arange(overlap) + 0.5) / overlap
    shared = slice(size - overlap, size)
    np.testing.assert_allclose(later[shared], ramp, atol=1e-12)
    np.testing.assert_allclose(earlier[shared], 1 - ramp, atol=1e-12)


@pytest.mark.parametrize("extra", [1, 2, 5, 17])
@pytest.mark.parametrize(
    ("size", "overlap", "steepest"), [(40, 20, 1.1), (40, 10, 1.1), (40, 30, 1.7), (12, 6, 1.1), (3, 1, 1.1)]
)
def test_no_share_jumps_from_one_frame_to_the_next(
    size: int, overlap: int, steepest: float, extra: int
) -> None:
    """However short the last chunk is, it takes over step by step."""
    frames = 2 * size + extra
    shares = shares_of_each(plan(frames, size, overlap), frames)
    assert np.abs(np.diff(shares, axis=1)).max() <= steepest / overlap


@pytest.mark.parametrize(("size", "overlap"), [(20, 10), (20, 15)])
def test_a_blended_trajectory_stays_between_its_submaps_and_has_no_kink(size: int, overlap: int) -> None:
    frames = 60
    truth = walk(frames)
    chunks = plan(frames, size, overlap)
    offsets = np.random.default_rng(1).uniform(-0.5, 0.5, len(chunks))
    said = [shifted(truth, offset) for offset in offsets]
    submaps = [placed(*parts) for parts in zip(chunks, said, strict=True)]
    cameras = assemble(range(frames), submaps).world_from_cam
    blended = cameras[:, 0, 3] - truth[:, 0, 3]
    for frame in range(frames):
        speaking = [offset for chunk, offset in zip(chunks, offsets, strict=True) if frame in chunk.frames]
        assert min(speaking) - 1e-9 <= blended[frame] <= max(speaking) + 1e-9
    widest = max(offsets) - min(offsets)
    assert np.abs(np.diff(blended)).max() <= 1.5 * widest / overlap


def test_rotations_that_disagree_are_met_halfway_and_stay_orthonormal() -> None:
    first = Chunk(index=0, context=(), new=tuple(range(10)))
    second = Chunk(index=1, context=tuple(range(10)), new=(10,))
    still = np.tile(np.eye(4), (11, 1, 1))
    turned = Sim3.exp([0.0, 0.4, 0.0, 0, 0, 0, 0]).move_pose(still)
    submaps = [placed(first, still), placed(second, turned)]
    cameras = assemble(range(11), submaps).world_from_cam
    rotation = cameras[:, :3, :3]
    np.testing.assert_allclose(
        rotation @ np.swapaxes(rotation, 1, 2), np.tile(np.eye(3), (11, 1, 1)), atol=1e-12
    )
    np.testing.assert_array_equal(cameras[:, 3], np.tile([0.0, 0, 0, 1], (11, 1)))
    angles = np.arctan2(rotation[:, 0, 2], rotation[:, 0, 0])
    assert (np.diff(angles) > 0).all()
    assert 0 < angles[0] < 0.05
    assert angles[10] == pytest.approx(0.4)


def test_depth_scales_that_disagree_are_averaged_as_ratios() -> None:
    first, second = Chunk(index=0, context=(), new=(0, 1)), Chunk(index=1, context=(0, 1), new=(2,))
    scale = assemble(range(3), [placed(first, walk(3), 1.0), placed(second, walk(3), 4.0)]).depth_scale
    # The second submap counts 1/4, then 3/4: geometric means.
    np.testing.assert_allclose(scale, [4**0.25, 4**0.75, 4.0], rtol=1e-12)


def test_frames_come_in_the_order_asked_for() -> None:
    chunks = plan(20, 8, 4)
    submaps = [placed(chunk, walk(20)) for chunk in chunks]
    whole = assemble(range(20), submaps)
    some = assemble([13, 2, 7], submaps)
    np.testing.assert_array_equal(some.world_from_cam, whole.world_from_cam[[13, 2, 7]])
    np.testing.assert_array_equal(some.depth_scale, whole.depth_scale[[13, 2, 7]])


def test_recalled_keyframes_say_nothing_and_change_no_weight() -> None:
    plain = [Chunk(index=0, context=(), new=tuple(range(10))), Chunk(index=1, context=(8, 9), new=(10, 11))]
    recalling = [plain[0], Chunk(index=1, context=(0, 5, 8, 9), new=(10, 11))]
    np.testing.assert_array_equal(shares_of_each(recalling, 12), shares_of_each(plain, 12))


def test_a_frame_that_no_submap_contains_is_named() -> None:
    with pytest.raises(KeyError, match=r"\[9\]"):
        assemble([1, 9], [placed(Chunk(index=0, context=(), new=(0, 1, 2)), walk(3))])


def test_submaps_may_come_from_an_iterator() -> None:
    submaps = [placed(chunk, walk(12)) for chunk in plan(12, 8, 4)]
    np.testing.assert_array_equal(
        assemble(range(12), iter(submaps)).world_from_cam, assemble(range(12), submaps).world_from_cam
    )
