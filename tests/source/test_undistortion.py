"""Frames without the distortion of the lens, from every kind of source."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from da3stream.config import SourceConfig
from da3stream.errors import ConfigError, InputError
from da3stream.geometry.lens import LensCamera
from da3stream.imaging import resize_for_processing
from da3stream.source import ImageFolderSource, LiveSource, PipedSource, VideoSource
from da3stream.source.live_address import LiveAddress
from da3stream.source.undistortion import Undistorter

from .clips import HEIGHT, WIDTH, decoded_rgb, encode_video
from .test_piped import pipe_of

CAMERA, BARREL = (150.0, 151.0, 81.0, 47.0), "radtan:-0.3,0.08,0.001,0.0005"
LENS = LensCamera.of(CAMERA, BARREL)
PLAIN = SourceConfig(resolution=84, select="all")
CONFIG = SourceConfig(resolution=84, select="all", intrinsics=CAMERA, distortion=BARREL)
LINES = np.arange(-6, 7) * 0.12
"""Where the lines of the grid lie on the plane z = 1."""
BLUR = 0.0015
"""Their standard deviation there."""


def drawn_grid(lens: LensCamera, width: int, height: int) -> np.ndarray:
    """(H, W, 3) uint8: a grid of soft bright lines on the plane z = 1 as the lens draws it.

    Each pixel shows the plane at the point whose image it is, found by iteration (independent of remap).
    """
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    pixels = np.stack([x, y], axis=-1)
    points = (pixels - (lens.cx, lens.cy)) / (lens.fx, lens.fy)
    for _ in range(100):
        points = points - (lens.project(points) - pixels) / (lens.fx, lens.fy)
    assert np.abs(lens.project(points) - pixels).max() < 1e-6
    distance = np.abs(points[..., None] - LINES).min(axis=-1)
    brightness = 255 * np.exp(-0.5 * (distance / BLUR) ** 2).max(axis=-1)
    return np.repeat(np.rint(brightness).astype(np.uint8)[..., None], 3, axis=-1)


def line_errors_px(image: np.ndarray, camera: LensCamera) -> np.ndarray:
    """Distances in x of the grid's upright lines from where a pinhole camera with these numbers draws them.

    Centroids are measured within 12 pixels, half-way between the lying lines, in all rows that are there.
    """
    errors = []
    for line in LINES[3:-3]:
        expected = line * camera.fx + camera.cx
        for between in (LINES[3:-4] + LINES[4:-3]) / 2:
            row = int(between * camera.fy + camera.cy)
            reach = slice(int(expected) - 12, int(expected) + 13)
            weights = image[row, reach, 0].astype(float)
            centres = np.arange(reach.start, reach.stop) + 0.5
            assert weights.sum() > 255
            errors.append((weights * centres).sum() / weights.sum() - expected)
    return np.array(errors)


@pytest.mark.parametrize(
    "distortion",
    [
        "radtan:-0.3,0.1,0.001,-0.001",
        pytest.param("radtan:0.2,-0.05,0,0", marks=pytest.mark.slow),
        pytest.param("equidistant:0.05,-0.01,0,0", marks=pytest.mark.slow),
    ],
)
def test_a_distorted_grid_becomes_straight(distortion: str) -> None:
    lens = LensCamera.of((900.0, 905.0, 490.3, 355.6), distortion)
    picture = drawn_grid(lens, 960, 720)
    straight = Undistorter(lens)(picture)
    pinhole = lens.pinhole(960, 720)
    new = LensCamera.of((pinhole.fx, pinhole.fy, pinhole.cx, pinhole.cy), None)
    corner = np.array([LINES[-4], LINES[-4]])
    bent = lens.project(corner) - LensCamera.of(lens.numbers, None).project(corner)
    assert np.abs(bent).max() > 5
    assert np.abs(line_errors_px(straight, new)).max() < 0.1


def test_an_image_of_another_size_gets_maps_of_its_own() -> None:
    undistort = Undistorter(LENS)
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    once = undistort(image)
    assert undistort(image[:90]).shape == (90, WIDTH, 3)
    np.testing.assert_array_equal(undistort(image), once)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode_video(tmp_path_factory.mktemp("lens") / "clip.mkv", frames=6)


def expected_frame(rgb: np.ndarray) -> np.ndarray:
    return resize_for_processing(Undistorter(LENS)(np.ascontiguousarray(rgb)), 84)


def test_video_frames_and_originals_are_undistorted(clip: Path) -> None:
    source = VideoSource(clip, CONFIG)
    for frame, rgb in zip(source, decoded_rgb(clip), strict=True):
        np.testing.assert_array_equal(frame.image, expected_frame(rgb))
        assert frame.original_size == (WIDTH, HEIGHT)
    (original,) = source.originals([2])
    shown = cv2.imdecode(np.frombuffer(original.data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    rgb = decoded_rgb(clip)[2]
    error = np.abs(shown.astype(float) - Undistorter(LENS)(np.ascontiguousarray(rgb))).mean()
    assert error < 6 < 0.5 * np.abs(shown.astype(float) - rgb).mean()


def test_a_turned_video_is_turned_first(tmp_path: Path) -> None:
    """The camera is that of the upright image: the principal point tells the corners apart."""
    turned = encode_video(tmp_path / "turned.mp4", frames=1, rotation_deg=-90)
    config = SourceConfig(resolution=84, intrinsics=(150.0, 151.0, 40.0, 90.0), distortion=BARREL)
    (frame,) = VideoSource(turned, config)
    (plain,) = VideoSource(turned, SourceConfig(resolution=84))
    stored = decoded_rgb(turned)[0]
    upright = min(
        (np.ascontiguousarray(np.rot90(stored, turns)) for turns in (1, -1)),
        key=lambda image: np.abs(resize_for_processing(image, 84).astype(int) - plain.image).sum(),
    )
    undistort = Undistorter(LensCamera.of((150.0, 151.0, 40.0, 90.0), BARREL))
    np.testing.assert_array_equal(frame.image, resize_for_processing(undistort(upright), 84))
    assert frame.original_size == (HEIGHT, WIDTH)


def test_a_piped_video_is_undistorted(clip: Path) -> None:
    with pipe_of(clip.read_bytes()) as descriptor:
        frames = list(PipedSource(CONFIG, descriptor))
    for frame, rgb in zip(frames, decoded_rgb(clip), strict=True):
        np.testing.assert_array_equal(frame.image, expected_frame(rgb))


def test_a_live_stream_is_undistorted(clip: Path) -> None:
    source = LiveSource(LiveAddress(url=f"file:{clip}", shown="clip"), CONFIG)
    first = next(iter(source))
    np.testing.assert_array_equal(first.image, expected_frame(decoded_rgb(clip)[0]))


@pytest.mark.parametrize(("suffix", "published"), [(".png", ".png"), (".jpg", ".jpg"), (".bmp", ".png")])
def test_images_and_originals_are_undistorted(tmp_path: Path, suffix: str, published: str) -> None:
    rng = np.random.default_rng(1)
    rgb = cv2.resize(rng.integers(0, 256, (12, 20, 3), np.uint8), (WIDTH, HEIGHT))
    cv2.imwrite(str(tmp_path / f"a{suffix}"), rgb[..., ::-1])
    stored = cv2.imread(str(tmp_path / f"a{suffix}"))[..., ::-1]
    source = ImageFolderSource(tmp_path, CONFIG)
    (frame,) = source
    np.testing.assert_array_equal(frame.image, expected_frame(stored))
    (original,) = source.originals([0])
    assert original.suffix == published
    shown = cv2.imdecode(np.frombuffer(original.data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    whole = Undistorter(LENS)(np.ascontiguousarray(stored))
    assert np.abs(shown.astype(float) - whole).mean() <= (0 if published == ".png" else 4)


def test_the_lens_is_part_of_the_identity_and_plain_intrinsics_are_not(clip: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    known = SourceConfig(resolution=84, select="all", intrinsics=CAMERA)
    other = SourceConfig(resolution=84, select="all", intrinsics=CAMERA, distortion="radtan:-0.3,0.08,0,0")
    for make in (
        lambda config: VideoSource(clip, config),
        lambda config: ImageFolderSource(tmp_path, config),
        lambda config: LiveSource(LiveAddress(url="rtsp://a/b", shown="rtsp://a/b"), config),
    ):
        identities = [make(config).identity() for config in (PLAIN, known, CONFIG, other)]
        assert identities[0] == identities[1]
        assert len(set(identities)) == 3


def test_a_lens_that_cannot_be_is_one_error_from_the_decoder_too(clip: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    config = SourceConfig(intrinsics=CAMERA, distortion="radtan:-900,0,0,0", select="all")
    for source in (VideoSource(clip, config), ImageFolderSource(tmp_path, config)):
        with pytest.raises(
            InputError, match=r"images of 160x96 pixels cannot be undistorted.*Are --intrinsics"
        ):
            list(source)


def test_a_calibration_file_must_have_been_read(clip: Path) -> None:
    with pytest.raises(ConfigError, match="calibration file must be read before"):
        VideoSource(clip, SourceConfig(intrinsics="K.txt"))
