"""From a calibration file to the numbers that a run journals."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from da3stream import Config, load_config
from da3stream.errors import ConfigError, FormatError
from da3stream.source.known_camera import check_undistorted, with_known_camera

from .clips import HEIGHT, WIDTH, encode_video

TRANSFORMS = {"fl_x": 100.0, "cx": 41.0, "cy": 23.0, "w": 80, "h": 48, "k1": 0.1}


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    path = tmp_path / "transforms.json"
    path.write_text(json.dumps(TRANSFORMS))
    return path


@pytest.fixture(params=["video", "folder"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "video":
        return encode_video(tmp_path / "clip.mp4", frames=2)
    folder = tmp_path / "images"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    return folder


def test_a_file_becomes_numbers_at_the_size_of_the_input(calibration: Path, source: Path) -> None:
    config = with_known_camera(load_config(None, {"intrinsics": str(calibration)}), source)
    assert config.intrinsics == (200.0, 200.0, 82.0, 46.0)
    assert config.distortion == "radtan:0.1,0.0,0.0,0.0"
    assert str(calibration) not in config.model_dump_json()
    assert with_known_camera(config, source) == config
    assert Config(**config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("given", "expected"),
    [("none", None), ("0,0,0,0", None), ("1,2,3,4", "radtan:1.0,2.0,3.0,4.0")],
)
def test_distortion_wins_over_the_file(
    calibration: Path, source: Path, given: str, expected: str | None
) -> None:
    options = {"intrinsics": str(calibration), "distortion": given}
    assert with_known_camera(load_config(None, options), source).distortion == expected


def test_the_input_is_not_opened_for_numbers() -> None:
    config = load_config(None, {"intrinsics": "1,2,3,4"})
    assert with_known_camera(config, "rtsp://nobody.invalid/stream") is config


def test_errors_name_the_file_or_both_sizes(tmp_path: Path, source: Path) -> None:
    with pytest.raises(FormatError, match=r"no calibration file .*; expected fx,fy,cx,cy"):
        with_known_camera(load_config(None, {"intrinsics": str(tmp_path / "K.txt")}), source)
    (tmp_path / "c.txt").write_text("1 PINHOLE 640 480 500 500 320 240\n")
    with pytest.raises(ConfigError, match="640x480 in the file, 160x96 in the input"):
        with_known_camera(load_config(None, {"intrinsics": str(tmp_path / "c.txt")}), source)


def test_of_a_pipe_the_size_is_not_known(calibration: Path, tmp_path: Path) -> None:
    config = load_config(None, {"intrinsics": str(calibration)})
    with pytest.raises(ConfigError, match=r"of 80x48 images\. .*--intrinsics 100,100,41,23 --distortion rad"):
        with_known_camera(config, "-")
    (tmp_path / "K.txt").write_text("100 0 40\n0 100 23\n0 0 1\n")
    config = load_config(None, {"intrinsics": str(tmp_path / "K.txt")})
    assert with_known_camera(config, "-").intrinsics == (100, 100, 40.5, 23.5)


def test_a_source_object_must_undistort_by_itself() -> None:
    check_undistorted(object(), load_config(None, {"intrinsics": "1,2,3,4"}))
    with pytest.raises(ConfigError, match="taken as they are"):
        check_undistorted(object(), load_config(None, {"intrinsics": "1,2,3,4,0.1,0,0,0"}))
