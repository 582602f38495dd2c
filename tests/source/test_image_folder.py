"""Folders of images."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from da3stream.config import SourceConfig
from da3stream.errors import (
    ConfigError,
    InputNotFoundError,
    MixedImageSizesError,
    NoFramesError,
    UnreadableImageError,
)
from da3stream.imaging import resize_for_processing
from da3stream.source import ImageFolderSource
from da3stream.source.base import FrameSource, HasOriginals

from .clips import picture

CONFIG = SourceConfig(resolution=84)


def exif(orientation: int, moment: str | None = None, fraction: str = "") -> bytes:
    """An EXIF block: orientation (0x0112); in the folder 0x8769 time (0x9003) and its fraction (0x9291)."""
    entry, end = struct.Struct("<HHII"), struct.pack("<I", 0)
    root = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    if moment is None:
        return b"II*\0" + struct.pack("<IH", 8, 1) + root + end
    folder_at = 8 + 2 + 2 * 12 + 4
    text_at = folder_at + 2 + 2 * 12 + 4
    root += entry.pack(0x8769, 4, 1, folder_at)
    folder = entry.pack(0x9003, 2, 20, text_at)
    folder += struct.pack("<HHI4s", 0x9291, 2, 4, fraction.encode().ljust(4, b"\0"))
    header = b"II*\0" + struct.pack("<IH", 8, 2)
    return header + root + end + struct.pack("<H", 2) + folder + end + moment.encode() + b"\0"


def write(path: Path, rgb: np.ndarray, exif_block: bytes | None = None) -> np.ndarray:
    """Write an RGB image and return what a decoder gets back, without EXIF rotation, as RGB."""
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    if exif_block is None:
        encoded = cv2.imencode(path.suffix, bgr)[1]
    else:
        block = np.frombuffer(exif_block, np.uint8)
        encoded = cv2.imencodeWithMetadata(path.suffix, bgr, [cv2.IMAGE_METADATA_EXIF], [block])[1]
    path.write_bytes(encoded.tobytes())
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    return cv2.imdecode(encoded, flags)[..., ::-1]


def test_natural_order_suffixes_and_what_is_ignored(tmp_path: Path) -> None:
    names = ["img10.png", "img2.JPG", "img1.bmp", "img3.tiff", "img20.webp", "a 7.jpeg", "img02.tif"]
    for index, name in enumerate(names):
        encoded = cv2.imencode("." + name.rpartition(".")[2].lower(), picture(index))[1]
        (tmp_path / name).write_bytes(encoded.tobytes())
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "poses.txt").write_text("1 2 3")
    (tmp_path / "folder.png").mkdir()
    source = ImageFolderSource(tmp_path, CONFIG)
    frames = list(source)
    expected = ["a 7.jpeg", "img1.bmp", "img2.JPG", "img02.tif", "img3.tiff", "img10.png", "img20.webp"]
    assert [frame.name for frame in frames] == expected
    assert [frame.index for frame in frames] == [frame.source_index for frame in frames] == list(range(7))
    assert [frame.timestamp_s for frame in frames] == [0, 1, 2, 3, 4, 5, 6]
    assert source.timestamps_are_synthetic
    assert source.size_hint() == 7
    assert source.warnings == []
    assert isinstance(source, FrameSource)
    assert isinstance(source, HasOriginals)


def test_frames_are_exactly_the_resized_images(tmp_path: Path) -> None:
    stored = [write(tmp_path / f"{index}.png", picture(index)) for index in range(3)]
    for frame, rgb in zip(ImageFolderSource(tmp_path, CONFIG), stored, strict=True):
        np.testing.assert_array_equal(frame.image, resize_for_processing(np.ascontiguousarray(rgb), 84))
        assert frame.original_size == (160, 96)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize(
    ("orientation", "turns"),  # EXIF: 3 = 180, 6 = 90 clockwise, 8 = 90 counterclockwise
    [(1, 0), (3, 2), (6, -1), (8, 1)],
)
def test_exif_rotation_is_applied(tmp_path: Path, suffix: str, orientation: int, turns: int) -> None:
    stored = write(tmp_path / f"a{suffix}", picture(0), exif(orientation))
    upright = np.ascontiguousarray(np.rot90(stored, turns))
    source = ImageFolderSource(tmp_path, CONFIG)
    (frame,) = source
    assert frame.original_size == (upright.shape[1], upright.shape[0])
    np.testing.assert_array_equal(frame.image, resize_for_processing(upright, 84))

    (original,) = source.originals([0])
    published = cv2.imdecode(
        np.frombuffer(original.data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    )
    np.testing.assert_array_equal(published[..., ::-1], upright)
    is_file = original.data == (tmp_path / f"a{suffix}").read_bytes()
    assert is_file == (orientation == 1 and suffix != ".webp")
    assert original.suffix == (suffix if is_file else ".png")


def test_grey_sixteen_bit_and_alpha(tmp_path: Path) -> None:
    rgb = picture(0)
    deep = rgb.astype(np.uint16) * 257 + np.uint16(100)
    deep[rgb == 255] = 65535
    images = {
        "0.png": rgb[..., 0],
        "1.png": np.dstack([rgb[..., ::-1], np.zeros(rgb.shape[:2], np.uint8)]),
        "2.png": deep[..., ::-1],
        "3.png": deep[..., 0],
    }
    for name, image in images.items():
        (tmp_path / name).write_bytes(cv2.imencode(".png", np.ascontiguousarray(image))[1].tobytes())
    grey, alpha, color16, grey16 = (
        frame.image for frame in ImageFolderSource(tmp_path, SourceConfig(resolution=154))
    )
    in_grey = np.repeat(rgb[..., :1], 3, axis=2)
    np.testing.assert_array_equal(grey, resize_for_processing(in_grey, 154))
    np.testing.assert_array_equal(alpha, resize_for_processing(rgb, 154))
    np.testing.assert_array_equal(color16, resize_for_processing(rgb, 154))
    np.testing.assert_array_equal(grey16, resize_for_processing(in_grey, 154))


def test_float_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "depth.tiff").write_bytes(
        cv2.imencode(".tiff", np.ones((20, 20, 3), np.float32))[1].tobytes()
    )
    with pytest.raises(UnreadableImageError, match="float32 pixels; expected 8 or 16 bits"):
        list(ImageFolderSource(tmp_path, CONFIG))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tiff", ".webp"])
@pytest.mark.parametrize("share", [0.0, 0.6])
def test_a_truncated_image_is_an_error_that_names_it(tmp_path: Path, suffix: str, share: float) -> None:
    write(tmp_path / "0.png", picture(0))
    path = tmp_path / f"1{suffix}"
    write(path, picture(1))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    iterator = iter(ImageFolderSource(tmp_path, CONFIG))
    assert next(iterator).index == 0
    with pytest.raises(UnreadableImageError, match=path.name.replace(".", r"\.")):
        next(iterator)


def test_different_sizes_are_an_error_that_names_both(tmp_path: Path) -> None:
    write(tmp_path / "first.png", picture(0))
    write(tmp_path / "other.png", picture(0, 96, 160))
    with pytest.raises(MixedImageSizesError, match=r"first\.png and other\.png.*96x160.*160x96"):
        list(ImageFolderSource(tmp_path, CONFIG))


def test_folders_without_images(tmp_path: Path) -> None:
    with pytest.raises(NoFramesError, match=r"no files; expected files with \.jpg, \.jpeg"):
        ImageFolderSource(tmp_path, CONFIG)
    (tmp_path / "clip.mov").write_bytes(b"")
    with pytest.raises(NoFramesError, match=r"1 other file.*\.mov"):
        ImageFolderSource(tmp_path, CONFIG)
    with pytest.raises(InputNotFoundError):
        ImageFolderSource(tmp_path / "nowhere", CONFIG)


def test_a_folder_whose_images_lie_deeper_says_where(tmp_path: Path) -> None:
    (tmp_path / "fox" / "images").mkdir(parents=True)
    (tmp_path / "fox" / "transforms.json").write_text("{}")
    write(tmp_path / "fox" / "images" / "1.png", picture(0))
    with pytest.raises(NoFramesError, match=r"There are images in .*fox/images: give that"):
        ImageFolderSource(tmp_path / "fox", CONFIG)


def test_images_are_named_rather_than_a_run_beside_them(tmp_path: Path) -> None:
    for name in ("images", "a_run"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "1.png", picture(0))
    for name in ("run.json", "journal.jsonl"):
        (tmp_path / "a_run" / name).write_text("{}")
    with pytest.raises(NoFramesError, match=r"There are images in .*/images: give that"):
        ImageFolderSource(tmp_path, CONFIG)
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(NoFramesError, match=r"There is a run in it: da3stream info .*/a_run"):
        ImageFolderSource(tmp_path, CONFIG)


def test_a_single_image_is_a_source_of_one_frame(tmp_path: Path) -> None:
    write(tmp_path / "a.png", picture(0))
    write(tmp_path / "b.png", picture(1))
    frames = list(ImageFolderSource(tmp_path / "b.png", CONFIG))
    assert [frame.name for frame in frames] == ["b.png"]


def write_series(folder: Path, moments: list[tuple[str, str] | None], suffix: str = ".jpg") -> None:
    for index, moment in enumerate(moments):
        write(folder / f"{index}{suffix}", picture(index), None if moment is None else exif(1, *moment))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_exif_times_are_used_when_all_have_them(tmp_path: Path, suffix: str) -> None:
    moments = [("2024:02:29 23:59:59", "25"), ("2024:02:29 23:59:59", "75"), ("2024:03:01 00:00:01", "")]
    write_series(tmp_path, moments, suffix)  # type: ignore[arg-type]
    source = ImageFolderSource(tmp_path, CONFIG)
    assert not source.timestamps_are_synthetic
    times_s = [frame.timestamp_s for frame in source]
    assert times_s == [1709251199.25, 1709251199.75, 1709251201.0]  # 1709251200 = 2024-03-01 00:00:00 UTC
    selected = ImageFolderSource(tmp_path, SourceConfig(start=0.5, end=1.0, resolution=84))
    assert [frame.source_index for frame in selected] == [1]
    thinned = ImageFolderSource(tmp_path, SourceConfig(fps=1, resolution=84))
    assert [frame.source_index for frame in thinned] == [0, 2]


@pytest.mark.parametrize(
    "moments",
    [
        [("2024:01:01 00:00:00", ""), None],
        [("2024:01:01 00:00:00", ""), ("2024:01:01 00:00:00", "")],
        [("2024:01:01 00:00:01", ""), ("2024:01:01 00:00:00", "")],
        [("0000:00:00 00:00:00", ""), ("2024:01:01 00:00:00", "")],
    ],
)
def test_times_are_made_up_when_one_is_missing_or_they_do_not_increase(
    tmp_path: Path, moments: list[tuple[str, str] | None]
) -> None:
    write_series(tmp_path, moments)
    source = ImageFolderSource(tmp_path, SourceConfig(fps=4, resolution=84))
    assert source.timestamps_are_synthetic
    assert [frame.timestamp_s for frame in source] == [0, 0.25]


def test_selection_of_images_without_times(tmp_path: Path) -> None:
    write_series(tmp_path, [None] * 6, ".png")
    every = ImageFolderSource(tmp_path, SourceConfig(every=2, max_frames=2, resolution=84))
    assert [(frame.source_index, frame.timestamp_s) for frame in every] == [(0, 0), (2, 2)]
    timed = ImageFolderSource(tmp_path, SourceConfig(fps=2, start=0.5, end=2, resolution=84))
    assert [(frame.source_index, frame.timestamp_s) for frame in timed] == [(1, 0.5), (2, 1.0), (3, 1.5)]
    with pytest.raises(NoFramesError, match="selection leaves no image"):
        list(ImageFolderSource(tmp_path, SourceConfig(fps=2, start=50, resolution=84)))
    with pytest.raises(ConfigError, match="need times"):
        list(ImageFolderSource(tmp_path, SourceConfig(start=1, resolution=84)))


def test_identity_depends_on_names_contents_and_selection(tmp_path: Path) -> None:
    write_series(tmp_path, [None] * 3, ".png")
    identity = ImageFolderSource(tmp_path, CONFIG).identity()
    assert ImageFolderSource(tmp_path, CONFIG).identity() == identity
    assert ImageFolderSource(tmp_path, SourceConfig(resolution=84, every=2)).identity() != identity
    assert ImageFolderSource(tmp_path, SourceConfig(resolution=84, fps=2)).identity() != identity
    (tmp_path / "2.png").rename(tmp_path / "3.png")
    renamed = ImageFolderSource(tmp_path, CONFIG).identity()
    assert renamed != identity
    write(tmp_path / "3.png", picture(9))
    assert ImageFolderSource(tmp_path, CONFIG).identity() != renamed


def test_motion_drops_repeated_images_and_says_so(tmp_path: Path) -> None:
    for index, number in enumerate([0, 4, 8, 8, 8, 8, 12, 16]):
        write(tmp_path / f"{index}.png", picture(number))
    source = ImageFolderSource(tmp_path, SourceConfig(select="motion", resolution=84))
    assert source.size_hint() == 8
    for _ in range(2):
        assert [(f.index, f.source_index) for f in source] == [(0, 0), (1, 1), (2, 2), (3, 6), (4, 7)]
        (said,) = source.warnings
        assert said.startswith("selected 5 of 8 frames by motion")
    assert source.identity() != ImageFolderSource(tmp_path, CONFIG).identity()
    limited = ImageFolderSource(tmp_path, SourceConfig(select="motion", max_frames=4, resolution=84))
    assert [frame.source_index for frame in limited] == [0, 1, 2, 6]
    assert limited.size_hint() == 4
