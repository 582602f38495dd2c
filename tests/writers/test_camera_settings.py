"""K.txt, orbslam3.yaml and kalibr_imucam_chain.yaml, read by others and by our own readers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from da3stream.errors import ConfigError
from da3stream.geometry.camera import Camera
from da3stream.geometry.lens import LensCamera
from da3stream.source.calibration import read_calibration
from da3stream.writers import create_writers

from .plane_scene import HEIGHT, INTRINSICS, ORIGINAL, WIDTH, blocks_of, write

NAMES = {"k": "K.txt", "orbslam3": "orbslam3.yaml", "openvins": "kalibr_imucam_chain.yaml"}
CAMERA = Camera.from_matrix(INTRINSICS, WIDTH, HEIGHT).resized(*ORIGINAL)
LENSES = [
    LensCamera.of((1600.5, 1601.0, 955.25, 642.0), distortion)
    for distortion in ("radtan:-0.1,0.02,0.001,-1e-05", "equidistant:0.01,-0.002,0.0,0.0")
]


def written(make_context, outputs, name: str, lens: LensCamera | None = None) -> Path:
    (writer,) = create_writers([name], replace(make_context(frames=6), lens=lens))
    write(writer, blocks_of(6, 2))
    return outputs.root / NAMES[name]


@pytest.mark.parametrize("name", NAMES)
def test_our_reader_gets_the_camera_back(make_context, outputs, name):
    found = read_calibration(written(make_context, outputs, name))
    expected = (CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy)
    assert found.camera.numbers == pytest.approx(expected, rel=1e-14)
    assert found.camera.distortion is None
    assert found.size == (None if name == "k" else ORIGINAL)


@pytest.mark.parametrize("name", ["orbslam3", "openvins"])
@pytest.mark.parametrize("lens", LENSES)
def test_settings_are_of_the_input_with_its_distortion(make_context, outputs, name, lens):
    found = read_calibration(written(make_context, outputs, name, lens))
    assert found.camera == lens
    assert found.size == ORIGINAL


def test_k_is_that_of_the_undistorted_images_as_numpy_reads_it(make_context, outputs):
    matrix = np.loadtxt(written(make_context, outputs, "k", LENSES[0]))
    shift = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    np.testing.assert_allclose(matrix + shift, CAMERA.matrix(), rtol=1e-14)


@pytest.mark.parametrize("lens", [None, *LENSES])
def test_opencv_reads_what_orbslam3_asks_it_for(make_context, outputs, lens):
    """ORB-SLAM3 takes a real number that is written like an integer for a mistake, and ends."""
    storage = cv2.FileStorage(str(written(make_context, outputs, "orbslam3", lens)), cv2.FILE_STORAGE_READ)
    is_fisheye = lens is not None and lens.distortion.model == "equidistant"
    assert storage.getNode("File.version").string() == "1.0"
    assert storage.getNode("Camera.type").string() == ("KannalaBrandt8" if is_fisheye else "PinHole")
    coefficients = ("k1", "k2", "k3", "k4") if is_fisheye else ("k1", "k2", "p1", "p2")
    reals = [f"Camera1.{name}" for name in ("fx", "fy", "cx", "cy", *coefficients)]
    reals += ["ORBextractor.scaleFactor", "Viewer.KeyFrameSize", "Viewer.PointSize", "Viewer.ViewpointF"]
    assert all(storage.getNode(name).isReal() for name in reals)
    integers = ("Camera.width", "Camera.height", "Camera.fps", "Camera.RGB", "ORBextractor.nFeatures")
    assert all(storage.getNode(name).isInt() for name in integers)
    assert storage.getNode("Camera.fps").real() == 30


@pytest.mark.parametrize("lens", [None, *LENSES])
def test_opencv_and_yaml_read_the_camchain(make_context, outputs, lens):
    path = written(make_context, outputs, "openvins", lens)
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)  # its nodes live as long as it does
    node = storage.getNode("cam0")
    theirs = yaml.safe_load(path.read_text().removeprefix("%YAML:1.0\n"))["cam0"]
    read = [node.getNode("intrinsics").at(position).real() for position in range(4)]
    assert read == theirs["intrinsics"]
    assert node.getNode("distortion_model").string() == theirs["distortion_model"]
    assert node.getNode("T_imu_cam").size() == len(theirs["T_imu_cam"]) == 4
    assert theirs["resolution"] == list(ORIGINAL)


def test_a_camchain_has_no_place_for_k3(make_context, outputs):
    lens = LensCamera.of((1600.5, 1601.0, 955.25, 642.0), "radtan:0.1,0,0,0,0.01")
    with pytest.raises(ConfigError, match="no place for k3"):
        create_writers(["openvins"], replace(make_context(frames=2), lens=lens))
    assert outputs.pending() == []
    found = read_calibration(written(make_context, outputs, "orbslam3", lens))
    assert found.camera == lens


def test_cameras_json_says_what_was_undistorted(make_context, outputs):
    for lens in (None, LENSES[0]):
        (writer,) = create_writers(["cameras"], replace(make_context(frames=2), lens=lens))
        write(writer, blocks_of(2))
        said = json.loads((outputs.root / "cameras.json").read_text())["distortion"]
        if lens is None:
            assert said is None
        else:
            assert said["model"] == "radtan"
            assert said["coefficients"] == {"k1": -0.1, "k2": 0.02, "p1": 0.001, "p2": -1e-05}
            assert said["given_camera"] == {"fx": 1600.5, "fy": 1601.0, "cx": 955.25, "cy": 642.0}
            assert said["images"].startswith("undistorted")
