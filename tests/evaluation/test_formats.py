from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from da3stream import load_config
from da3stream import reconstruct as reconstruct_source
from da3stream.errors import FormatError, InputNotFoundError, RunIncompleteError
from da3stream.evaluation import load_trajectory
from da3stream.evaluation.association import associate
from da3stream.geometry.rigid3 import invert, quaternion_wxyz
from da3stream.pipeline import align, export
from da3stream.scene import Frame
from da3stream.store import read_manifest
from da3stream.store.manifest import encode_manifest
from da3stream.store.numbered_names import numbered_in
from da3stream.store.records import FrameTable
from da3stream.synthetic.capture import SimulatedSource
from tests.evaluation.conftest import walk
from tests.faults.capture import CONFIG, capture, reconstruct
from tests.faults.doubles import WatchedFileSystem
from tests.pipeline.doubles import CountingEstimator

file_interface = pytest.importorskip("evo.tools.file_interface")
evo_trajectory = pytest.importorskip("evo.core.trajectory")

LINE = "0.5 1 2 3 0 0 0 1"
MATRIX = "1 0 0 5 0 1 0 6 0 0 1 7"


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_reads_what_evo_writes(tmp_path, truth):
    theirs = evo_trajectory.PoseTrajectory3D(
        poses_se3=list(truth.world_from_cam), timestamps=truth.timestamp_s
    )
    file_interface.write_tum_trajectory_file(tmp_path / "a.tum", theirs)
    file_interface.write_kitti_poses_file(tmp_path / "a.txt", theirs)
    tum, kitti = load_trajectory(tmp_path / "a.tum"), load_trajectory(tmp_path / "a.txt")
    np.testing.assert_allclose(tum.world_from_cam, truth.world_from_cam, atol=1e-9)
    np.testing.assert_allclose(tum.timestamp_s, truth.timestamp_s, atol=1e-9)
    np.testing.assert_allclose(kitti.world_from_cam, truth.world_from_cam, atol=1e-9)
    assert kitti.timestamp_s is kitti.names is None


def test_tum_skips_comments_and_takes_commas(tmp_path):
    path = write(
        tmp_path / "t.txt", "# timestamp tx ty tz qx qy qz qw", "", LINE + " # first", "1.5,1,2,4,0,0,0,1"
    )
    poses = load_trajectory(path)
    assert poses.timestamp_s.tolist() == [0.5, 1.5]
    assert poses.positions.tolist() == [[1, 2, 3], [1, 2, 4]]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("1.5 1 2 3 0 0 1", "t.txt:3: wrong number of columns; got 7; expected 8"),
        ("1.5 1 2 3 0 0 0 1 9", "t.txt:3: wrong number of columns; got 9"),
        ("1.5 1 2 nan 0 0 0 1", "t.txt:3: not a finite number"),
        ("1.5 1 2 inf 0 0 0 1", "t.txt:3: not a finite number"),
        ("1.5 1 2 x 0 0 0 1", "t.txt:3: not a number"),
        ("1.5 1 2 3 0 0 0 0.5", r"t.txt:3: not a unit quaternion; got length 0\.5"),
        ("1.5 1 2 3 0 0 0 0", "t.txt:3: not a unit quaternion"),
        ("0.5 1 2 3 0 0 0 1", "t.txt:3: timestamps are not ascending"),
        ("0.4 1 2 3 0 0 0 1", "t.txt:3: timestamps are not ascending"),
    ],
)
def test_malformed_tum_files_name_the_line(tmp_path, line, complaint):
    path = write(tmp_path / "t.txt", "# comment", LINE, line)
    with pytest.raises(FormatError, match=complaint):
        load_trajectory(path)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("1 0 0 5 0 1 0 6 0 0 1", "k.txt:2: wrong number of columns; got 11; expected 12"),
        ("1 0 0 5 0 1 0 6 0 0 1 nan", "k.txt:2: not a finite number"),
        ("2 0 0 5 0 2 0 6 0 0 2 7", "k.txt:2: the matrix holds no rotation"),
        ("-1 0 0 5 0 1 0 6 0 0 1 7", "k.txt:2: the matrix holds no rotation"),
    ],
)
def test_malformed_kitti_files_name_the_line(tmp_path, line, complaint):
    path = write(tmp_path / "k.txt", MATRIX, line)
    with pytest.raises(FormatError, match=complaint):
        load_trajectory(path)


@pytest.mark.parametrize("content", ["", "# nothing", "hello world", "1 2 3"])
def test_files_that_are_no_trajectory(tmp_path, content):
    with pytest.raises(FormatError, match=r"t\.txt"):
        load_trajectory(write(tmp_path / "t.txt", content))


def test_binary_files_and_missing_ones(tmp_path):
    (tmp_path / "b.txt").write_bytes(bytes(range(256)))
    with pytest.raises(FormatError, match=r"b\.txt"):
        load_trajectory(tmp_path / "b.txt")
    with pytest.raises(InputNotFoundError, match="nowhere"):
        load_trajectory(tmp_path / "nowhere")
    with pytest.raises(FormatError, match="holds no trajectory"):
        load_trajectory(tmp_path)


def transforms(poses: np.ndarray, names: list[str]) -> dict:
    opengl = poses @ np.diag([1.0, -1, -1, 1])
    frames = [{"file_path": n, "transform_matrix": p.tolist()} for n, p in zip(names, opengl, strict=True)]
    return {"fl_x": 500.0, "frames": frames}


def test_transforms_json_is_opengl_and_sorted_by_name(tmp_path, truth):
    poses, names = truth.world_from_cam[:3], ["./images/b.jpg", "./images/c.jpg", "./images/a.jpg"]
    path = write(tmp_path / "transforms.json", json.dumps(transforms(poses, names)))
    for loaded in (load_trajectory(path), load_trajectory(tmp_path)):
        assert loaded.names == ("images/a.jpg", "images/b.jpg", "images/c.jpg")
        np.testing.assert_allclose(loaded.world_from_cam, poses[[2, 0, 1]], atol=1e-12)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "as JSON"),
        ("[]", "no list of frames"),
        ('{"frames": []}', "no list of frames"),
        ('{"frames": [{}]}', "frame 0 has no file_path"),
        ('{"frames": [{"file_path": "a.jpg"}]}', "a.jpg has no valid transform_matrix"),
        ('{"frames": [{"file_path": "a.jpg", "transform_matrix": [[1, 2], [3]]}]}', "a.jpg has no valid"),
        (
            '{"frames": [{"file_path": "a.jpg", "transform_matrix": [[2,0,0,0],[0,2,0,0],[0,0,2,0]]}]}',
            "no rotation",
        ),
    ],
)
def test_malformed_transforms(tmp_path, content, complaint):
    with pytest.raises(FormatError, match=complaint):
        load_trajectory(write(tmp_path / "transforms.json", content))


@pytest.fixture
def model(truth) -> pycolmap.Reconstruction:
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera.create_from_model_name(1, "PINHOLE", 500.0, 640, 480)
    model.add_camera_with_trivial_rig(camera)
    for number in range(4):
        image = pycolmap.Image(name=f"frame_{9 - number}.jpg", camera_id=1, image_id=number + 1)
        cam_from_world = invert(truth.world_from_cam[number])
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(cam_from_world[:3]))
    return model


@pytest.mark.parametrize("write_model", ["write_text", "write_binary"])
@pytest.mark.parametrize("subfolder", [".", "sparse/0"])
def test_colmap_models(tmp_path, model, truth, write_model, subfolder):
    folder = tmp_path / subfolder
    folder.mkdir(parents=True, exist_ok=True)
    getattr(model, write_model)(str(folder))
    loaded = load_trajectory(tmp_path)
    assert loaded.names == ("frame_6.jpg", "frame_7.jpg", "frame_8.jpg", "frame_9.jpg")
    np.testing.assert_allclose(loaded.world_from_cam, truth.world_from_cam[[3, 2, 1, 0]], atol=1e-9)


def test_damaged_colmap_models(tmp_path):
    write(tmp_path / "images.txt", "1 what is this")
    with pytest.raises(FormatError, match="pycolmap cannot read"):
        load_trajectory(tmp_path)


def test_a_run_without_cameras_tells_the_same_from_its_records(tmp_path):
    """Whatever it was exported as; also after it was turned and scaled."""
    reconstruct(capture(), tmp_path, WatchedFileSystem())
    align(tmp_path, scale=2.0)
    written = load_trajectory(tmp_path)
    for name in ("cameras.json", "trajectory_tum.txt", "camera_poses.txt"):
        (tmp_path / name).unlink(missing_ok=True)
    recorded = load_trajectory(tmp_path)
    assert recorded.names == written.names
    assert recorded.timestamps_are_synthetic == written.timestamps_are_synthetic
    for name in ("source_index", "timestamp_s", "world_from_cam"):
        assert np.array_equal(getattr(recorded, name), getattr(written, name)), name


def test_a_run_knows_what_its_names_are_numbers_of(tmp_path):
    """Frames of a video have none but made-up ones; a folder's images may be called alike, by their files."""
    reconstruct(capture(), tmp_path, WatchedFileSystem())
    manifest = read_manifest(tmp_path)
    known = {}
    for source in ("video:1f:{}", "live:rtsp://x:{}", "images:2e:{}", "simulated"):
        (tmp_path / "run.json").write_bytes(encode_manifest({**manifest, "source": source}))
        export(tmp_path, ("cameras",))
        known[source] = load_trajectory(tmp_path).numbered_in
        alone = tmp_path / "alone" / "cameras.json"
        alone.parent.mkdir(exist_ok=True)
        alone.write_bytes((tmp_path / "cameras.json").read_bytes())
        assert load_trajectory(alone.parent).numbered_in == known[source]
    captured = known.pop("live:rtsp://x:{}")
    assert re.fullmatch("live:[0-9a-f]{8}", captured)
    assert known == {"video:1f:{}": "video:1f", "images:2e:{}": None, "simulated": "simulated"}


def test_every_capture_of_a_camera_has_frames_of_its_own(tmp_path):
    for seed in (1, 2):
        pixels = np.random.default_rng(seed).integers(0, 256, (2, 14, 14, 3), dtype=np.uint8)
        frames = [
            Frame(index=i, source_index=i, timestamp_s=i / 10, image=image) for i, image in enumerate(pixels)
        ]
        tables = [FrameTable.of(frames)]
        write(tmp_path / str(seed), str(numbered_in("live:rtsp://x:{}", tables)))
        assert numbered_in("live:rtsp://x:{}", [*tables, *tables]) == numbered_in("live:rtsp://x:{}", tables)
    assert (tmp_path / "1").read_text() != (tmp_path / "2").read_text()


def run_of_three(folder, first_s, **head):
    """A cameras.json of three frames that are called as frames of a video are."""
    folder.mkdir(exist_ok=True)
    poses = walk(3).tolist()
    rows = [
        {
            "source_index": i,
            "name": f"{i:06d}.jpg",
            "timestamp_s": first_s + i / 10,
            "world_from_cam": poses[i],
        }
        for i in range(3)
    ]
    write(folder / "cameras.json", json.dumps({"timestamps": "container", **head, "frames": rows}))
    return load_trajectory(folder)


def test_image_files_that_are_called_by_numbers_are_paired_by_name(tmp_path):
    """A folder with --fps has times that nobody measured; older files do not say what their names are."""
    for head in ({}, {"numbered_in": None}):
        one = run_of_three(tmp_path / "one", 0.0, **head)
        other = run_of_three(tmp_path / "other", 0.1, **head)
        found = associate(one, other)
        assert (found.method, found.truth_rows.tolist()) == ("names", [0, 1, 2])


def test_frames_of_one_video_are_paired_by_name_and_those_of_two_by_time(tmp_path):
    one = run_of_three(tmp_path / "one", 0.0, numbered_in="video:1f")
    other = run_of_three(tmp_path / "other", 0.1, numbered_in="video:1f")
    assert associate(one, other).method == "names"
    other = run_of_three(tmp_path / "other", 0.1, numbered_in="video:2e")
    found = associate(one, other)
    assert (found.method, found.estimate_rows.tolist(), found.truth_rows.tolist()) == (
        "timestamps",
        [1, 2],
        [0, 1],
    )
    with pytest.raises(FormatError, match="is no list of cameras"):
        run_of_three(tmp_path / "one", 0.0, numbered_in=7)


@pytest.mark.parametrize("fps", [None, 10.0])
def test_made_up_times_of_a_run_are_known_as_such(tmp_path, fps):
    """Unless the user has said how many frames a second there are."""
    source = SimulatedSource(capture())
    source.timestamps_are_synthetic = True
    config = load_config(None, {**CONFIG, "export": "tum", "loop": False, "coarse": 0, "fps": fps})
    reconstruct_source(source, tmp_path, config=config, estimator=CountingEstimator(capture()))
    assert not (tmp_path / "cameras.json").exists()
    run = load_trajectory(tmp_path)
    assert run.timestamps_are_synthetic is (fps is None)
    assert run.names is not None
    assert len(run) == len(capture())


def test_a_run_that_has_not_finished_is_no_trajectory_yet(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        reconstruct(
            capture(),
            tmp_path,
            WatchedFileSystem(),
            estimator=CountingEstimator(capture(), level=1.0, fail_at=2),
        )
    with pytest.raises(RunIncompleteError, match="has not finished"):
        load_trajectory(tmp_path)


def cameras_json(poses: np.ndarray, **head) -> str:
    frames = [
        {
            "index": i,
            "source_index": 3 * i,
            "name": f"{3 * i:06d}.jpg",
            "timestamp_s": 0.1 * i,
            "world_from_cam": p.tolist(),
        }
        for i, p in enumerate(poses)
    ]
    return json.dumps({"timestamps": "container", **head, "frames": frames})


def test_a_run_tells_names_times_and_positions(tmp_path, truth):
    write(tmp_path / "cameras.json", cameras_json(truth.world_from_cam[:4]))
    run = load_trajectory(tmp_path)
    assert run.names == ("000000.jpg", "000003.jpg", "000006.jpg", "000009.jpg")
    assert run.source_index.tolist() == [0, 3, 6, 9]
    assert run.timestamp_s == pytest.approx([0, 0.1, 0.2, 0.3])
    assert not run.timestamps_are_synthetic
    assert np.array_equal(run.world_from_cam, truth.world_from_cam[:4])
    write(tmp_path / "cameras.json", cameras_json(truth.world_from_cam[:4], timestamps="synthetic"))
    assert load_trajectory(tmp_path).timestamps_are_synthetic


def test_a_run_without_cameras_has_times_or_at_least_poses(tmp_path, truth):
    poses = truth.world_from_cam[:5]
    np.savetxt(tmp_path / "camera_poses.txt", poses.reshape(-1, 16), fmt="%.17g")
    bare = load_trajectory(tmp_path)
    assert bare.timestamp_s is bare.names is None
    np.testing.assert_allclose(bare.world_from_cam, poses, atol=1e-12)
    rows = np.column_stack(
        [truth.timestamp_s[:5], poses[:, :3, 3], quaternion_wxyz(poses[:, :3, :3])[:, [1, 2, 3, 0]]]
    )
    np.savetxt(tmp_path / "trajectory_tum.txt", rows, fmt="%.17g")
    timed = load_trajectory(tmp_path)
    np.testing.assert_allclose(timed.timestamp_s, truth.timestamp_s[:5])
    np.testing.assert_allclose(timed.world_from_cam, poses, atol=1e-12)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"frames": []}', '{"frames": [{"name": "a"}]}', '{"frames": 3}']
)
def test_malformed_cameras(tmp_path, content):
    with pytest.raises(FormatError, match=r"cameras\.json"):
        load_trajectory(write(tmp_path / "cameras.json", content).parent)


@pytest.mark.data
def test_real_ground_truth(shared):
    kitti = load_trajectory(shared / "data/kitti_seq1/poses.txt")
    fox = load_trajectory(shared / "data/fox")
    assert len(kitti) == 51
    assert np.linalg.norm(np.diff(kitti.positions, axis=0), axis=1).sum() > 30
    # A car drives forward, along +z of its OpenCV camera.
    steps = np.einsum("nij,ni->nj", kitti.world_from_cam[:-1, :3, :3], np.diff(kitti.positions, axis=0))
    assert (steps[:, 2] > 0.95 * np.linalg.norm(steps, axis=1)).all()
    # The fox stands in the middle of an arc: all optical axes pass near one point in front of the cameras.
    forward, centres = fox.world_from_cam[:, :3, 2], fox.positions
    across = np.eye(3) - forward[:, :, None] * forward[:, None]
    middle = np.linalg.solve(across.sum(0), (across @ centres[..., None]).sum(0)[:, 0])
    assert (np.einsum("ni,ni->n", middle - centres, forward) > 0).all()
