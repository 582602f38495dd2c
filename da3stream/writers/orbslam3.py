"""orbslam3.yaml: settings for ORB-SLAM3."""

from __future__ import annotations

from da3stream.geometry.camera import Camera
from da3stream.writers.shared_camera import SharedCameraWriter, opencv_numbers
from da3stream.writers.text import plain_decimal

_TYPES = {"radtan": "PinHole", "equidistant": "KannalaBrandt8"}
_REST = """
# What ORB-SLAM3's own examples have.
ORBextractor.nFeatures: 1200
ORBextractor.scaleFactor: 1.2
ORBextractor.nLevels: 8
ORBextractor.iniThFAST: 20
ORBextractor.minThFAST: 7

Viewer.KeyFrameSize: 0.05
Viewer.KeyFrameLineWidth: 1.0
Viewer.GraphLineWidth: 0.9
Viewer.PointSize: 2.0
Viewer.CameraSize: 0.08
Viewer.CameraLineWidth: 3.0
Viewer.ViewpointX: 0.0
Viewer.ViewpointY: -0.7
Viewer.ViewpointZ: -1.8
Viewer.ViewpointF: 500.0
"""


class OrbSlam3Writer(SharedCameraWriter):
    """Monocular settings of the file version 1.0, to run ORB-SLAM3 on the same input.

    The camera is that of the input as it is, with its distortion if the run was told it. OpenCV's pixels: cx
    and cy are 0.5 less than here. Format: Calibration_Tutorial.pdf of https://github.com/UZ-SLAMLab/ORB_SLAM3
    """

    file = "orbslam3.yaml"

    def text(self, camera: Camera) -> str:
        recorded = self.as_recorded(camera)
        distortion = recorded.distortion
        values = dict(zip(("fx", "fy", "cx", "cy"), opencv_numbers(recorded), strict=True))
        # Without them ORB-SLAM3 takes images for undistorted; zeros say the same and are easily replaced.
        named = {"k1": 0.0, "k2": 0.0, "p1": 0.0, "p2": 0.0} if distortion is None else distortion.named()
        values |= {name: plain_decimal(value) for name, value in named.items()}
        lines = [
            "%YAML:1.0",
            "---",
            "# Made by da3stream for the images of its input, at their own size.",
            'File.version: "1.0"',
            f'Camera.type: "{_TYPES["radtan" if distortion is None else distortion.model]}"',
            *(f"Camera1.{name}: {value}" for name, value in values.items()),
            f"Camera.width: {camera.width}",
            f"Camera.height: {camera.height}",
            "# Of the frames that da3stream took; of a video that is fed in whole, its own.",
            f"Camera.fps: {self.frames_per_second()}",
            "Camera.RGB: 1",
        ]
        return "\n".join(lines) + "\n" + _REST
