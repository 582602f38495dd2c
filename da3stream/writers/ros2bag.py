"""ros2bag/: the capture as a ROS 2 bag."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

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
)

_TOPICS = {
    "/tf": "tf2_msgs/msg/TFMessage",
    "/camera/pose": "geometry_msgs/msg/PoseStamped",
    "/camera/image/compressed": "sensor_msgs/msg/CompressedImage",
    "/camera/camera_info": "sensor_msgs/msg/CameraInfo",
    "/depth/image": "sensor_msgs/msg/Image",
    "/depth/camera_info": "sensor_msgs/msg/CameraInfo",
    "/points": "sensor_msgs/msg/PointCloud2",
}
_POINT = np.dtype([("xyz", "<f4", 3), ("rgb", "<u4")])
_FLOAT32 = 7  # sensor_msgs/PointField


class Ros2BagWriter(SensorWriter):
    """metadata.yaml and ros2bag.mcap; play it with `ros2 bag play RUN/ros2bag`. No ROS is needed to write it.

    Storage is MCAP, the default since ROS 2 Iron (Humble: install ros-humble-rosbag2-storage-mcap). Times of
    headers and of the bag are those of the frames. Topics:

    - /tf and /camera/pose: `camera` (an optical frame: x right, y down, z forward) in `world`.
    - /camera/image/compressed (JPEG, processing resolution), /camera/camera_info.
    - /depth/image (32FC1 of REP 118: NaN where unknown), /depth/camera_info, at the stored depth's own size.
    - /points: PointCloud2 x y z rgb in `world`, one for each block of frames, at the time of its last frame.

    In CameraInfo the centre of the top-left pixel is (0, 0), as in ROS and OpenCV: half a pixel less than in
    our other files. ROS means metres; `custom_data` of metadata.yaml says whether these are, and whether
    timestamps are synthetic.
    """

    def __init__(self, context: WriterContext) -> None:
        super().__init__(context)
        self._ros = _library()
        self._store = self._ros.get_typestore(self._ros.Stores.ROS2_HUMBLE)
        self._types = self._store.types
        self._pending = PendingOutputs(context.outputs)
        self._folder = self._pending.folder("ros2bag")
        # The storage file is named after its folder, which has a temporary name here: hence one more folder.
        self._bag = self._ros.Writer(
            self._folder / "ros2bag", version=8, storage_plugin=self._ros.StoragePlugin.MCAP
        )
        try:
            self._bag.open()
            for key, value in conventions(context).items():
                self._bag.set_custom_data(key, value)
            self._connections = {
                topic: self._bag.add_connection(topic, kind, typestore=self._store)
                for topic, kind in _TOPICS.items()
            }
        except BaseException:
            self.abort()
            raise

    @classmethod
    def check_installed(cls) -> None:
        _library()

    def finish(self) -> None:
        self._bag.close()
        for path in sorted(self._bag.path.iterdir()):
            path.rename(self._folder / path.name)
        self._bag.path.rmdir()
        self._pending.commit()

    def abort(self) -> None:
        self._bag.abort()
        self._pending.abort()

    def _write(self, topic: str, time_ns: int, message: Any) -> None:
        serialized = self._store.serialize_cdr(message, _TOPICS[topic])
        self._bag.write(self._connections[topic], time_ns, serialized)

    def _write_frame(self, frame: SensorFrame) -> None:
        types, time_ns = self._types, frame.timestamp_ns
        camera, world = self._header(CAMERA, time_ns), self._header(WORLD, time_ns)
        x, y, z = frame.position.tolist()
        qx, qy, qz, qw = frame.rotation_xyzw.tolist()
        turn = types["geometry_msgs/msg/Quaternion"](x=qx, y=qy, z=qz, w=qw)
        transform = types["geometry_msgs/msg/TransformStamped"](
            header=world,
            child_frame_id=CAMERA,
            transform=types["geometry_msgs/msg/Transform"](
                translation=types["geometry_msgs/msg/Vector3"](x=x, y=y, z=z), rotation=turn
            ),
        )
        pose = types["geometry_msgs/msg/Pose"](
            position=types["geometry_msgs/msg/Point"](x=x, y=y, z=z), orientation=turn
        )
        image = types["sensor_msgs/msg/CompressedImage"](
            header=camera, format="jpeg", data=np.frombuffer(frame.jpeg, dtype=np.uint8)
        )
        height, width = frame.depth.shape
        depth = types["sensor_msgs/msg/Image"](
            header=camera,
            height=height,
            width=width,
            encoding="32FC1",
            is_bigendian=0,
            step=4 * width,
            data=frame.depth.astype("<f4").view(np.uint8).ravel(),
        )
        self._write("/tf", time_ns, types["tf2_msgs/msg/TFMessage"](transforms=[transform]))
        self._write("/camera/pose", time_ns, types["geometry_msgs/msg/PoseStamped"](header=world, pose=pose))
        self._write("/camera/camera_info", time_ns, self._camera_info(frame.camera, camera))
        self._write("/camera/image/compressed", time_ns, image)
        self._write("/depth/camera_info", time_ns, self._camera_info(frame.depth_camera, camera))
        self._write("/depth/image", time_ns, depth)

    def _write_points(self, cloud: PointCloud, last: SensorFrame) -> None:
        self._write("/points", last.timestamp_ns, self._point_cloud(cloud, last.timestamp_ns))

    def _camera_info(self, camera: Camera, header: Any) -> Any:
        intrinsics = index_matrix(camera)
        return self._types["sensor_msgs/msg/CameraInfo"](
            header=header,
            height=camera.height,
            width=camera.width,
            distortion_model="plumb_bob",
            d=np.zeros(5),
            k=intrinsics.ravel(),
            r=np.eye(3).ravel(),
            p=np.column_stack([intrinsics, np.zeros(3)]).ravel(),
            binning_x=0,
            binning_y=0,
            roi=self._types["sensor_msgs/msg/RegionOfInterest"](
                x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
            ),
        )

    def _point_cloud(self, cloud: PointCloud, time_ns: int) -> Any:
        field = self._types["sensor_msgs/msg/PointField"]
        points = np.zeros(len(cloud), dtype=_POINT)
        points["xyz"] = cloud.points_in_world
        # As PCL and RViz read it: a float32 whose bits are 0x00RRGGBB.
        points["rgb"] = cloud.colors.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
        return self._types["sensor_msgs/msg/PointCloud2"](
            header=self._header(WORLD, time_ns),
            height=1,
            width=len(cloud),
            fields=[
                field(name=name, offset=offset, datatype=_FLOAT32, count=1)
                for name, offset in (("x", 0), ("y", 4), ("z", 8), ("rgb", 12))
            ],
            is_bigendian=False,
            point_step=_POINT.itemsize,
            row_step=points.nbytes,
            data=points.view(np.uint8),
            is_dense=True,
        )

    def _header(self, frame_id: str, time_ns: int) -> Any:
        stamp = self._types["builtin_interfaces/msg/Time"](sec=time_ns // 10**9, nanosec=time_ns % 10**9)
        return self._types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id)


def _library() -> SimpleNamespace:
    try:
        from rosbags.rosbag2 import StoragePlugin
        from rosbags.rosbag2 import Writer as BagWriter
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise MissingDependencyError(
            "the format ros2bag needs rosbags", got=str(error), hint="pip install 'da3stream[ros]'"
        ) from None
    return SimpleNamespace(
        Writer=BagWriter, StoragePlugin=StoragePlugin, Stores=Stores, get_typestore=get_typestore
    )
