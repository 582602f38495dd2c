"""Lens distortion, against OpenCV's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from da3stream.geometry.lens import WIDEST_HALF_ANGLE_DEG, Distortion, LensCamera

SIZE = (640, 480)
RADTAN = "radtan:-0.28,0.09,0.001,-0.0007"
RADTAN_K3 = "radtan:-0.28,0.09,0.001,-0.0007,-0.01"
PINCUSHION = "radtan:0.1,0.02,0.0,0.0"
FISHEYE = "equidistant:0.02,-0.008,0.003,-0.0005"
LENSES = [RADTAN, RADTAN_K3, PINCUSHION, FISHEYE]


def lens(distortion: str, focal: float = 400.0) -> LensCamera:
    return LensCamera.of((focal, focal + 3.0, 327.0, 236.0), distortion)


def opencv_pixels(camera: LensCamera, points: np.ndarray) -> np.ndarray:
    """Pixels as OpenCV draws points of the plane z = 1; it only multiplies, so centres do not matter."""
    rays = np.concatenate([points, np.ones((len(points), 1))], axis=1)[:, None]
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    zero = np.zeros(3)
    assert camera.distortion is not None
    coefficients = np.array(camera.distortion.coefficients)
    project = cv2.fisheye.projectPoints if camera.distortion.model == "equidistant" else None
    if project is not None:
        pixels, _ = project(rays, zero, zero, matrix, coefficients)
    else:
        pixels, _ = cv2.projectPoints(rays, zero, zero, matrix, coefficients)
    return pixels[:, 0]


@pytest.mark.parametrize("distortion", LENSES)
def test_pixels_are_those_of_opencv(distortion: str) -> None:
    points = np.random.default_rng(3).uniform(-0.9, 0.9, (500, 2))
    points[0] = 0.0
    camera = lens(distortion)
    np.testing.assert_allclose(camera.project(points), opencv_pixels(camera, points), atol=1e-9)


@pytest.mark.parametrize("distortion", LENSES)
def test_undistorted_images_have_no_black_border_and_waste_nothing(distortion: str) -> None:
    camera = lens(distortion)
    x, y = np.moveaxis(camera.pixel_map(*SIZE).astype(np.float64), -1, 0)
    # Outer corners of the outermost pixels lie half a pixel beyond their centres.
    reach = [x.min(), SIZE[0] - 1 - x.max(), y.min(), SIZE[1] - 1 - y.max()]
    assert min(reach) > -0.5
    assert min(reach) < 1.0  # one border is used to the end
    pinhole = camera.pinhole(*SIZE)
    assert (pinhole.cx, pinhole.cy) == (camera.cx, camera.cy)
    assert pinhole.fy / pinhole.fx == pytest.approx(camera.fy / camera.fx, rel=1e-12)


def test_the_map_follows_opencv_s_undistortion() -> None:
    """Our camera given to OpenCV, in its pixels, gives our map."""
    camera = lens(RADTAN)
    given = np.array([[camera.fx, 0, camera.cx - 0.5], [0, camera.fy, camera.cy - 0.5], [0, 0, 1]])
    new = camera.pinhole(*SIZE).matrix() - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
    assert camera.distortion is not None
    x, y = cv2.initUndistortRectifyMap(
        given, np.array(camera.distortion.coefficients), None, new, SIZE, cv2.CV_32FC1
    )
    np.testing.assert_allclose(camera.pixel_map(*SIZE), np.stack([x, y], axis=-1), atol=1e-3)


def test_what_a_fisheye_sees_beyond_a_plane_is_cut_off() -> None:
    """190 degrees from side to side."""
    camera = LensCamera.of((320 / np.radians(95),) * 2 + (320.0, 240.0), "equidistant:0,0,0,0")
    pinhole = camera.pinhole(*SIZE)
    corner = np.hypot(320 / pinhole.fx, 240 / pinhole.fy)
    assert np.degrees(np.arctan(corner)) == pytest.approx(WIDEST_HALF_ANGLE_DEG, abs=1e-6)


def test_no_distortion_changes_nothing() -> None:
    zero = lens("radtan:0,0,0,0").pinhole(*SIZE)
    none = lens("none").pinhole(*SIZE)
    np.testing.assert_allclose(zero.matrix(), none.matrix(), rtol=1e-7)
    assert (none.fx, none.fy) == (400.0, 403.0)


@pytest.mark.parametrize("distortion", ["radtan:900,0,0,0", "radtan:-900,0,0,0"])
def test_a_lens_that_folds_the_image_is_an_error(distortion: str) -> None:
    with pytest.raises(ValueError, match="leaves nothing of images of 640x480"):
        lens(distortion).pinhole(*SIZE)


@pytest.mark.parametrize("distortion", LENSES)
def test_text_reads_back_as_the_same(distortion: str) -> None:
    parsed = Distortion.parse(distortion)
    assert Distortion.parse(str(parsed)) == parsed
    assert list(parsed.named())[:2] == ["k1", "k2"]
    assert Distortion.parse("1,2,3,4") == Distortion(model="radtan", coefficients=(1.0, 2.0, 3.0, 4.0))


@pytest.mark.parametrize("text", ["fov:1,2,3,4", "radtan:1,2,3", "equidistant:1,2,3,4,5", "radtan:a,b,c,d"])
def test_text_of_no_lens_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"distortion model|coefficients|convert"):
        Distortion.parse(text)
