"""Every codec gives back what it was given, within its precision, and equal bytes for equal things."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from da3stream.errors import RunCorruptError
from da3stream.geometry.camera import unproject
from da3stream.scene import Chunk, Submap, Trajectory
from da3stream.store.descriptor_file import decode_descriptors, encode_descriptors
from da3stream.store.frame_file import decode_frames, encode_frames, read_frame
from da3stream.store.full_depth import decode_full_depth, encode_full_depth
from da3stream.store.submap_file import (
    decode_submap,
    encode_submap,
    read_cameras,
    read_frame_maps,
    read_image_intrinsics,
    reduce_prediction,
)
from da3stream.store.trajectory_file import decode_trajectory, encode_trajectory

from .samples import HEIGHT, WIDTH, make_frames, make_prediction

LAW = settings(max_examples=60, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)
SCALES = st.floats(-8, 8).map(lambda exponent: 10.0**exponent)
CHUNK = Chunk(index=7, context=(3, 4), new=(5,))


@st.composite
def submaps(draw: st.DrawFn) -> Submap:
    """Any scale of depth and confidence, any dynamic range, unusable pixels, with and without sky."""
    rng = np.random.default_rng(draw(SEEDS))
    shape = (3, draw(st.integers(1, 9)), draw(st.integers(1, 13)))
    spread = draw(st.sampled_from([0.0, 1.0, 3.0]))
    depth = draw(SCALES) * np.exp(spread * rng.normal(size=shape))
    confidence = draw(SCALES) * np.exp(draw(st.sampled_from([0.0, 1.0, 5.0])) * rng.normal(size=shape))
    depth[rng.random(shape) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = 0
    confidence[rng.random(shape) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = 0
    confidence[depth == 0] = 0
    return Submap(
        chunk=CHUNK, depth=depth.astype(np.float32), confidence=confidence.astype(np.float32),
        cam_from_submap=rng.normal(size=(3, 3, 4)), intrinsics=rng.normal(size=(3, 3, 3)),
        image_intrinsics=rng.normal(size=(3, 3, 3)), is_metric=draw(st.booleans()),
        sky=rng.random(shape) < 0.5 if draw(st.booleans()) else None,
    )  # fmt: skip


def round_trip(submap: Submap) -> Submap:
    return decode_submap(encode_submap(submap), submap.chunk, submap.is_metric)


@LAW
@given(submaps())
def test_depth_keeps_eleven_bits_at_any_scale(submap: Submap) -> None:
    """Down to a ten-thousandth of the median depth and up to ten thousand times as much."""
    decoded = round_trip(submap).depth
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded > 0, submap.depth > 0)
    median = np.median(submap.depth[submap.depth > 0]) if (submap.depth > 0).any() else 1.0
    common = (submap.depth > 1e-4 * median) & (submap.depth < 1e4 * median)
    np.testing.assert_allclose(decoded[common], submap.depth[common], rtol=2.0**-11 * 1.01)


@LAW
@given(submaps())
def test_confidence_is_coarse_but_monotonic_and_only_zero_is_zero(submap: Submap) -> None:
    decoded = round_trip(submap).confidence
    np.testing.assert_array_equal(decoded > 0, submap.confidence > 0)
    order = np.argsort(submap.confidence, axis=None)
    assert (np.diff(decoded.ravel()[order]) >= 0).all()
    assert np.isfinite(decoded).all()
    positive = submap.confidence[submap.confidence > 0]
    if positive.size:
        near = (submap.confidence > np.median(positive) / 4) & (submap.confidence < np.median(positive) * 4)
        np.testing.assert_allclose(decoded[near], submap.confidence[near], rtol=0.02)


@LAW
@given(submap=submaps())
def test_one_frame_read_alone_is_that_of_the_whole_submap(
    submap: Submap, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "one_frame.safetensors"
    path.write_bytes(encode_submap(submap))
    whole = decode_submap(path.read_bytes(), submap.chunk, submap.is_metric)
    for row in range(len(submap.chunk.frames)):
        maps = read_frame_maps(path, row)
        np.testing.assert_array_equal(maps.depth, whole.depth[row])
        np.testing.assert_array_equal(maps.confidence, whole.confidence[row])
        np.testing.assert_array_equal(maps.intrinsics, whole.intrinsics[row])
        np.testing.assert_array_equal(maps.image_intrinsics, whole.image_intrinsics[row])
        if whole.sky is None:
            assert maps.sky is None
        else:
            np.testing.assert_array_equal(maps.sky, whole.sky[row])


def test_one_frame_of_a_damaged_file_is_a_known_error(tmp_path: Path) -> None:
    path = tmp_path / "damaged"
    for content in (b"", b"x" * 100):
        path.write_bytes(content)
        with pytest.raises(RunCorruptError):
            read_frame_maps(path, 0)
        with pytest.raises(RunCorruptError):
            read_frame(path, 0)
    path.write_bytes(encode_frames(make_frames((3, 4))))
    np.testing.assert_array_equal(read_frame(path, 4), decode_frames(path.read_bytes())[1])
    with pytest.raises(RunCorruptError, match="frame 5"):
        read_frame(path, 5)


@LAW
@given(submaps())
def test_cameras_sky_and_flags_are_exact(submap: Submap) -> None:
    decoded = round_trip(submap)
    for name in ("cam_from_submap", "intrinsics", "image_intrinsics"):
        np.testing.assert_array_equal(getattr(decoded, name), getattr(submap, name))
    assert (decoded.chunk, decoded.is_metric) == (submap.chunk, submap.is_metric)
    if submap.sky is None:
        assert decoded.sky is None
    else:
        np.testing.assert_array_equal(decoded.sky, submap.sky)


@LAW
@given(submaps())
def test_equal_submaps_make_equal_bytes(submap: Submap) -> None:
    copies = {
        name: None if (array := getattr(submap, name)) is None else np.asfortranarray(array)
        for name in ("depth", "confidence", "cam_from_submap", "intrinsics", "sky")
    }
    assert encode_submap(submap) == encode_submap(replace(submap, **copies))


def test_depths_far_from_the_median_stay_usable() -> None:
    """A mote and a mountain: clipped, but neither zero nor infinite."""
    depth = np.ones((3, 2, 2), dtype=np.float32)
    depth[0, 0], depth[1, 1] = [1e-9, 1e9], [1e-30, 1e30]
    submap = reduced(depth=depth, confidence=np.ones_like(depth))
    decoded = round_trip(submap)
    assert np.isfinite(decoded.depth).all()
    assert (decoded.depth > 0).all()


def reduced(**changes: Any) -> Submap:
    return reduce_prediction(CHUNK, make_prediction(3, **changes), (WIDTH, HEIGHT))


def test_the_stored_cameras_can_be_read_alone(tmp_path: Path) -> None:
    submap = reduced()
    (tmp_path / "submap").write_bytes(encode_submap(submap))
    cameras = read_cameras(tmp_path / "submap", CHUNK)
    np.testing.assert_array_equal(cameras.cam_from_submap, submap.cam_from_submap)
    assert cameras.typical_depth == pytest.approx(np.median(submap.depth[submap.depth > 0]))
    np.testing.assert_array_equal(read_image_intrinsics(tmp_path / "submap"), submap.image_intrinsics)


def test_reduced_depth_is_every_third_pixel_and_sees_the_same_points() -> None:
    prediction = make_prediction(3)
    submap = reduced()
    assert submap.depth.shape == (3, 9, 14)
    np.testing.assert_array_equal(submap.depth, prediction.depth[:, 1::3, 1::3])
    np.testing.assert_array_equal(submap.confidence, prediction.confidence[:, 1::3, 1::3])
    points = unproject(prediction.depth[2], prediction.intrinsics[2])[1::3, 1::3]
    np.testing.assert_allclose(unproject(submap.depth[2], submap.intrinsics[2]), points, rtol=1e-6)
    np.testing.assert_array_equal(submap.image_intrinsics, prediction.intrinsics)


@pytest.mark.parametrize(
    ("factor", "shape"), [(2, (3, 9, 14)), (1, (3, 9, 14)), (1 / 3, (3, 9, 14)), (1 / 7, (3, 4, 6))]
)
def test_reduction_aims_at_a_third_of_the_images_size(factor: float, shape: tuple[int, ...]) -> None:
    """Whatever size the estimator's depth maps have, the intrinsics of the images come out the same."""
    height, width = round(HEIGHT * factor), round(WIDTH * factor)
    maps = np.ones((3, height, width), dtype=np.float32)
    intrinsics = make_prediction(3).intrinsics * np.array([width / WIDTH, height / HEIGHT, 1.0])[:, None]
    submap = reduced(depth=maps, confidence=maps, intrinsics=intrinsics)
    assert submap.depth.shape == shape
    np.testing.assert_allclose(submap.image_intrinsics, make_prediction(3).intrinsics, rtol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0, -2.0])
def test_unusable_depth_is_stored_as_zero_depth_of_zero_confidence(bad: float) -> None:
    prediction = make_prediction(3)
    depth = prediction.depth.copy()
    depth[:, 1, 1] = bad
    submap = reduced(depth=depth, confidence=prediction.confidence + 1)
    assert (submap.depth[:, 0, 0] == 0).all()
    assert (submap.confidence[:, 0, 0] == 0).all()
    assert (submap.confidence[:, 1:] > 0).all()
    np.testing.assert_array_equal(prediction.depth, make_prediction(3).depth)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_senseless_confidence_means_never_use(bad: float) -> None:
    confidence = np.ones((3, HEIGHT, WIDTH), dtype=np.float32)
    confidence[:, 1, 1] = bad
    submap = reduced(confidence=confidence)
    assert (submap.confidence[:, 0, 0] == 0).all()
    assert (submap.confidence[:, 1:] == 1).all()


def test_frames_come_back_in_order_and_nearly_as_they_were() -> None:
    frames = make_frames((11, 4, 9))
    images = decode_frames(encode_frames(frames))
    assert images.shape == (3, HEIGHT, WIDTH, 3)
    for image, frame in zip(images, frames, strict=True):
        assert np.abs(image.astype(int) - frame.image).max() <= 4


def test_colours_are_not_swapped() -> None:
    frame = make_frames((0,))[0]
    red = np.zeros_like(frame.image)
    red[..., 0] = 200
    (image,) = decode_frames(encode_frames([replace(frame, image=red)]))
    assert image[5, 5, 0] > 180
    assert image[5, 5, 1:].max() < 20


def test_the_frame_file_is_a_zip_that_any_tool_opens() -> None:
    archive = zipfile.ZipFile(io.BytesIO(encode_frames(make_frames((4, 123)))))
    assert archive.namelist() == ["000004.jpg", "000123.jpg"]
    assert archive.read("000123.jpg")[:2] == b"\xff\xd8"


def test_equal_frames_make_equal_bytes() -> None:
    assert encode_frames(make_frames((1, 2))) == encode_frames(make_frames((1, 2)))


def test_full_depth_is_exact_and_leaves_the_context_out() -> None:
    prediction = make_prediction(3)
    full = decode_full_depth(encode_full_depth(prediction, skip=2))
    np.testing.assert_array_equal(full.depth, prediction.depth[2:])
    np.testing.assert_array_equal(full.confidence, prediction.confidence[2:])


@LAW
@given(SEEDS, st.integers(0, 6), st.integers(1, 40))
def test_descriptors_keep_half_precision(seed: int, frames: int, dim: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(frames, dim)).astype(np.float32)
    decoded = decode_descriptors(encode_descriptors(vectors))
    assert decoded.dtype == np.float32
    np.testing.assert_allclose(decoded, vectors, rtol=1e-3, atol=1e-6)


def test_a_trajectory_is_exact() -> None:
    rng = np.random.default_rng(0)
    trajectory = Trajectory(
        index=np.arange(5), timestamp_s=rng.normal(size=5), world_from_cam=rng.normal(size=(5, 4, 4)),
        intrinsics=rng.normal(size=(5, 3, 3)), submap=np.array([0, 0, 1, 1, 2]),
    )  # fmt: skip
    decoded = decode_trajectory(encode_trajectory(trajectory))
    for name in ("index", "timestamp_s", "world_from_cam", "intrinsics", "submap"):
        np.testing.assert_array_equal(getattr(decoded, name), getattr(trajectory, name))


DECODERS = {
    "submap": lambda content: decode_submap(content, CHUNK, True),
    "frames": decode_frames,
    "full depth": decode_full_depth,
    "descriptors": decode_descriptors,
    "trajectory": decode_trajectory,
}


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize(
    "content", [b"", b"nonsense" * 9, encode_frames([]), encode_descriptors(np.ones((1, 2)))]
)
def test_other_bytes_are_refused(name: str, content: bytes) -> None:
    if name == "descriptors" and b"descriptors" in content:
        return
    with pytest.raises(RunCorruptError, match="cannot be read"):
        DECODERS[name](content)


@pytest.mark.parametrize("name", ["submap", "frames", "full depth"])
def test_a_file_that_was_cut_short_is_refused(name: str) -> None:
    whole = {
        "submap": encode_submap(reduced()),
        "frames": encode_frames(make_frames((1, 2))),
        "full depth": encode_full_depth(make_prediction(2), skip=0),
    }[name]
    for length in (1, 9, len(whole) // 2, len(whole) - 1):
        with pytest.raises(RunCorruptError, match="cannot be read"):
            DECODERS[name](whole[:length])


def test_a_submap_of_another_chunk_is_refused() -> None:
    other = Chunk(index=7, context=(3,), new=(5,))
    with pytest.raises(RunCorruptError, match="submap 7 cannot be read"):
        decode_submap(encode_submap(reduced()), other, True)


@pytest.mark.parametrize("content", [None, b"", b"nonsense"])
def test_cameras_of_a_missing_or_damaged_file_are_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "submap").write_bytes(content)
    with pytest.raises(RunCorruptError, match="submap cannot be read"):
        read_cameras(tmp_path / "submap", CHUNK)
