"""rerun, MCAP and ROS 2 recordings, read by the libraries of their users."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from evo.tools import file_interface
from mcap.reader import make_reader
from mcap_protobuf.decoder import DecoderFactory
from rerun.chunk import RrdReader
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader as BagReader
from scipy.spatial.transform import Rotation

from da3stream.config import OutputConfig
from da3stream.errors import InputError, MissingDependencyError
from da3stream.scene import LoopCandidate, LoopClosure
from da3stream.writers import check_installed, create_writers
from da3stream.writers.cloud import confident_cloud
from da3stream.writers.rerun_recording import RerunRecording
from da3stream.writers.sensor_frames import conventions

from .plane_scene import PLANE_NORMAL, PLANE_OFFSET, blocks_of, coordinate_image, write

FORMATS = ("rerun", "mcap", "ros2bag")
FRAMES = 12


@dataclass
class Recorded:
    """What a reader found. Intrinsics are as the format has them; `half` is its place of a pixel's centre."""

    half: float
    world_from_cam: list[np.ndarray] = field(default_factory=list)
    time_s: list[float] = field(default_factory=list)
    intrinsics: list[np.ndarray] = field(default_factory=list)
    jpeg: list[bytes] = field(default_factory=list)
    depth: list[np.ndarray] = field(default_factory=list)
    depth_intrinsics: list[np.ndarray] = field(default_factory=list)
    points_in_world: list[np.ndarray] = field(default_factory=list)
    colors: list[np.ndarray] = field(default_factory=list)
    path: np.ndarray | None = None
    loops: np.ndarray | None = None
    notes: dict[str, str] = field(default_factory=dict)


def pose_of(translation: Any, quaternion_xyzw: Any) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat(quaternion_xyzw).as_matrix()
    pose[:3, 3] = translation
    return pose


def read_mcap(run: Path) -> Recorded:
    found = Recorded(half=0.0)
    with (run / "mcap/capture.mcap").open("rb") as stream:
        reader = make_reader(stream, decoder_factories=[DecoderFactory()], validate_crcs=True)
        for schema, channel, record, message in reader.iter_decoded_messages():
            assert schema.name.startswith("foxglove.")
            if channel.topic == "/tf":
                assert (message.parent_frame_id, message.child_frame_id) == ("world", "camera")
                t, q = message.translation, message.rotation
                found.world_from_cam.append(pose_of([t.x, t.y, t.z], [q.x, q.y, q.z, q.w]))
                found.time_s.append(message.timestamp.ToNanoseconds() / 1e9)
                assert record.log_time == message.timestamp.ToNanoseconds()
            elif channel.topic == "/camera/calibration":
                found.intrinsics.append(np.reshape(message.K, (3, 3)))
            elif channel.topic == "/camera/image":
                assert (message.frame_id, message.format) == ("camera", "jpeg")
                found.jpeg.append(message.data)
            elif channel.topic == "/depth/calibration":
                found.depth_intrinsics.append(np.reshape(message.K, (3, 3)))
            elif channel.topic == "/depth/image":
                assert (message.encoding, message.step) == ("32FC1", 4 * message.width)
                found.depth.append(np.frombuffer(message.data, "<f4").reshape(message.height, message.width))
            elif channel.topic == "/points":
                assert [f.name for f in message.fields] == ["x", "y", "z", "red", "green", "blue", "alpha"]
                assert message.point_stride == 16
                points = np.frombuffer(message.data, np.dtype([("xyz", "<f4", 3), ("rgba", "u1", 4)]))
                found.points_in_world.append(points["xyz"])
                found.colors.append(points["rgba"][:, :3])
            elif channel.topic == "/map":
                lines = {
                    entity.id: [[p.x, p.y, p.z] for p in entity.lines[0].points]
                    for entity in message.entities
                }
                found.path, found.loops = (
                    np.array(lines["trajectory"]),
                    np.reshape(lines["loops"], (-1, 2, 3)),
                )
        (notes,) = reader.iter_metadata()
        assert notes.name == "da3stream"
        found.notes = dict(notes.metadata)
    return found


def read_ros2bag(run: Path) -> Recorded:
    found = Recorded(half=0.0)
    with AnyReader([run / "ros2bag"]) as bag:
        for connection, bag_time_ns, raw in bag.messages():
            message = bag.deserialize(raw, connection.msgtype)
            header = message.transforms[0].header if connection.topic == "/tf" else message.header
            assert header.stamp.sec * 10**9 + header.stamp.nanosec == bag_time_ns
            assert header.frame_id == (
                "world" if connection.topic in ("/tf", "/camera/pose", "/points") else "camera"
            )
            if connection.topic == "/tf":
                t, q = message.transforms[0].transform.translation, message.transforms[0].transform.rotation
                assert message.transforms[0].child_frame_id == "camera"
                found.world_from_cam.append(pose_of([t.x, t.y, t.z], [q.x, q.y, q.z, q.w]))
                found.time_s.append(bag_time_ns / 1e9)
            elif connection.topic == "/camera/camera_info":
                found.intrinsics.append(message.k.reshape(3, 3))
                np.testing.assert_array_equal(message.p.reshape(3, 4)[:, :3], message.k.reshape(3, 3))
            elif connection.topic == "/camera/image/compressed":
                found.jpeg.append(message.data.tobytes())
            elif connection.topic == "/depth/camera_info":
                found.depth_intrinsics.append(message.k.reshape(3, 3))
            elif connection.topic == "/depth/image":
                assert (message.encoding, message.step) == ("32FC1", 4 * message.width)
                found.depth.append(message.data.view("<f4").reshape(message.height, message.width))
            elif connection.topic == "/points":
                assert [(f.name, f.offset, f.datatype) for f in message.fields] == [
                    ("x", 0, 7), ("y", 4, 7), ("z", 8, 7), ("rgb", 12, 7),
                ]  # fmt: skip
                points = message.data.view(np.dtype([("xyz", "<f4", 3), ("bgr0", "u1", 4)]))
                assert len(points) == message.width
                found.points_in_world.append(points["xyz"])
                found.colors.append(points["bgr0"][:, 2::-1])
    metadata = yaml.safe_load((run / "ros2bag/metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert metadata["message_count"] == 6 * len(found.time_s) + len(found.points_in_world)
    assert metadata["relative_file_paths"] == ["ros2bag.mcap"]
    found.notes = metadata["custom_data"]
    return found


def read_rerun(run: Path) -> Recorded:
    columns: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for chunk in RrdReader(str(run / "rerun/capture.rrd")).stream().to_chunks():
        batch = chunk.to_record_batch()
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            columns[chunk.entity_path, name].extend(column.to_pylist())

    def first(entity: str, component: str) -> list[Any]:
        return [row[0] for row in columns[entity, component]]

    camera = "/world/camera"
    # rerun's matrices are column by column.
    matrices = {
        name: [np.reshape(m, (3, 3)).T for m in first(f"{camera}/{name}", "Pinhole:image_from_camera")]
        for name in ("image", "depth")
    }
    sizes = first(f"{camera}/depth", "DepthImage:format")
    assert first("/world", "ViewCoordinates:xyz") == [[3, 2, 5]]  # right, down, forward
    assert columns[camera, "frame"] == list(range(len(columns[camera, "frame"])))
    clouds = sorted(entity for entity, name in columns if name == "Points3D:positions")
    packed = [np.array(columns[entity, "Points3D:colors"][0], dtype=np.uint32) for entity in clouds]
    return Recorded(
        half=0.5,
        world_from_cam=[
            pose_of(*pair)
            for pair in zip(
                first(camera, "Transform3D:translation"), first(camera, "Transform3D:quaternion"), strict=True
            )
        ],
        time_s=[time.total_seconds() for time in columns[camera, "time"]],
        intrinsics=matrices["image"],
        jpeg=[bytes(blob) for blob in first(f"{camera}/image", "EncodedImage:blob")],
        depth=[
            np.frombuffer(bytes(blob), "<f4").reshape(size["height"], size["width"])
            for blob, size in zip(first(f"{camera}/depth", "DepthImage:buffer"), sizes, strict=True)
        ],
        depth_intrinsics=matrices["depth"],
        points_in_world=[
            np.array(columns[entity, "Points3D:positions"][0], dtype=np.float32) for entity in clouds
        ],
        colors=[np.stack([c >> 24, c >> 16 & 255, c >> 8 & 255], axis=1).astype(np.uint8) for c in packed],
        path=np.array(columns["/world/trajectory", "LineStrips3D:strips"][0][0]),
        loops=np.reshape(columns["/world/loops", "LineStrips3D:strips"][0], (-1, 2, 3)),
        notes={
            name: rows[0][0]
            for (entity, name), rows in columns.items()
            if entity == "/__properties/da3stream"
            and name in ("unit", "timestamps", "camera", "world", "depth")
        },
    )


READERS = {"rerun": read_rerun, "mcap": read_mcap, "ros2bag": read_ros2bag}


def unprojected(found: Recorded, frame: int) -> np.ndarray:
    """(h, w, 3) points in the world of a recorded depth image, by the format's own convention."""
    depth, matrix, pose = found.depth[frame], found.depth_intrinsics[frame], found.world_from_cam[frame]
    height, width = depth.shape
    v, u = np.mgrid[:height, :width] + found.half
    pixels = np.stack([u, v, np.ones_like(u)], axis=-1)
    points_in_cam = (pixels @ np.linalg.inv(matrix).T) * depth[..., None]
    return points_in_cam @ pose[:3, :3].T + pose[:3, 3]


@pytest.fixture(params=FORMATS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def found(name, make_context, outputs) -> Recorded:
    loop = LoopClosure(
        candidate=LoopCandidate(later=9, earlier=2, similarity=0.9, threshold=0.5, support=3),
        chunk=7,
        reason=None,
    )
    context = replace(make_context(frames=FRAMES), loops=(loop,), loops_used={7: True})
    (writer,) = create_writers([name], context)
    write(writer, blocks_of(FRAMES, 5))
    return READERS[name](outputs.root)


def test_depth_unprojects_onto_the_scene_and_onto_our_cloud(found):
    everything = np.concatenate(found.points_in_world)
    for frame in range(FRAMES):
        points = unprojected(found, frame)
        assert np.abs(points @ PLANE_NORMAL / PLANE_OFFSET - 1).max() < 1e-4
    for block, points_in_world in zip(blocks_of(FRAMES, 5), found.points_in_world, strict=True):
        own = np.concatenate([unprojected(found, frame).reshape(-1, 3) for frame in block.index])
        cloud = confident_cloud(block, percentile=0).points_in_world
        assert np.abs(own - cloud).max() < 1e-4 * PLANE_OFFSET
        # Every recorded point is one of those.
        gaps = np.abs(points_in_world[::97, None] - own).max(axis=2).min(axis=1)
        assert len(gaps) > 5
        assert gaps.max() < 1e-4 * PLANE_OFFSET
    assert len(everything) == pytest.approx(0.6 * FRAMES * found.depth[0].size, rel=0.01)


def test_colours_are_those_of_the_pixel_that_a_point_projects_to(found):
    """`coordinate_image` says in red the column and in green the row of every pixel."""
    for points, colors, block in zip(found.points_in_world, found.colors, blocks_of(FRAMES, 5), strict=True):
        for frame in block.index:
            rows = colors[:, 2] == frame
            camera_from_world = np.linalg.inv(found.world_from_cam[frame])
            rays = (points[rows] @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]) @ found.intrinsics[
                frame
            ].T
            pixels = rays[:, :2] / rays[:, 2:] - found.half
            assert rows.any()
            assert np.abs(pixels - colors[rows, :2]).max() < 0.51


def test_times_images_and_notes(found, make_context):
    np.testing.assert_allclose(found.time_s, np.arange(FRAMES) / 29.97, atol=1e-9)
    assert len(found.jpeg) == FRAMES
    for frame, jpeg in enumerate(found.jpeg):
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert np.abs(image.astype(int) - coordinate_image(frame)).mean() < 4
    assert found.notes == conventions(make_context())
    assert (found.notes["unit"], found.notes["timestamps"]) == ("metres", "container")


def test_the_path_and_the_loops_are_drawn(found, make_context, name):
    if name == "ros2bag":
        assert (found.path, found.loops) == (None, None)  # poses are enough for ROS
        return
    centres = make_context(frames=FRAMES).positions_in_world
    np.testing.assert_allclose(found.path, centres, atol=1e-6)
    np.testing.assert_allclose(found.loops, centres[None, [9, 2]], atol=1e-6)


def test_unknown_depth_is_nan(name, make_context, outputs):
    (block,) = blocks_of(3)
    confidence = block.confidence.copy()
    confidence[:, :4] = 0
    (writer,) = create_writers([name], make_context(frames=3))
    write(writer, [replace(block, confidence=confidence)])
    found = READERS[name](outputs.root)
    for depth, truth in zip(found.depth, block.depth, strict=True):
        assert np.isnan(depth[:4]).all()
        np.testing.assert_array_equal(depth[4:], truth[4:])


def test_synthetic_times_and_arbitrary_units_are_said(name, make_context, outputs):
    context = replace(make_context(frames=3), timestamps_are_synthetic=True, is_metric=False)
    (writer,) = create_writers([name], context)
    write(writer, blocks_of(3))
    notes = READERS[name](outputs.root).notes
    assert (notes["timestamps"], notes["unit"]) == ("synthetic", "arbitrary")


def test_max_points_caps_the_points_of_all_blocks(name, make_context, outputs):
    (writer,) = create_writers([name], make_context(frames=FRAMES, max_points=500))
    write(writer, blocks_of(FRAMES, 5))
    assert sum(map(len, READERS[name](outputs.root).points_in_world)) in range(490, 501)


@pytest.mark.parametrize("name", ["mcap", "ros2bag"])
def test_negative_times_are_an_error_that_says_what_to_do(name, make_context, outputs):
    (block,) = blocks_of(3)
    (writer,) = create_writers([name], make_context(frames=3))
    with pytest.raises(InputError, match=r"frame 0 comes before time 0.*-1\.0 s.*--start 0"):
        writer.add(replace(block, timestamp_s=block.timestamp_s - 1.0))
    writer.abort()
    assert outputs.pending() == []


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("rerun", "rerun", "rerun"),
        ("mcap", "mcap_protobuf.writer", "mcap"),
        ("ros2bag", "rosbags.rosbag2", "ros"),
    ],
)
def test_a_missing_package_is_said_with_the_command_that_installs_it(monkeypatch, name, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        MissingDependencyError, match=rf"format {name} needs.*pip install 'da3stream\[{extra}\]'"
    ):
        check_installed(["tum", name])
    check_installed(OutputConfig().export)


def test_evo_reads_the_poses_of_the_bag(make_context, outputs):
    (writer,) = create_writers(["ros2bag"], make_context(frames=FRAMES))
    write(writer, blocks_of(FRAMES, 5))
    with BagReader(outputs.root / "ros2bag") as bag:
        trajectory = file_interface.read_bag_trajectory(bag, "/camera/pose")
    truth = np.concatenate([block.world_from_cam for block in blocks_of(FRAMES, 5)])
    np.testing.assert_allclose(trajectory.poses_se3, truth, atol=1e-9)
    np.testing.assert_allclose(trajectory.timestamps, np.arange(FRAMES) / 29.97, atol=1e-9)


def test_a_recording_has_the_same_content_when_written_again(tmp_path, make_context, outputs):
    """rerun gives every chunk and row a random id; nothing else differs."""
    contents = []
    for _ in range(2):
        (writer,) = create_writers(["rerun"], make_context(frames=FRAMES))
        write(writer, blocks_of(FRAMES, 5))
        reader = RrdReader(str(outputs.root / "rerun/capture.rrd"))
        (recording,) = reader.recordings()
        chunks = reader.stream().to_chunks()
        contents.append((recording.recording_id, [content_of(chunk) for chunk in chunks]))
        (outputs.root / "rerun").rename(tmp_path / f"{len(contents)}")
    assert contents[0] == contents[1]


def content_of(chunk: Any) -> tuple[str, dict[str, Any]]:
    batch = chunk.to_record_batch()
    names = [name for name in batch.schema.names if name != "rerun.controls.RowId"]
    return chunk.entity_path, {name: batch.column(name).to_pylist() for name in names}


def test_two_runs_are_two_recordings(make_context, outputs, tmp_path):
    ids = set()
    for frames in (4, 5):
        (writer,) = create_writers(["rerun"], make_context(frames=frames))
        write(writer, blocks_of(frames))
        (recording,) = RrdReader(str(outputs.root / "rerun/capture.rrd")).recordings()
        ids.add(recording.recording_id)
        (outputs.root / "rerun").rename(tmp_path / f"{frames}")
    assert len(ids) == 2


def test_the_recording_opens_with_a_view_of_map_image_and_depth(make_context, outputs):
    (writer,) = create_writers(["rerun"], make_context(frames=FRAMES))
    write(writer, blocks_of(FRAMES, 5))
    reader = RrdReader(str(outputs.root / "rerun/capture.rrd"))
    (blueprint,) = reader.blueprints()
    assert blueprint.application_id == reader.recordings()[0].application_id == "da3stream"
    said: dict[str, list[Any]] = defaultdict(list)
    for chunk in reader.stream(store=blueprint).to_chunks():
        batch = chunk.to_record_batch()
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            said[name].extend(column.to_pylist())
    views = zip(said["ViewBlueprint:class_identifier"], said["ViewBlueprint:space_origin"], strict=True)
    assert sorted((kind[0], origin[0]) for kind, origin in views) == [
        ("2D", "/world/camera/depth"), ("2D", "/world/camera/image"), ("3D", "/world"),
    ]  # fmt: skip
    assert ["/world/**", "- /world/camera/depth/**"] in said["ViewContents:query"]
    assert said["TimePanelBlueprint:timeline"] == [["frame"]]
    timelines = {name for chunk in reader.stream().to_chunks() for name in chunk.timeline_names}
    assert timelines == {"frame", "time"}


def test_rerun_itself_finds_the_file_whole(make_context, outputs):
    (writer,) = create_writers(["rerun"], make_context(frames=FRAMES))
    write(writer, blocks_of(FRAMES, 5))
    command = [str(Path(sys.executable).with_name("rerun")), "rrd", "verify"]
    done = subprocess.run([*command, str(outputs.root / "rerun/capture.rrd")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_recording_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        RerunRecording(tmp_path / "missing" / "capture.rrd", "id")


def test_what_the_disk_has_no_room_for_is_an_error_and_not_a_wait(tmp_path):
    """In a process of its own, whose files must not grow beyond 100 kB."""
    program = f"""
import resource, signal
from pathlib import Path
import numpy as np
from da3stream.writers.cloud import PointCloud
from da3stream.writers.rerun_recording import RerunRecording
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
recording = RerunRecording(Path({str(tmp_path / "capture.rrd")!r}), "id")
points = np.random.default_rng(0).random((20_000, 3)).astype(np.float32)
ones = np.ones(20_000, np.float32)
cloud = PointCloud(points_in_world=points, colors=np.zeros((20_000, 3), np.uint8), confidence=ones)
try:
    for index in range(5):
        recording.log_points(index, cloud, index, 0.0)
    recording.complete()
except OSError as error:
    print("error:", error)
recording.abandon()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert "rerun's recording cannot be written: File too large" in done.stdout
