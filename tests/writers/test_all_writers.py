"""Laws that every format obeys."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from plyfile import PlyData

from da3stream.config import OutputConfig
from da3stream.config.model import ExportName
from da3stream.errors import ConfigError
from da3stream.writers import _CLASSES, create_writers, export_names

from .folder_outputs import FolderOutputs
from .plane_scene import FakeOriginals, blocks_of, plane_block, without_frames, write

ALL = (*get_args(ExportName), "results")
REPEATABLE = [name for name in ALL if name != "rerun"]
"""rerun puts random ids into its files: test_robot_formats.py compares their content."""
FILES = {
    "poses": ("camera_poses.ply", "camera_poses.txt", "intrinsic.txt"),
    "tum": ("trajectory_tum.txt",),
    "kitti": ("trajectory_kitti.txt",),
    "cameras": ("cameras.json",),
    "loops": ("loop_closures.json", "loop_closures.txt"),
    "trajectory": ("trajectory.png",),
    "pcd": ("pcd/combined_pcd.ply",),
    "colmap": (
        "colmap/database.db",
        *(f"colmap/images/{3 * i:06d}.jpg" for i in range(4)),
        *(f"colmap/sparse/0/{name}.bin" for name in ("cameras", "frames", "images", "points3D", "rigs")),
    ),
    "rerun": ("rerun/capture.rrd",),
    "mcap": ("mcap/capture.mcap",),
    "ros2bag": ("ros2bag/metadata.yaml", "ros2bag/ros2bag.mcap"),
    "gs_ply": ("gs_ply/gaussians.ply",),
    "mesh": ("mesh/mesh.ply",),
    "k": ("K.txt",),
    "orbslam3": ("orbslam3.yaml",),
    "openvins": ("kalibr_imucam_chain.yaml",),
    "results": tuple(f"results_output/frame_{i}.npz" for i in range(4)),
    "ply_chunks": ("chunks/000000.ply", "chunks/000001.ply"),
    "glb": ("scene.glb",),
    "nerfstudio": (
        *(f"nerfstudio/depths/{i:06d}.png" for i in range(4)),
        *(f"nerfstudio/images/{3 * i:06d}.jpg" for i in range(4)),
        "nerfstudio/sparse_pc.ply",
        "nerfstudio/transforms.json",
    ),
    "npz": ("npz/results.npz",),
    "mini_npz": ("mini_npz/results.npz",),
    "depth_vis": (*(f"depth_vis/{i:06d}.png" for i in range(4)), "depth_vis/depth_vis.mp4"),
    "depth_png": (*(f"depth_png/{i:06d}.png" for i in range(4)), "depth_png/depth.json"),
    "depth_exr": (*(f"depth_exr/{i:06d}.exr" for i in range(4)), "depth_exr/depth.json"),
}
SAMPLED = ("pcd", "colmap", "ply_chunks", "glb", "nerfstudio", "mesh", "rerun", "mcap", "ros2bag")
"""Which points they take depends on the confidence of the others of a block."""


@pytest.mark.parametrize("name", ALL)
def test_files_appear_when_finished_and_not_before(make_context, outputs, name):
    (writer,) = create_writers([name], make_context(frames=4))
    for block in blocks_of(4, 2, full=True):
        writer.add(block)
        assert outputs.visible() == []
    writer.finish()
    assert outputs.visible() == sorted(FILES[name])
    assert outputs.pending() == []


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("blocks", [0, 1])
def test_abort_leaves_nothing_and_may_come_twice(make_context, outputs, name, blocks):
    (writer,) = create_writers([name], make_context(frames=4))
    for block in blocks_of(4, 2, full=True)[:blocks]:
        writer.add(block)
    writer.abort()
    writer.abort()
    assert outputs.visible() == []
    assert outputs.pending() == []


@pytest.mark.parametrize("name", ALL)
def test_abort_leaves_alone_what_is_finished(make_context, outputs, name):
    (writer,) = create_writers([name], make_context(frames=4))
    write(writer, blocks_of(4, 2, full=True))
    writer.abort()
    assert outputs.visible() == sorted(FILES[name])


@pytest.mark.parametrize("name", REPEATABLE)
@pytest.mark.parametrize("originals", [None, FakeOriginals()])
def test_bytes_depend_on_the_frames_alone(make_context, tmp_path, name, originals):
    written = []
    for attempt in ("first", "second"):
        root, scratch = tmp_path / attempt, tmp_path / f"{attempt}_scratch"
        root.mkdir()
        scratch.mkdir()
        outputs = FolderOutputs(root, scratch)
        context = replace(make_context(frames=12, max_points=999, originals=originals), outputs=outputs)
        (writer,) = create_writers([name], context)
        write(writer, blocks_of(12, 5, full=True))
        written.append({path: (root / path).read_bytes() for path in outputs.visible()})
    assert written[0] == written[1]


@pytest.mark.parametrize("name", [name for name in ALL if name not in SAMPLED])
def test_the_partition_into_blocks_does_not_matter(make_context, tmp_path, name):
    written = []
    for size in (1, 5, 12):
        root, scratch = tmp_path / f"{size}", tmp_path / f"{size}_scratch"
        root.mkdir()
        scratch.mkdir()
        outputs = FolderOutputs(root, scratch)
        (writer,) = create_writers([name], replace(make_context(frames=12), outputs=outputs))
        write(writer, blocks_of(12, size, full=True))
        written.append({path: (root / path).read_bytes() for path in outputs.visible()})
    assert written[0] == written[1] == written[2]


@pytest.mark.parametrize("name", REPEATABLE)
def test_blocks_of_no_frames_change_nothing(make_context, tmp_path, name):
    written = []
    block = plane_block(0, 3, frames=3, full=True)
    for number, blocks in enumerate(([block], [without_frames(block), block, without_frames(block)])):
        root, scratch = tmp_path / f"{number}", tmp_path / f"{number}_scratch"
        root.mkdir()
        scratch.mkdir()
        outputs = FolderOutputs(root, scratch)
        (writer,) = create_writers([name], replace(make_context(frames=3), outputs=outputs))
        write(writer, blocks)
        written.append({path: (root / path).read_bytes() for path in outputs.visible()})
    assert written[0] == written[1]


@pytest.mark.parametrize("originals", [None, FakeOriginals()])
def test_a_run_of_no_frames_gives_valid_empty_files(make_context, outputs, originals):
    for writer in create_writers(ALL, make_context(frames=0, originals=originals)):
        writer.finish()
    assert (outputs.root / "trajectory_tum.txt").read_bytes() == b""
    assert (outputs.root / "trajectory_kitti.txt").read_bytes() == b""
    assert json.loads((outputs.root / "cameras.json").read_text())["frames"] == []
    for path in ("camera_poses.ply", "pcd/combined_pcd.ply", "gs_ply/gaussians.ply", "mesh/mesh.ply"):
        assert len(PlyData.read(outputs.root / path)["vertex"]) == 0
    import pycolmap

    model = pycolmap.Reconstruction(outputs.root / "colmap" / "sparse" / "0")
    assert model.num_images() == model.num_points3D() == 0


def test_writers_do_not_write_to_blocks(make_context):
    block = plane_block(0, 4, frames=4, full=True)
    arrays = [value for name in block.__slots__ if isinstance(value := getattr(block, name), np.ndarray)]
    assert len(arrays) == 12
    for array in arrays:
        array.flags.writeable = False
    for writer in create_writers(ALL, make_context(frames=4, voxel_size=0.1)):
        write(writer, [block])


class OutputsThatFail(FolderOutputs):
    """Refuses to begin the file or folder after the first `allowed`."""

    allowed = 0

    def _pending(self):
        if self.begun == self.allowed:
            raise OSError("no space left")
        return super()._pending()


@pytest.mark.parametrize("allowed", range(29))
def test_if_one_cannot_begin_nothing_is_left(make_context, tmp_path, allowed):
    (tmp_path / "pending").mkdir()
    outputs = OutputsThatFail(tmp_path / "root", tmp_path / "pending")
    outputs.allowed = allowed
    with pytest.raises(OSError, match="no space left"):
        create_writers(ALL, replace(make_context(), outputs=outputs))
    assert outputs.begun == allowed
    assert outputs.pending() == []


def test_names_are_taken_once_and_in_order(make_context):
    writers = create_writers(["tum", "poses", "tum"], make_context())
    assert [type(writer).__name__ for writer in writers] == ["TumWriter", "PosesWriter"]
    for writer in writers:
        writer.abort()


def test_an_unknown_name_is_an_error_before_anything_begins(make_context, outputs):
    with pytest.raises(ConfigError, match=r"'obj'.*poses, tum, .*, colmap, .*results"):
        create_writers(["poses", "obj"], make_context())
    assert outputs.begun == 0


def test_every_format_that_can_be_written_has_a_name_in_the_options():
    assert _CLASSES.keys() == set(ALL)


def test_a_run_kept_in_full_writes_its_results_too():
    assert export_names(OutputConfig(export=("tum", "pcd"))) == ("tum", "pcd")
    assert export_names(OutputConfig(export=("tum", "pcd"), keep="full")) == ("tum", "pcd", "results")


def test_light_formats_import_no_heavy_package():
    program = (
        "import sys; import da3stream.writers as w; "
        "[w._writer_class(n) for n in w._CLASSES]; "
        "print([m for m in ('torch', 'cv2', 'pycolmap', 'av', 'trimesh', 'OpenEXR') if m in sys.modules])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == "[]"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length():
    """After two fifths, the peak of Python's and numpy's memory grows by poses and names alone."""
    frames = 1200
    command = [sys.executable, "-m", "tests.writers.writing_memory", str(frames)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    early, all_added, finished = json.loads(done.stdout)
    # Poses, intrinsics and names, and what MCAP and rerun gather before they write. With maps and images,
    # 20 kB a frame, it would be 14 MB more.
    assert all_added - early < frames * 600 + 3.5e6
    assert finished - all_added < frames * 600 + 3.5e6
