"""depth_vis/ of a run: one scale for all frames, as OpenCV and PyAV read it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from da3stream.errors import StoreError
from da3stream.writers.depth_video import DepthVisWriter
from da3stream.writers.depth_vis import coloured_depth, turbo

from .plane_scene import HEIGHT, WIDTH, blocks_of, coordinate_image, write


def picture(outputs, index):
    return cv2.imread(str(outputs.root / "depth_vis" / f"{index:06d}.png"))[..., ::-1]


def video(outputs):
    with av.open(str(outputs.root / "depth_vis" / "depth_vis.mp4")) as container:
        (stream,) = container.streams
        assert stream.codec_context.name == "h264"
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]


def flat(block, *depths):
    """The block with frame i at this constant depth everywhere."""
    depth = np.ones_like(block.full_depth) * np.array(depths, dtype=np.float32)[:, None, None]
    return replace(block, full_depth=depth)


def test_the_image_lies_left_of_its_depth(make_context, outputs):
    write(DepthVisWriter(make_context(frames=7)), blocks_of(7, 3, full=True))
    for index in range(7):
        shown = picture(outputs, index)
        assert shown.shape == (HEIGHT, 2 * WIDTH, 3)
        np.testing.assert_array_equal(shown[:, :WIDTH], coordinate_image(index))
        assert shown[:, WIDTH:].any(axis=-1).all()


def test_a_run_of_one_frame_has_the_colours_of_a_single_image(make_context, outputs):
    (block,) = blocks_of(1, full=True)
    write(DepthVisWriter(make_context(frames=1)), [block])
    difference = picture(outputs, 0)[:, WIDTH:].astype(int) - coloured_depth(block.full_depth[0])
    assert np.abs(difference).mean() < 2  # 0.14 % of depth, and percentiles between samples


def test_a_colour_means_the_same_depth_in_all_frames(make_context, outputs):
    (block,) = blocks_of(4, full=True)
    write(DepthVisWriter(make_context(frames=4)), [flat(block, 1, 4, 2, 4)])
    colours = [np.unique(picture(outputs, i)[:, WIDTH:].reshape(-1, 3), axis=0) for i in range(4)]
    assert [len(found) for found in colours] == [1, 1, 1, 1]
    expected = turbo(1 / np.array([1.0, 4, 2, 4]), 1 / 4, 1.0)
    np.testing.assert_allclose(np.concatenate(colours), expected, atol=4)
    np.testing.assert_array_equal(colours[1], colours[3])


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_unit_does_not_matter(make_context, outputs, scale):
    (block,) = blocks_of(3, full=True)
    write(DepthVisWriter(make_context(frames=3)), [block])
    before = picture(outputs, 2).astype(int)
    write(
        DepthVisWriter(make_context(frames=3)),
        [replace(block, full_depth=block.full_depth * np.float32(scale))],
    )
    assert np.abs(picture(outputs, 2) - before).mean() < 2


def test_unknown_is_black(make_context, outputs):
    (block,) = blocks_of(2, full=True)
    confidence = block.full_confidence.copy()
    confidence[1, :10] = 0
    write(DepthVisWriter(make_context(frames=2)), [replace(block, full_confidence=confidence)])
    black = (picture(outputs, 1)[:, WIDTH:] == 0).all(axis=-1)
    assert black[:10].all()
    assert not black[10:].any()


def test_nothing_known_at_all_is_no_error(make_context, outputs):
    (block,) = blocks_of(2, full=True)
    write(DepthVisWriter(make_context(frames=2)), [replace(block, full_confidence=block.full_confidence * 0)])
    assert not picture(outputs, 1)[:, WIDTH:].any()


def test_the_video_shows_the_pictures_in_order(make_context, outputs):
    (block,) = blocks_of(4, full=True)
    write(DepthVisWriter(make_context(frames=4)), [flat(block, 1, 4, 2, 3)])
    shown = video(outputs)
    assert len(shown) == 4
    for index, frame in enumerate(shown):
        depth_part = np.s_[5:-5, WIDTH + 5 : -5]  # beyond the reach of the codec's smear
        np.testing.assert_allclose(
            frame[depth_part].mean(axis=(0, 1)),
            picture(outputs, index)[depth_part].mean(axis=(0, 1)),
            atol=12,
        )


def test_a_video_that_cannot_be_written_is_one_line(make_context, outputs, monkeypatch):
    def to_full_disk(path, mode="r", *rest, **keywords):
        return open("/dev/full" if mode == "xb" else path, "wb" if mode == "xb" else mode, *rest, **keywords)

    writer = DepthVisWriter(make_context(frames=4))
    for block in blocks_of(4):
        writer.add(block)
    monkeypatch.setattr(Path, "open", to_full_disk)
    with pytest.raises(StoreError, match=r"depth_vis/ could not be written.*No space left.*--resume"):
        writer.finish()
    monkeypatch.undo()
    writer.abort()
    assert outputs.pending() == []


def test_odd_sizes_lose_a_row_in_the_video_only(make_context, outputs):
    (block,) = blocks_of(2)
    odd = replace(block, images=np.ascontiguousarray(block.images[:, :-1]))
    write(DepthVisWriter(make_context(frames=2)), [odd])
    assert picture(outputs, 0).shape == (HEIGHT - 1, 2 * WIDTH, 3)
    assert video(outputs)[0].shape == (HEIGHT - 2, 2 * WIDTH, 3)


def shown_at_s(outputs):
    """When PyAV says that the pictures are shown."""
    with av.open(str(outputs.root / "depth_vis" / "depth_vis.mp4")) as container:
        return [frame.time for frame in container.decode(video=0)]


def test_the_video_is_as_fast_as_the_capture_was(make_context, outputs):
    (block,) = blocks_of(6, full=True)
    times_s = np.array([10.0, 10.2, 10.25, 10.85, 3610.85, 3611.0])  # somebody had gone for lunch
    write(DepthVisWriter(make_context(frames=6)), [replace(block, timestamp_s=times_s)])
    np.testing.assert_allclose(shown_at_s(outputs), [0, 0.2, 0.25, 0.85, 1.85, 2.0], atol=1e-3)


def test_made_up_times_give_ten_frames_a_second(make_context, outputs):
    (block,) = blocks_of(5, full=True)
    context = replace(make_context(frames=5), timestamps_are_synthetic=True)
    write(DepthVisWriter(context), [replace(block, timestamp_s=np.arange(5.0))])
    np.testing.assert_allclose(shown_at_s(outputs), np.arange(5) / 10, atol=1e-3)
