"""Every format of a finished run, read by a program that is not ours, drawn through its own camera.

    da3stream run images/ -o RUN --keep full --export pcd,glb,mesh,...
    python benchmarks/formats.py RUN --frame 20 -o formats.json --picture formats.png

Every tile is drawn from what one format holds, by that format's own conventions: its points, in its world,
through its camera. Depth is un-projected in the frame that lies `--step` before and drawn as this frame sees
it, so that depth, both poses and the intrinsics count. A wrong axis, a transposed rotation or a principal
point that is off is visible at once beside the photo. `correlation` is that of the drawn grey values with
the photo's, where a point was drawn (`covered`). `turned` is the same for the camera turned half around its
own axis of sight: what a wrong convention would give. Formats that the run does not have are said. The last
tiles show formats whose viewers have an up axis from the side and above, as they draw them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from metadata import describe_environment
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.writers.test_robot_formats import READERS

Array = NDArray[Any]
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
"""Between OpenCV's camera axes and OpenGL's."""
TILE_HEIGHT, LABEL_HEIGHT, GAP = 200, 36, 6
WIDTH = 1600
"""Of the picture, all in pixels."""


@dataclass(kw_only=True)
class View:
    """Points of a format and one of its cameras, brought to OpenCV's axes by what the format says."""

    points_in_world: Array
    colors: Array
    cam_from_world: Array
    intrinsics: Array
    """Of an image of `size`, the centre of the top-left pixel at (0.5, 0.5)."""
    size: tuple[int, int]
    """Width and height."""
    up: tuple[float, float, float] | None = None
    """The direction that viewers of the format draw upwards."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--frame", type=int, default=20, help="Of the run, from 0.")
    parser.add_argument("--step", type=int, default=6, help="Frames to the one whose depth is drawn.")
    parser.add_argument("-o", "--output", type=Path, help="JSON file; default: standard output.")
    parser.add_argument("--picture", type=Path, help="PNG with all tiles.")
    arguments = parser.parse_args()
    formats = Formats(arguments.run, arguments.frame, arguments.step)
    measured: dict[str, Any] = {}
    tiles = [labelled(scaled(formats.photo), "the photo")]
    from_above = []
    for name, read in formats.readers():
        try:
            view = read()
        except FileNotFoundError:
            measured[name] = "not in this run"
            continue
        drawn, told = compare(view, formats.photo)
        measured[name] = told
        tiles.append(labelled(drawn, f"{name}  r = {told['correlation']}"))
        if view.up is not None:
            from_above.append(labelled(side_view(view), f"{name}: up {view.up}"))
    report = {"formats": measured}
    asked = {"frame": arguments.frame, "step": arguments.step}
    text = json.dumps({**report, "environment": describe_environment(asked)}, indent=2) + "\n"
    if arguments.output is None:
        print(text, end="")
    else:
        arguments.output.write_text(text)
    if arguments.picture is not None:
        picture = stacked([sheet(tiles, WIDTH), sheet(from_above, WIDTH)])
        cv2.imwrite(str(arguments.picture), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


class Formats:
    """What a run directory holds, format by format; every method reads with another program's reader."""

    def __init__(self, run: Path, frame: int, step: int) -> None:
        self._run, self._frame, self._other = run, frame, frame - step
        frames = json.loads((run / "cameras.json").read_text())["frames"]
        described = frames[frame]
        self._name: str = described["name"]
        self._other_name: str = frames[self._other]["name"]
        self._size = (int(described["width"]), int(described["height"]))
        k = described["intrinsics"]
        self._intrinsics = matrix(k["fx"], k["fy"], k["cx"], k["cy"])
        """Of the images, as cameras.json has it; for formats that hold no camera matrix."""
        self.photo = self._read_photo(self._name)

    def readers(self) -> Iterator[tuple[str, Callable[[], View]]]:
        yield "pcd + tum", lambda: replace(self._cloud_with(self._tum()), up=(0, -1, 0))
        yield "pcd + kitti", lambda: self._cloud_with(self._kitti())
        yield "pcd + poses", lambda: self._cloud_with(self._poses())
        yield "pcd + K.txt", lambda: self._cloud_with(self._tum(), self._k())
        yield "colmap tracks", self._colmap
        yield "colmap points3D.ply", lambda: self._colmap(dense=True)
        yield "glb", self._glb
        yield "mesh", self._mesh
        yield "nerfstudio", self._nerfstudio
        yield "nerfstudio depth", lambda: self._nerfstudio(depth=True)
        yield "ply_chunks", self._chunks
        yield "npz", lambda: self._npz("npz")
        yield "mini_npz", lambda: self._npz("mini_npz")
        yield "results_output", self._results
        yield "depth_png", self._depth_png
        yield "depth_exr", self._depth_exr
        for name in READERS:
            yield f"{name} points", lambda name=name: self._recording(name)
            yield f"{name} depth", lambda name=name: self._recording(name, depth=True)

    def _read_photo(self, name: str) -> Array:
        """A frame as the run saw it, its distortion taken out."""
        image = cv2.imread(str(self._run / "colmap" / "images" / name))
        if image is None:
            raise SystemExit("benchmarks/formats.py needs the run's colmap/images: --export colmap")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    def _cloud_with(self, world_from_cam: Array, intrinsics: Array | None = None) -> View:
        points, colors = ply(self._run / "pcd" / "combined_pcd.ply")
        k = self._intrinsics if intrinsics is None else intrinsics
        return View(
            points_in_world=points,
            colors=colors,
            cam_from_world=np.linalg.inv(world_from_cam),
            intrinsics=k,
            size=self._size,
        )

    def _tum(self, frame: int | None = None) -> Array:
        from evo.tools import file_interface

        path = existing(self._run / "trajectory_tum.txt")
        poses = file_interface.read_tum_trajectory_file(path).poses_se3
        return np.array(poses[self._frame if frame is None else frame])

    def _kitti(self) -> Array:
        from evo.tools import file_interface

        path = existing(self._run / "trajectory_kitti.txt")
        return np.array(file_interface.read_kitti_poses_file(path).poses_se3[self._frame])

    def _poses(self, frame: int | None = None) -> Array:
        row = self._frame if frame is None else frame
        return np.loadtxt(self._run / "camera_poses.txt")[row].reshape(4, 4)

    def _k(self) -> Array:
        """OpenCV's pixels have their centres at whole numbers."""
        k = np.loadtxt(self._run / "K.txt")
        k[:2, 2] += 0.5
        return k

    def _colmap(self, dense: bool = False) -> View:
        import pycolmap

        model = pycolmap.Reconstruction(existing(self._run / "colmap" / "sparse" / "0"))
        (image,) = [image for image in model.images.values() if image.name == self._name]
        if dense:
            points, colors = ply(self._run / "colmap" / "sparse" / "0" / "points3D.ply")
        else:
            points = np.array([point.xyz for point in model.points3D.values()])
            colors = np.array([point.color for point in model.points3D.values()])
        camera = image.camera
        return View(
            points_in_world=points,
            colors=colors,
            cam_from_world=np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]]),
            intrinsics=camera.calibration_matrix(),
            size=(camera.width, camera.height),
        )

    def _glb(self) -> View:
        """y is up; the camera is where the trajectory says, turned to glTF's world."""
        import trimesh

        scene = trimesh.load(existing(self._run / "scene.glb"))
        cloud = scene.geometry[next(name for name in scene.geometry if "points" in name)]
        return View(
            points_in_world=np.asarray(cloud.vertices),
            colors=np.asarray(cloud.colors)[:, :3],
            cam_from_world=np.linalg.inv(FLIP @ self._tum()),
            intrinsics=self._intrinsics,
            size=self._size,
            up=(0, 1, 0),
        )

    def _mesh(self) -> View:
        import trimesh

        mesh = trimesh.load(existing(self._run / "mesh" / "mesh.ply"), process=False)
        return View(
            points_in_world=np.asarray(mesh.vertices),
            colors=np.asarray(mesh.visual.vertex_colors)[:, :3],
            cam_from_world=np.linalg.inv(self._tum()),
            intrinsics=self._intrinsics,
            size=self._size,
            up=(0, -1, 0),
        )

    def _nerfstudio(self, depth: bool = False) -> View:
        folder = self._run / "nerfstudio"
        content = json.loads((folder / "transforms.json").read_text())
        frames = {Path(frame["file_path"]).name: frame for frame in content["frames"]}
        here, other = (
            np.array(frames[name]["transform_matrix"]) @ FLIP for name in (self._name, self._other_name)
        )
        k = matrix(*(content[name] for name in ("fl_x", "fl_y", "cx", "cy")))
        size = (content["w"], content["h"])
        if depth:
            path = folder / frames[self._other_name]["depth_file_path"]
            metres = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) * content.get(
                "depth_unit_scale_factor", 1e-3
            )
            return self._unprojected(metres, k, size, other, here)
        points, colors = ply(folder / content["ply_file_path"])
        return View(
            points_in_world=points,
            colors=colors,
            cam_from_world=np.linalg.inv(here),
            intrinsics=k,
            size=size,
            up=(0, 0, 1),
        )

    def _chunks(self) -> View:
        files = sorted((self._run / "chunks").glob("*.ply"))
        if not files:
            raise FileNotFoundError
        parts = [ply(file) for file in files]
        return replace(
            self._cloud_with(self._tum()),
            points_in_world=np.concatenate([points for points, _ in parts]),
            colors=np.concatenate([colors for _, colors in parts]),
        )

    def _npz(self, folder: str) -> View:
        arrays = np.load(self._run / folder / "results.npz")
        other, here = (
            np.linalg.inv(np.vstack([arrays["extrinsics"][frame], [0, 0, 0, 1]]))
            for frame in (self._other, self._frame)
        )
        depth = np.where(arrays["conf"][self._other] > 0, arrays["depth"][self._other], 0)
        return self._unprojected(depth, arrays["intrinsics"][self._other], depth.shape[::-1], other, here)

    def _results(self) -> View:
        arrays = np.load(self._run / "results_output" / f"frame_{self._other}.npz")
        depth = np.where(arrays["conf"] > 0, arrays["depth"], 0)
        poses = self._poses(self._other), self._poses()
        return self._unprojected(depth, arrays["intrinsics"], depth.shape[::-1], *poses)

    def _depth_png(self) -> View:
        folder = self._run / "depth_png"
        told = json.loads((folder / "depth.json").read_text())
        frame = told["frames"][self._other]
        pixels = cv2.imread(str(folder / frame["file"]), cv2.IMREAD_UNCHANGED)
        return self._described(pixels * told["world_units_per_step"], frame)

    def _depth_exr(self) -> View:
        import OpenEXR

        folder = self._run / "depth_exr"
        frame = json.loads((folder / "depth.json").read_text())["frames"][self._other]
        with OpenEXR.File(str(folder / frame["file"])) as image:
            return self._described(image.channels()["Z"].pixels.copy(), frame)

    def _described(self, depth: Array, frame: dict[str, Any]) -> View:
        k = matrix(frame["fx"], frame["fy"], frame["cx"], frame["cy"])
        poses = self._tum(self._other), self._tum()
        return self._unprojected(depth, k, (frame["width"], frame["height"]), *poses)

    def _recording(self, name: str, depth: bool = False) -> View:
        existing(self._run / name)
        found = READERS[name](self._run)
        frame = self._other if depth else self._frame
        k = found.depth_intrinsics[frame].copy()
        k[:2, 2] += 0.5 - found.half
        metres, here = found.depth[frame], found.world_from_cam[self._frame]
        if depth:
            return self._unprojected(metres, k, metres.shape[::-1], found.world_from_cam[frame], here)
        return View(
            points_in_world=np.concatenate(found.points_in_world),
            colors=np.concatenate(found.colors),
            cam_from_world=np.linalg.inv(here),
            intrinsics=k,
            size=metres.shape[::-1],
        )

    def _unprojected(
        self,
        depth: Array,
        intrinsics: Array,
        size: tuple[int, int],
        world_from_other: Array,
        world_from_cam: Array,
    ) -> View:
        """Depth of the other frame along its axis of sight as points, in the colours of its photo.

        `intrinsics` are those of an image of `size`.
        """
        height, width = depth.shape
        v, u = np.mgrid[:height, :width] + 0.5
        x = (u * size[0] / width - intrinsics[0, 2]) / intrinsics[0, 0] * depth
        y = (v * size[1] / height - intrinsics[1, 2]) / intrinsics[1, 1] * depth
        is_known = np.isfinite(depth) & (depth > 0)
        points_in_cam = np.stack([x, y, depth], axis=-1)[is_known]
        photo = self._read_photo(self._other_name)
        return View(
            points_in_world=points_in_cam @ world_from_other[:3, :3].T + world_from_other[:3, 3],
            colors=cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)[is_known],
            cam_from_world=np.linalg.inv(world_from_cam),
            intrinsics=intrinsics,
            size=size,
        )


def existing(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(path)
    return path


def matrix(fx: float, fy: float, cx: float, cy: float) -> Array:
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])


def ply(path: Path) -> tuple[Array, Array]:
    from plyfile import PlyData

    vertex = PlyData.read(str(existing(path)))["vertex"]
    points = np.stack([vertex[axis] for axis in "xyz"], axis=1).astype(np.float64)
    return points, np.stack([vertex[name] for name in ("red", "green", "blue")], axis=1)


def compare(view: View, photo: Array) -> tuple[Array, dict[str, float]]:
    """The drawn view, and how much it looks like the photo."""
    reference = scaled(photo)
    drawn, is_drawn = splat(view, view.cam_from_world, reference.shape[:2])
    turned, is_turned = splat(view, np.diag([-1.0, -1, 1, 1]) @ view.cam_from_world, reference.shape[:2])
    return drawn, {
        "correlation": correlation(drawn, reference, is_drawn),
        "turned": correlation(turned, reference, is_turned),
        "covered": round(float(is_drawn.mean()), 3),
        "points": len(view.points_in_world),
    }


def splat(view: View, cam_from_world: Array, shape: tuple[int, int]) -> tuple[Array, Array]:
    """(h, w, 3) picture of the points, the nearest of each pixel, and where there is one."""
    height, width = shape
    in_cam = view.points_in_world @ cam_from_world[:3, :3].T + cam_from_world[:3, 3]
    scale = np.array([width / view.size[0], height / view.size[1]])
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = (in_cam @ view.intrinsics.T)[:, :2] / in_cam[:, 2:] * scale
    is_seen = (in_cam[:, 2] > 0) & (pixels >= 0).all(1) & (pixels < [width, height]).all(1)
    order = np.argsort(-in_cam[is_seen, 2], kind="stable")
    column, row = pixels[is_seen][order].astype(int).T
    picture = np.full((height, width, 3), 24, np.uint8)
    is_drawn = np.zeros((height, width), bool)
    size = 1 if is_seen.sum() > 0.3 * height * width else 2
    for right in range(size):
        for down in range(size):
            at = np.minimum(row + down, height - 1), np.minimum(column + right, width - 1)
            picture[at] = view.colors[is_seen][order]
            is_drawn[at] = True
    return picture, is_drawn


def correlation(drawn: Array, reference: Array, where: Array) -> float:
    if where.sum() < 100:
        return 0.0
    a, b = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[where].astype(float) for image in (drawn, reference))
    return round(float(np.corrcoef(a, b)[0, 1]), 3)


def side_view(view: View) -> Array:
    """From behind the camera, above and to its right, `up` upwards: what a viewer of the format shows."""
    assert view.up is not None
    world_from_cam = np.linalg.inv(view.cam_from_world)
    up = np.array(view.up, dtype=float)
    forward = world_from_cam[:3, 2] - up * (world_from_cam[:3, 2] @ up)
    forward /= np.linalg.norm(forward)
    near = view.points_in_world - world_from_cam[:3, 3]
    distance = float(np.median(np.linalg.norm(near, axis=1)))
    target = world_from_cam[:3, 3] + distance * 0.8 * forward
    eye = target + distance * (-1.5 * forward + 0.9 * up + 0.7 * np.cross(forward, up))
    z = (target - eye) / np.linalg.norm(target - eye)
    x = np.cross(z, up)
    x /= np.linalg.norm(x)
    cam_from_world = np.eye(4)
    cam_from_world[:3, :3] = [x, np.cross(z, x), z]
    cam_from_world[:3, 3] = -cam_from_world[:3, :3] @ eye
    width, height = int(TILE_HEIGHT * 1.2), TILE_HEIGHT
    k = matrix(0.9 * width, 0.9 * width, width / 2, height / 2)
    seen = View(
        points_in_world=view.points_in_world,
        colors=view.colors,
        cam_from_world=cam_from_world,
        intrinsics=k,
        size=(width, height),
    )
    return splat(seen, cam_from_world, (height, width))[0]


def scaled(image: Array) -> Array:
    width = round(image.shape[1] * TILE_HEIGHT / image.shape[0])
    return cv2.resize(image, (width, TILE_HEIGHT), interpolation=cv2.INTER_AREA)


def labelled(tile: Array, text: str) -> Array:
    bar = np.full((LABEL_HEIGHT, tile.shape[1], 3), 255, np.uint8)
    name, _, value = text.partition("  ")
    for line, part in enumerate((name, value)):
        cv2.putText(bar, part, (4, 15 + 18 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([bar, tile])


def sheet(tiles: list[Array], width: int) -> Array:
    """Tiles in rows of at most `width` pixels."""
    each = max(tile.shape[1] for tile in tiles) + GAP
    padded = [np.pad(t, ((0, GAP), (0, each - t.shape[1]), (0, 0)), constant_values=255) for t in tiles]
    columns = max(1, width // each)
    rows = [np.hstack(padded[start : start + columns]) for start in range(0, len(padded), columns)]
    return stacked(rows)


def stacked(pictures: list[Array]) -> Array:
    width = max(picture.shape[1] for picture in pictures)
    return np.vstack(
        [np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in pictures]
    )


if __name__ == "__main__":
    main()
