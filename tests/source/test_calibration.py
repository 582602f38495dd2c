"""Calibration files of every format: what they say, and one clear error for everything that may be wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from da3stream.errors import ConfigError, FormatError
from da3stream.geometry.lens import Distortion
from da3stream.source.calibration import Calibration, read_calibration

COLMAP = "# Camera list\n#   CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]\n1 {model} 640 480 {parameters}\n"
ORBSLAM3 = """%YAML:1.0

#------------------------
File.version: "1.0"
Camera.type: "PinHole"
Camera1.fx: 458.654
Camera1.fy: 457.296
Camera1.cx: 367.215
Camera1.cy: 248.375
Camera1.k1: -0.28340811
Camera1.k2: 7e-2
Camera1.p1: 0.00019359
Camera1.p2: 1.76187114e-05
Camera.width: 752
Camera.height: 480
Camera.newWidth: 600
Camera.newHeight: 350
Camera.fps: 20
IMU.T_b_c1: !!opencv-matrix
   rows: 1
   cols: 2
   dt: f
   data: [0.0148655429818,
         -0.999880929698]
"""
KANNALA = """%YAML:1.0
---
Camera.type: "KannalaBrandt8"
Camera.fx: 190.97
Camera.fy: 190.97
Camera.cx: 254.93
Camera.cy: 256.89
Camera.k1: 0.0034
Camera.k2: 0.0007
Camera.k3: -0.002
Camera.k4: 0.0002
Camera.width: 512
Camera.height: 512
"""
KALIBR = """cam0:
  cam_overlaps: []
  camera_model: pinhole
  distortion_coeffs: [-0.2834, 0.0739, 0.00019, 1.76e-05]
  distortion_model: radtan
  intrinsics: [458.654, 457.296, 367.215, 248.375]
  resolution: [752, 480]
  rostopic: /cam0/image_raw
"""
TRANSFORMS = {
    "fl_x": 500.0,
    "fl_y": 501.0,
    "cx": 320.5,
    "cy": 239.0,
    "w": 640,
    "h": 480.0,
    "k1": 0.1,
    "frames": [],
}
UNITY = {"verticalFieldOfView": 60.0, "imageWidth": 1920, "imageHeight": 1080}
K = "500 0 320\n0 501 240\n0 0 1\n"


def read(tmp_path: Path, content: object, **keywords: object) -> Calibration:
    path = tmp_path / "calibration"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_calibration(path, **keywords)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "parameters", "numbers", "distortion"),
    [
        ("SIMPLE_PINHOLE", "500 320 240", (500, 500, 320, 240), None),
        ("PINHOLE", "500 501 320 240", (500, 501, 320, 240), None),
        ("SIMPLE_RADIAL", "500 320 240 0.1", (500, 500, 320, 240), "radtan:0.1,0,0,0"),
        ("RADIAL", "500 320 240 0.1 -0.2", (500, 500, 320, 240), "radtan:0.1,-0.2,0,0"),
        ("OPENCV", "500 501 320 240 .1 .2 .3 .4", (500, 501, 320, 240), "radtan:.1,.2,.3,.4"),
        ("OPENCV", "500 501 320 240 0 0 0 0", (500, 501, 320, 240), None),
        ("OPENCV_FISHEYE", "500 501 320 240 .1 .2 .3 .4", (500, 501, 320, 240), "equidistant:.1,.2,.3,.4"),
        ("OPENCV_FISHEYE", "500 501 320 240 0 0 0 0", (500, 501, 320, 240), "equidistant:0,0,0,0"),
        ("RADIAL_FISHEYE", "500 320 240 .1 .2", (500, 500, 320, 240), "equidistant:.1,.2,0,0"),
    ],
)
def test_colmap_as_pycolmap_sees_it(
    tmp_path: Path, model: str, parameters: str, numbers: tuple[float, ...], distortion: str | None
) -> None:
    """Pixel centres at 0.5: nothing is added. Where points fall is what pycolmap says."""
    import pycolmap

    found = read(tmp_path, COLMAP.format(model=model, parameters=parameters))
    assert found.camera.numbers == numbers
    assert found.camera.distortion == (None if distortion is None else Distortion.parse(distortion))
    assert (found.size, found.format) == ((640, 480), "COLMAP cameras.txt")
    camera = pycolmap.Camera(
        model=model, width=640, height=480, params=[float(part) for part in parameters.split()]
    )
    points = np.random.default_rng(1).uniform(-0.3, 0.3, (20, 2))
    rays = np.concatenate([points, np.ones((20, 1))], axis=1)
    np.testing.assert_allclose(found.camera.project(points), camera.img_from_cam(rays), atol=1e-9)


def test_orbslam3(tmp_path: Path) -> None:
    found = read(tmp_path, ORBSLAM3)
    assert found.camera.numbers == (458.654, 457.296, 367.715, 248.875)  # 0.5 more than in the file
    assert str(found.camera.distortion) == "radtan:-0.28340811,0.07,0.00019359,1.76187114e-05"
    assert found.size == (752, 480)  # not newWidth
    with_k3 = read(tmp_path, ORBSLAM3 + "Camera1.k3: 0.5\n")
    assert with_k3.camera.distortion is not None
    assert with_k3.camera.distortion.named()["k3"] == 0.5
    rectified = read(tmp_path, ORBSLAM3.replace("PinHole", "Rectified"))
    assert rectified.camera.distortion is None


def test_older_orbslam3_with_a_fisheye(tmp_path: Path) -> None:
    found = read(tmp_path, KANNALA)
    assert found.camera.numbers == pytest.approx((190.97, 190.97, 255.43, 257.39))
    assert str(found.camera.distortion) == "equidistant:0.0034,0.0007,-0.002,0.0002"


def test_opencv_reads_the_same_numbers(tmp_path: Path) -> None:
    found = read(tmp_path, ORBSLAM3)
    storage = cv2.FileStorage(str(tmp_path / "calibration"), cv2.FILE_STORAGE_READ)
    names = ("fx", "fy", "cx", "cy")
    theirs = [storage.getNode(f"Camera1.{name}").real() for name in names]
    assert found.camera.numbers == pytest.approx((*theirs[:2], theirs[2] + 0.5, theirs[3] + 0.5))


@pytest.mark.parametrize("head", ["", "%YAML:1.0\n\n", "%YAML:1.0\n---\n", "%YAML 1.1\n---\n"])
def test_kalibr_and_openvins(tmp_path: Path, head: str) -> None:
    found = read(tmp_path, head + KALIBR)
    assert found.camera.numbers == (458.654, 457.296, 367.715, 248.875)
    assert str(found.camera.distortion) == "radtan:-0.2834,0.0739,0.00019,1.76e-05"
    assert found.size == (752, 480)
    fisheye = read(tmp_path, head + KALIBR.replace("radtan", "equidistant"))
    assert fisheye.camera.distortion is not None
    assert fisheye.camera.distortion.model == "equidistant"


@pytest.mark.parametrize(
    ("text", "distortion"),
    [
        (K, None),
        ("# K\n[[500, 0, 320],\n [0, 501, 240],\n [0, 0, 1]]\n", None),
        ("500 0 320 0 501 240 0 0 1", None),
        ("500 501 320 240", None),
        ("5e2,501,320,240\n500,501,320,240\n", None),
        ("500 501 320 240 0.1 0 0 -0.2", "radtan:0.1,0,0,-0.2"),
    ],
)
def test_k_txt(tmp_path: Path, text: str, distortion: str | None) -> None:
    found = read(tmp_path, text)
    assert found.camera.numbers == (500, 501, 320.5, 240.5)
    assert found.camera.distortion == (None if distortion is None else Distortion.parse(distortion))
    assert (found.size, found.format) == (None, "K.txt")


@pytest.mark.parametrize(
    "text",
    [
        "P0: 500 0 320 0 0 501 240 0 0 0 1 0\nP1: 500 0 320 -379.8 0 501 240 0 0 0 1 0\nTr: 1 2 3\n",
        "500 0 320 0 0 501 240 0 0 0 1 0\n\n5e2 0 320 -379.8 0 501 240 0 0 0 1 2e-3\n",
        "P2: 500 0 320 0 0 501 240 0 0 0 1 0",
    ],
)
def test_kitti(tmp_path: Path, text: str) -> None:
    found = read(tmp_path, text)
    assert found.camera.numbers == (500, 501, 320.5, 240.5)
    assert (found.camera.distortion, found.size, found.format) == (None, None, "KITTI calib.txt")


def test_transforms(tmp_path: Path) -> None:
    found = read(tmp_path, TRANSFORMS)
    assert found.camera.numbers == (500, 501, 320.5, 239)
    assert (str(found.camera.distortion), found.size) == ("radtan:0.1,0.0,0.0,0.0", (640, 480))
    fisheye = read(tmp_path, {**TRANSFORMS, "camera_model": "OPENCV_FISHEYE", "k4": 0.2})
    assert str(fisheye.camera.distortion) == "equidistant:0.1,0.0,0.0,0.2"
    pinhole = read(tmp_path, {**TRANSFORMS, "camera_model": "PINHOLE"})
    assert pinhole.camera.distortion is None


def test_transforms_with_an_angle_only(tmp_path: Path) -> None:
    blender = {"camera_angle_x": math.pi / 2, "frames": []}
    found = read(tmp_path, blender, input_size=(800, 600))
    assert found.camera.numbers == pytest.approx((400, 400, 400, 300))
    with pytest.raises(FormatError, match=r"transforms\.json\): w and h are missing"):
        read(tmp_path, blender)


def test_transforms_with_a_camera_a_frame(tmp_path: Path) -> None:
    frame = {"file_path": "a.jpg", "fl_x": 500.0, "cx": 320.0, "cy": 240.0, "w": 640, "h": 480}
    assert read(tmp_path, {"frames": [frame, {**frame, "file_path": "b.jpg"}]}).camera.fx == 500
    with pytest.raises(FormatError, match=r"holds 2 cameras; got a\.jpg, b\.jpg"):
        read(tmp_path, {"frames": [frame, {**frame, "file_path": "b.jpg", "fl_x": 400.0}]})


@pytest.mark.parametrize(
    "fields",
    [
        UNITY,
        {"fieldOfView": 60, "width": 1920, "height": 1080},
        {"Field of View": "60", "resolution": {"x": 1920, "y": 1080}},
        {"camera": {"fov": 60, "pixelWidth": 1920, "pixelHeight": 1080}},
        {"fov_y": 60.0, "image_size": [1920, 1080]},
    ],
)
def test_unity(tmp_path: Path, fields: dict[str, object]) -> None:
    found = read(tmp_path, fields)
    focal = 540 / math.tan(math.radians(30))
    assert found.camera.numbers == pytest.approx((focal, focal, 960, 540))
    assert (found.camera.distortion, found.size) == (None, (1920, 1080))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "calibration is empty"),
        (" \n", "calibration is empty"),
        ("PK\x03\x04\0\0", "is a binary file"),
        ("hello there", "is no calibration file; expected COLMAP"),
        ("a: [1, 2", "is no valid YAML"),
        ("a: !!python/object/apply:os.system ['true']", "is no valid YAML.*python/object"),
        ("a: 1\nb: 2\n", "is YAML without a camera; got a, b"),
        ('{"a": 1}', "is JSON without a camera; got a; expected fl_x"),
        ('{"a": ', "is no valid JSON"),
        ("{}", "is JSON without a camera; got no fields"),
        # COLMAP
        (
            COLMAP.format(model="FOV", parameters="1 1 1 1 1"),
            "unknown camera model; got FOV; expected one of",
        ),
        (
            COLMAP.format(model="PINHOLE", parameters="500 320 240"),
            "has the parameters fx, fy, cx, cy; got 3",
        ),
        (
            COLMAP.format(model="PINHOLE", parameters="-1 500 320 240"),
            "focal length is not positive; got fx -1",
        ),
        (COLMAP.format(model="PINHOLE", parameters="x 500 320 240"), "fx is no number; got 'x'"),
        (COLMAP.format(model="PINHOLE", parameters="nan 500 320 240"), "fx is not finite"),
        (COLMAP.format(model="PINHOLE", parameters="500 500 700 240"), "principal point lies outside of the"),
        ("1 PINHOLE 640\n", "a line is cut short"),
        ("1 PINHOLE 0 480 500 500 320 240\n", "image size is impossible; got 0x480"),
        ("1 PINHOLE 64.5 480 500 500 32 240\n", "image size is impossible; got 64.5x480"),
        (
            "1 PINHOLE 640 480 500 500 320 240\n2 PINHOLE 640 480 600 600 320 240\n",
            "holds 2 cameras; got camera 1, camera 2; expected one",
        ),
        # ORB-SLAM3
        (ORBSLAM3.replace("Camera1.fy: 457.296\n", ""), r"ORB-SLAM3 settings\): Camera1\.fy is missing"),
        (ORBSLAM3.replace("Camera1.p1: 0.00019359\n", ""), r"Camera1\.p1 is missing"),
        (ORBSLAM3.replace("Camera.height: 480\n", ""), r"Camera\.height is missing"),
        (ORBSLAM3.replace("458.654", "abc"), r"Camera1\.fx is no number; got 'abc'"),
        (ORBSLAM3.replace("458.654", "-458.654"), "focal length is not positive"),
        (ORBSLAM3.replace("PinHole", "Omni"), r"unknown Camera\.type; got Omni"),
        (KANNALA.replace("Camera.k4: 0.0002\n", ""), r"Camera\.k4 is missing"),
        (ORBSLAM3 + "Camera2.fx: 458.0\n", "holds 2 cameras; got Camera1, Camera2"),
        # Kalibr
        (KALIBR + KALIBR.replace("cam0", "cam1"), "holds 2 cameras; got cam0, cam1"),
        (KALIBR.replace("camera_model: pinhole", "camera_model: ds"), "unknown camera_model; got ds"),
        (KALIBR.replace("model: radtan", "model: fov"), "unknown distortion_model; got fov"),
        (KALIBR.replace("[458.654, ", "["), "intrinsics is no list of 4 numbers"),
        (KALIBR.replace("[458.654", "[yes"), r"intrinsics\[0\] is no number; got True"),
        (KALIBR.replace("[752, 480]", "752"), "resolution is no list of 2 numbers"),
        (KALIBR.replace("  intrinsics", "  other"), "intrinsics is missing"),
        ("cam0: 3\n", "cam0 holds no fields"),
        # K.txt
        ("500 0 320\n0 501 240\n", "is no camera; got rows of 3, 3 numbers"),
        ("500 1 320\n0 501 240\n0 0 1\n", "the matrix has skew; got 1.0"),
        ("500 0 320\n0 501 240\n0 0 2\n", "the matrix is no camera matrix"),
        ("500 0 320\n0 -501 240\n0 0 1\n", "focal length is not positive; got fx 500, fy -501"),
        ("500 0 320\n0 a 240\n0 0 1\n", "a value in row 2 is no number; got 'a'"),
        ("500 501 320 240\n600 501 320 240\n", "holds 2 cameras; got row 1, row 2"),
        # KITTI
        ("P0: 500 0 320\n", "P0 is no projection matrix; got 3 numbers"),
        ("P0: 500 0 320 0 0 501 240 0 0 0 2 0\n", "P0 is no camera of rectified images"),
        ("P0: 500 0 320 0 0 a 240 0 0 0 1 0\n", "a value of P0 is no number; got 'a'"),
        (
            "P0: 500 0 320 0 0 501 240 0 0 0 1 0\nP2: 600 0 320 0 0 501 240 0 0 0 1 0\n",
            "holds 2 cameras; got P0, P2",
        ),
        # transforms.json
        ({"frames": []}, "no focal length; expected fl_x or camera_angle_x"),
        ({**TRANSFORMS, "fl_x": -500.0}, "focal length is not positive"),
        ({**TRANSFORMS, "fl_x": None}, "fl_x is no number; got None"),
        ({**TRANSFORMS, "camera_model": "EQUIRECTANGULAR"}, "unknown camera_model; got EQUIRECTANGULAR"),
        ({**TRANSFORMS, "k4": 0.1}, "k4 is for fisheye lenses only"),
        ({"camera_angle_x": 4.0, "w": 10, "h": 10}, "camera_angle_x is no field of view; got 4.0"),
        # Unity
        ({"fov": 190, "width": 10, "height": 10}, "vertical field of view is impossible; got 190"),
        ({"fov": "wide", "width": 10, "height": 10}, "field of view is no number; got 'wide'"),
        ({"fov": 60, "width": 10}, "size of the image is missing"),
        ({"fov": 60, "width": -10, "height": 10}, "image size is impossible"),
    ],
)
def test_one_clear_error_for_each_mistake(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        read(tmp_path, content)
    assert str(tmp_path / "calibration") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="there is no calibration file a,b"):
        read_calibration("a,b")
    with pytest.raises(FormatError, match="is a folder"):
        read_calibration(tmp_path)


def test_a_calibration_of_another_resolution_is_rescaled(tmp_path: Path) -> None:
    found = read(tmp_path, TRANSFORMS).resized(1280, 964)  # 0.4 % off
    assert found.camera.numbers == pytest.approx((1000, 501 * 964 / 480, 641, 239 * 964 / 480))
    assert found.camera.distortion == read(tmp_path, TRANSFORMS).camera.distortion


def test_a_calibration_of_another_shape_is_an_error_with_both_sizes(tmp_path: Path) -> None:
    found = read(tmp_path, TRANSFORMS)
    with pytest.raises(ConfigError, match=r"got 640x480 in the file, 1280x720 in the input.*this camera's"):
        found.resized(1280, 720)
    with pytest.raises(ConfigError, match=r"got 640x480 in the file, 480x640 in the input.*upright"):
        found.resized(480, 640)


def test_a_calibration_without_a_size_must_at_least_fit(tmp_path: Path) -> None:
    assert read(tmp_path, K).resized(640, 480).size == (640, 480)
    with pytest.raises(ConfigError, match=r"another size.*got \(320.5, 240.5\) in images of 320x240"):
        read(tmp_path, K).resized(320, 240)


@pytest.mark.data
def test_kitti_seq1(shared: Path) -> None:
    found = read_calibration(shared / "data" / "kitti_seq1" / "calib.txt")
    assert found.camera.numbers == (707.0912, 707.0912, 602.3873, 183.6104)


@pytest.mark.data
def test_fox(shared: Path) -> None:
    found = read_calibration(shared / "data" / "fox" / "transforms.json")
    assert found.camera.numbers == (1375.52, 1374.49, 554.558, 965.268)
    assert str(found.camera.distortion) == "radtan:0.0578421,-0.0805099,-0.000980296,0.00015575"
    assert found.size == (1080, 1920)
