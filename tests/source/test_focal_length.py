"""Focal lengths that photographs and videos know."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from da3stream.source.focal_length import QUICKTIME_KEY, exif_focal, quicktime_focal_px
from da3stream.source.quicktime_metadata import quicktime_items

from .clips import encode_video


def write_photo(
    path: Path,
    equivalent_mm: int | None,
    size: tuple[int, int] = (60, 40),
    taken_at: tuple[int, int] | None = None,
) -> Path:
    """A grey image; in the EXIF folder 0x8769 FocalLengthIn35mmFilm (0xA405), and the size it was taken at
    (PixelXDimension 0xA002, PixelYDimension 0xA003)."""
    image = np.full((size[1], size[0], 3), 90, dtype=np.uint8)
    if equivalent_mm is None:
        encoded = cv2.imencode(path.suffix, image)[1]
    else:
        entry, end = struct.Struct("<HHII"), struct.pack("<I", 0)
        root = struct.pack("<H", 1) + entry.pack(0x8769, 4, 1, 26) + end
        entries = [entry.pack(0xA002 + axis, 4, 1, side) for axis, side in enumerate(taken_at or ())]
        entries.append(entry.pack(0xA405, 3, 1, equivalent_mm))
        folder = struct.pack("<H", len(entries)) + b"".join(entries) + end
        block = np.frombuffer(b"II*\0" + struct.pack("<I", 8) + root + folder, np.uint8)
        encoded = cv2.imencodeWithMetadata(path.suffix, image, [cv2.IMAGE_METADATA_EXIF], [block])[1]
    path.write_bytes(encoded.tobytes())
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_the_35_mm_equivalent_compares_diagonals(tmp_path: Path, suffix: str) -> None:
    photo = write_photo(tmp_path / f"a{suffix}", 28)
    # A 3:2 image has the shape of the film, whose 36 mm are its width.
    assert exif_focal(photo, 3600, 2400).focal_px == pytest.approx(2800)
    assert exif_focal(photo, 2400, 3600).focal_px == pytest.approx(2800)
    assert exif_focal(photo, 4000, 3000).focal_px == pytest.approx(28 * 5000 / math.hypot(36, 24))


@pytest.mark.parametrize("equivalent_mm", [None, 0])
def test_none_where_it_is_unknown(tmp_path: Path, equivalent_mm: int | None) -> None:
    found = exif_focal(write_photo(tmp_path / "a.jpg", equivalent_mm), 3600, 2400)
    assert (found.focal_px, found.distrust) == (None, None)


@pytest.mark.parametrize(
    ("size", "is_taken"),
    [
        ((3600, 2400), True),
        ((2400, 3600), True),  # turned upright
        ((900, 600), True),  # resized
        ((899, 600), True),
        ((2400, 2400), False),
        ((3600, 2025), False),
    ],
)
def test_a_photo_of_which_something_was_cut_off_is_not_believed(
    tmp_path: Path, size: tuple[int, int], is_taken: bool
) -> None:
    found = exif_focal(write_photo(tmp_path / "a.jpg", 28, taken_at=(3600, 2400)), *size)
    assert (found.focal_px is not None) == (found.distrust is None) == is_taken
    if found.focal_px is not None:
        assert found.focal_px == pytest.approx(2800 * max(size) / 3600, rel=1e-3)
    if found.distrust is not None:
        assert found.distrust.startswith(
            f"a.jpg is {size[0]} x {size[1]} pixels and was taken at 3600 x 2400"
        )


# Videos ---------------------------------------------------------------------------------------


def atom(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def meta(key: str, value: bytes, value_kind: int) -> bytes:
    """A `meta` atom as Apple's specification draws it, with one item."""
    handler = atom(b"hdlr", bytes(8) + b"mdta" + bytes(13))
    keys = atom(b"keys", struct.pack(">II", 0, 1) + atom(b"mdta", key.encode()))
    item = atom(struct.pack(">I", 1), atom(b"data", struct.pack(">II", value_kind, 0) + value))
    return atom(b"meta", handler + keys + atom(b"ilst", item))


def with_track_metadata(video: Path, added: bytes) -> Path:
    """The video with an atom more in its first track. Its `moov` is the last atom: no offset changes."""
    content = video.read_bytes()
    at = content.rindex(b"moov") - 4
    assert at + struct.unpack(">I", content[at : at + 4])[0] == len(content)
    track = content.index(b"trak", at) - 4
    end = track + struct.unpack(">I", content[track : track + 4])[0]
    grown = bytearray(content[:end] + added + content[end:])
    for place in (at, track):
        (size,) = struct.unpack(">I", grown[place : place + 4])
        grown[place : place + 4] = struct.pack(">I", size + len(added))
    video.write_bytes(grown)
    return video


def test_what_pyav_writes_into_a_container_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.mov"
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata[QUICKTIME_KEY] = "26"
        container.metadata["com.apple.quicktime.make"] = "Apple"
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode(None))
    assert quicktime_items(path)["com.apple.quicktime.make"] == "Apple"
    assert quicktime_focal_px(path, 1920, 1080) == pytest.approx(
        26 / math.hypot(36, 24) * math.hypot(1920, 1080)
    )


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (b"26", 1),
        (b"26.00mm", 1),
        (struct.pack(">I", 26), 21),
        (struct.pack(">H", 26), 22),
        (struct.pack(">f", 26), 23),
        (struct.pack(">d", 26), 24),
    ],
)
def test_telephones_say_it_in_the_track_and_as_a_number(tmp_path: Path, value: bytes, kind: int) -> None:
    video = with_track_metadata(encode_video(tmp_path / "a.mov", frames=3), meta(QUICKTIME_KEY, value, kind))
    assert [*quicktime_items(video)] == [QUICKTIME_KEY]
    assert quicktime_focal_px(video, 360, 240) == pytest.approx(260)
    with av.open(str(video)) as container:  # it still is a video
        assert len(list(container.decode(video=0))) == 3


def test_none_where_no_container_says_it(tmp_path: Path) -> None:
    assert quicktime_focal_px(encode_video(tmp_path / "a.mp4", frames=2), 160, 96) is None
    assert quicktime_focal_px(encode_video(tmp_path / "a.mkv", frames=2), 160, 96) is None
    zero = with_track_metadata(encode_video(tmp_path / "a.mov", frames=2), meta(QUICKTIME_KEY, b"0", 1))
    assert quicktime_focal_px(zero, 160, 96) is None


def test_damage_anywhere_is_no_error(tmp_path: Path) -> None:
    video = with_track_metadata(encode_video(tmp_path / "a.mov", frames=2), meta(QUICKTIME_KEY, b"26", 1))
    content, random = bytearray(video.read_bytes()), np.random.default_rng(0)
    start = content.rindex(b"moov") - 4
    for _ in range(300):
        damaged = bytearray(content)
        for place in random.integers(start, len(content), 4):
            damaged[place] = random.integers(256)
        video.write_bytes(damaged[: random.integers(start, len(content) + 1)])
        quicktime_items(video)
