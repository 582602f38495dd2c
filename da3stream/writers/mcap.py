"""mcap/capture.mcap: the capture as an MCAP recording with Foxglove's schemas."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import MissingDependencyError
from da3stream.geometry.camera import Camera
from da3stream.writers.base import WriterContext
from da3stream.writers.cloud import PointCloud
from da3stream.writers.pending import PendingOutputs
from da3stream.writers.sensor_frames import (
    CAMERA,
    WORLD,
    SensorFrame,
    SensorWriter,
    conventions,
    index_matrix,
    loop_segments,
)

_POINT = np.dtype([("xyz", "<f4", 3), ("red", "u1"), ("green", "u1"), ("blue", "u1"), ("alpha", "u1")])


class McapWriter(SensorWriter):
    """Protobuf messages (docs.foxglove.dev, "Schemas"), Zstandard-compressed chunks, times from the frames.

    Topics:

    - /tf: FrameTransform, `camera` (optical: x right, y down, z forward) in `world`.
    - /camera/image, /camera/calibration: CompressedImage (JPEG) and CameraCalibration, processing resolution.
    - /depth/image, /depth/calibration: RawImage 32FC1 and CameraCalibration, at the stored depth's own size.
    - /points: PointCloud in `world`, one for each block of frames, at the time of its last frame.
    - /map: SceneUpdate with the whole path and the loops, once, at the time of the first frame.

    Calibrations follow ROS: the centre of the top-left pixel is (0, 0), half a pixel less than in our other
    files. The metadata record `da3stream` says the unit and whether timestamps are synthetic.
    """

    def __init__(self, context: WriterContext) -> None:
        super().__init__(context)
        self._foxglove = _library()
        self._has_map = False
        self._pending = PendingOutputs(context.outputs)
        stream = self._pending.file("mcap/capture.mcap")
        self._mcap = self._foxglove.Writer(stream)
        self._mcap.add_metadata("da3stream", conventions(context))

    @classmethod
    def check_installed(cls) -> None:
        _library()

    def finish(self) -> None:
        self._mcap.finish()
        self._pending.commit()

    def abort(self) -> None:
        self._pending.abort()

    def _write(self, topic: str, time_ns: int, message: Any) -> None:
        self._mcap.write_message(topic, message, log_time=time_ns, publish_time=time_ns)

    def _write_frame(self, frame: SensorFrame) -> None:
        foxglove, time_ns = self._foxglove, frame.timestamp_ns
        if not self._has_map:
            self._write_map(time_ns)
        stamp = {"timestamp": self._stamp(time_ns), "frame_id": CAMERA}
        height, width = frame.depth.shape
        x, y, z, w = frame.rotation_xyzw
        pose = foxglove.FrameTransform(
            timestamp=stamp["timestamp"],
            parent_frame_id=WORLD,
            child_frame_id=CAMERA,
            translation=self._vector(frame.position),
            rotation=foxglove.Quaternion(x=x, y=y, z=z, w=w),
        )
        depth = foxglove.RawImage(
            **stamp,
            width=width,
            height=height,
            encoding="32FC1",
            step=4 * width,
            data=frame.depth.astype("<f4").tobytes(),
        )
        image = foxglove.CompressedImage(**stamp, format="jpeg", data=frame.jpeg)
        self._write("/tf", time_ns, pose)
        self._write("/camera/calibration", time_ns, self._calibration(frame.camera, stamp))
        self._write("/camera/image", time_ns, image)
        self._write("/depth/calibration", time_ns, self._calibration(frame.depth_camera, stamp))
        self._write("/depth/image", time_ns, depth)

    def _write_points(self, cloud: PointCloud, last: SensorFrame) -> None:
        self._write("/points", last.timestamp_ns, self._point_cloud(cloud, last.timestamp_ns))

    def _calibration(self, camera: Camera, stamp: dict[str, Any]) -> Any:
        intrinsics = index_matrix(camera)
        projection = np.column_stack([intrinsics, np.zeros(3)])
        return self._foxglove.CameraCalibration(
            **stamp,
            width=camera.width,
            height=camera.height,
            K=intrinsics.ravel().tolist(),
            R=np.eye(3).ravel().tolist(),
            P=projection.ravel().tolist(),
        )

    def _point_cloud(self, cloud: PointCloud, time_ns: int) -> Any:
        foxglove = self._foxglove
        points = np.zeros(len(cloud), dtype=_POINT)
        points["xyz"], points["alpha"] = cloud.points_in_world, 255
        for channel, name in enumerate(("red", "green", "blue")):
            points[name] = cloud.colors[:, channel]
        kinds = {
            **dict.fromkeys("xyz", "FLOAT32"),
            **dict.fromkeys(("red", "green", "blue", "alpha"), "UINT8"),
        }
        offsets = (0, 4, 8, 12, 13, 14, 15)
        fields = [
            foxglove.PackedElementField(
                name=name, offset=offset, type=getattr(foxglove.PackedElementField, kind)
            )
            for offset, (name, kind) in zip(offsets, kinds.items(), strict=True)
        ]
        return foxglove.PointCloud(
            timestamp=self._stamp(time_ns),
            frame_id=WORLD,
            pose=foxglove.Pose(
                position=foxglove.Vector3(), orientation=foxglove.Quaternion(x=0, y=0, z=0, w=1)
            ),
            point_stride=_POINT.itemsize,
            fields=fields,
            data=points.tobytes(),
        )

    def _write_map(self, time_ns: int) -> None:
        foxglove, self._has_map = self._foxglove, True
        kind = foxglove.LinePrimitive
        lines = [
            self._lines(kind.LINE_STRIP, self.context.positions_in_world, (1.0, 0.6, 0.1)),
            self._lines(kind.LINE_LIST, loop_segments(self.context).reshape(-1, 3), (0.1, 0.8, 0.3)),
        ]
        entities = [
            foxglove.SceneEntity(
                timestamp=self._stamp(time_ns), frame_id=WORLD, id=name, frame_locked=True, lines=[line]
            )
            for name, line in zip(("trajectory", "loops"), lines, strict=True)
        ]
        self._write("/map", time_ns, foxglove.SceneUpdate(entities=entities))

    def _lines(self, kind: Any, points: NDArray[np.float64], color: tuple[float, float, float]) -> Any:
        foxglove = self._foxglove
        red, green, blue = color
        return foxglove.LinePrimitive(
            type=kind,
            pose=foxglove.Pose(
                position=foxglove.Vector3(), orientation=foxglove.Quaternion(x=0, y=0, z=0, w=1)
            ),
            thickness=2.0,  # pixels on the screen
            scale_invariant=True,
            points=[foxglove.Point3(x=x, y=y, z=z) for x, y, z in points.tolist()],
            color=foxglove.Color(r=red, g=green, b=blue, a=1.0),
        )

    def _vector(self, vector: NDArray[np.float64]) -> Any:
        x, y, z = vector.tolist()
        return self._foxglove.Vector3(x=x, y=y, z=z)

    def _stamp(self, time_ns: int) -> Any:
        return self._foxglove.Timestamp(seconds=time_ns // 10**9, nanos=time_ns % 10**9)


def _library() -> SimpleNamespace:
    """The protobuf writer of MCAP and Foxglove's message types, by name."""
    try:
        from foxglove_schemas_protobuf.CameraCalibration_pb2 import CameraCalibration
        from foxglove_schemas_protobuf.Color_pb2 import Color
        from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
        from foxglove_schemas_protobuf.FrameTransform_pb2 import FrameTransform
        from foxglove_schemas_protobuf.LinePrimitive_pb2 import LinePrimitive
        from foxglove_schemas_protobuf.PackedElementField_pb2 import PackedElementField
        from foxglove_schemas_protobuf.Point3_pb2 import Point3
        from foxglove_schemas_protobuf.PointCloud_pb2 import PointCloud as FoxglovePointCloud
        from foxglove_schemas_protobuf.Pose_pb2 import Pose
        from foxglove_schemas_protobuf.Quaternion_pb2 import Quaternion
        from foxglove_schemas_protobuf.RawImage_pb2 import RawImage
        from foxglove_schemas_protobuf.SceneEntity_pb2 import SceneEntity
        from foxglove_schemas_protobuf.SceneUpdate_pb2 import SceneUpdate
        from foxglove_schemas_protobuf.Vector3_pb2 import Vector3
        from google.protobuf.timestamp_pb2 import Timestamp
        from mcap_protobuf.writer import Writer as ProtobufWriter
    except ImportError as error:
        raise MissingDependencyError(
            "the format mcap needs mcap and Foxglove's schemas",
            got=str(error),
            hint="pip install 'da3stream[mcap]'",
        ) from None
    return SimpleNamespace(
        CameraCalibration=CameraCalibration, Color=Color, CompressedImage=CompressedImage,
        FrameTransform=FrameTransform, LinePrimitive=LinePrimitive, PackedElementField=PackedElementField,
        Point3=Point3, PointCloud=FoxglovePointCloud, Pose=Pose, Quaternion=Quaternion, RawImage=RawImage,
        SceneEntity=SceneEntity, SceneUpdate=SceneUpdate, Timestamp=Timestamp, Vector3=Vector3,
        Writer=ProtobufWriter,
    )  # fmt: skip
