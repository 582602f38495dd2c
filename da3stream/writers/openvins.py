"""kalibr_imucam_chain.yaml: the camera as Kalibr writes it and OpenVINS reads it."""

from __future__ import annotations

from da3stream.errors import ConfigError
from da3stream.geometry.camera import Camera
from da3stream.writers.base import WriterContext
from da3stream.writers.shared_camera import SharedCameraWriter, opencv_numbers
from da3stream.writers.text import plain_decimal

_COEFFICIENTS = 4


class OpenVinsWriter(SharedCameraWriter):
    """A camchain of one camera, to run OpenVINS on the same input.

    The camera is that of the input as it is, with its distortion if the run was told it. OpenCV's pixels: cx
    and cy are 0.5 less than here. Where the camera sits on the IMU is not known: T_imu_cam is the identity
    and must be replaced. Format: https://docs.openvins.com/gs-calibration.html

    Raises (the constructor):
        ConfigError: the distortion has a k3, which the format has no place for.
    """

    file = "kalibr_imucam_chain.yaml"

    def __init__(self, context: WriterContext) -> None:
        distortion = None if context.lens is None else context.lens.distortion
        if distortion is not None and any(distortion.coefficients[_COEFFICIENTS:]):
            raise ConfigError(
                "a Kalibr camchain has no place for k3 of the distortion",
                got=distortion,
                hint="Export without `openvins`; `orbslam3` has it.",
            )
        super().__init__(context)

    def text(self, camera: Camera) -> str:
        recorded = self.as_recorded(camera)
        distortion = recorded.distortion
        coefficients = (0.0,) * _COEFFICIENTS if distortion is None else distortion.coefficients
        lines = [
            "%YAML:1.0",
            "---",
            "# Made by da3stream for the images of its input, at their own size.",
            "cam0:",
            "  # Not known to da3stream: replace it by the pose of the camera on your IMU.",
            "  T_imu_cam:",
            *(f"    - [{', '.join(str(float(row == column)) for column in range(4))}]" for row in range(4)),
            "  cam_overlaps: []",
            "  camera_model: pinhole",
            f"  distortion_coeffs: [{', '.join(map(plain_decimal, coefficients[:_COEFFICIENTS]))}]",
            f"  distortion_model: {'radtan' if distortion is None else distortion.model}",
            f"  intrinsics: [{', '.join(opencv_numbers(recorded))}]",
            f"  resolution: [{camera.width}, {camera.height}]",
            "  rostopic: /cam0/image_raw",
            "  timeshift_cam_imu: 0.0",
        ]
        return "\n".join(lines) + "\n"
