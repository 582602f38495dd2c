"""`da3stream intrinsics`"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from da3stream.cli import cli, intrinsics
from da3stream.errors import ConfigError, RunExistsError
from da3stream.source.calibration import read_calibration
from da3stream.source.focal_length import QUICKTIME_KEY
from tests.source.clips import encode_video
from tests.source.test_focal_length import meta, with_track_metadata, write_photo
from tests.source.test_image_folder import picture, write


def exif_focal(millimetres: int) -> bytes:
    """An EXIF block with FocalLengthIn35mmFilm."""
    import struct

    root = struct.pack("<HHII", 0x8769, 4, 1, 8 + 2 + 12 + 4)
    folder = struct.pack("<HHIHH", 0xA405, 3, 1, millimetres, 0)
    end = struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<IH", 8, 1) + root + end + struct.pack("<H", 1) + folder + end


def run(*arguments: object) -> str:
    done = CliRunner().invoke(cli, ["intrinsics", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_exif_tells_k_and_the_file_reads_back(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg", picture(0), exif_focal(26))
    said = run(tmp_path / "a.jpg", "-o", tmp_path / "K.txt")
    focal = 26 / np.hypot(36, 24) * np.hypot(160, 96)
    assert f"{focal:.2f} {focal:.2f} 80.00 48.00" in said
    assert "the EXIF data of a.jpg" in said
    np.testing.assert_allclose(
        np.loadtxt(tmp_path / "K.txt"), [[focal, 0, 79.5], [0, focal, 47.5], [0, 0, 1]], rtol=1e-12
    )
    assert read_calibration(tmp_path / "K.txt").camera.numbers == pytest.approx((focal, focal, 80, 48))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["K.txt", "a.jpg"]


def test_an_older_file_is_kept_unless_asked(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg", picture(0), exif_focal(26))
    (tmp_path / "K.txt").write_text("mine")
    with pytest.raises(RunExistsError, match="--overwrite"):
        run(tmp_path / "a.jpg", "-o", tmp_path / "K.txt")
    assert (tmp_path / "K.txt").read_text() == "mine"
    run(tmp_path / "a.jpg", "-o", tmp_path / "K.txt", "--overwrite")
    assert (tmp_path / "K.txt").read_text() != "mine"


def test_one_image_without_exif_needs_a_network(tmp_path: Path) -> None:
    write(tmp_path / "a.png", picture(0))
    with pytest.raises(ConfigError, match=r"so few images; got 1.*--model da3-base"):
        run(tmp_path / "a.png")


def test_the_number_of_frames_has_a_default() -> None:
    assert {p.name: p.default for p in intrinsics.command.params}["frames"] == intrinsics.DEFAULT_FRAMES


@pytest.mark.data
@pytest.mark.slow
def test_fox_is_estimated_within_five_percent(shared: Path, tmp_path: Path) -> None:
    for path in sorted((shared / "data" / "fox" / "images").iterdir())[:12]:
        (tmp_path / path.name).symlink_to(path)
    said = json.loads(run(tmp_path, "--json"))
    assert (said["width"], said["height"]) == (1080, 1920)
    assert abs(said["fx"] / 1375.5 - 1) < 0.05
    assert said["is_sure"]


def test_a_cropped_photo_is_estimated_with_a_warning(tmp_path: Path) -> None:
    """One image alone is too little for that."""
    write_photo(tmp_path / "a.jpg", 26, size=(160, 160), taken_at=(4000, 3000))
    done = CliRunner().invoke(cli, ["intrinsics", str(tmp_path / "a.jpg")])
    assert isinstance(done.exception, ConfigError)
    assert "warning: a.jpg is 160 x 160 pixels and was taken at 4000 x 3000" in done.output


def test_quicktime_metadata_tell_k_of_a_video(tmp_path: Path) -> None:
    video = encode_video(tmp_path / "walk.mov", frames=3)
    with_track_metadata(video, meta(QUICKTIME_KEY, b"26", 1))
    said = json.loads(run(video, "--json"))
    assert said["fx"] == pytest.approx(26 / np.hypot(36, 24) * np.hypot(160, 96))
    assert (said["width"], said["cx"]) == (160, 80)
    assert said["origin"] == "the QuickTime metadata of walk.mov, to some percent"
