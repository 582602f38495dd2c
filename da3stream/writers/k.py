"""K.txt: the camera matrix."""

from __future__ import annotations

from da3stream.geometry.camera import Camera
from da3stream.writers.shared_camera import SharedCameraWriter, opencv_numbers


class KWriter(SharedCameraWriter):
    """Three rows of three numbers, in pixels of the user's images as OpenCV counts.

    There the centre of the top-left one is (0, 0), so cx and cy are 0.5 less than in cameras.json. If
    distortion was given, it is the camera of the undistorted images, as in colmap/images.
    """

    file = "K.txt"

    def text(self, camera: Camera) -> str:
        return k_text(camera)


def k_text(camera: Camera) -> str:
    """K.txt of a camera in our pixels."""
    fx, fy, cx, cy = opencv_numbers(camera)
    return f"{fx} 0.0 {cx}\n0.0 {fy} {cy}\n0.0 0.0 1.0\n"
