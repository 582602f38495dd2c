"""Output formats, one file each. `create_writers` imports only the formats that are asked for."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from da3stream.config import OutputConfig
from da3stream.errors import ConfigError
from da3stream.writers.base import Writer, WriterContext

__all__ = ["Writer", "WriterContext", "check_installed", "create_writers", "export_names"]

_CLASSES = {
    "poses": "poses.PosesWriter",
    "tum": "tum.TumWriter",
    "kitti": "kitti.KittiWriter",
    "cameras": "cameras.CamerasWriter",
    "loops": "loop_closures.LoopClosuresWriter",
    "trajectory": "trajectory.TrajectoryWriter",
    "pcd": "pcd.PcdWriter",
    "colmap": "colmap.ColmapWriter",
    "rerun": "rerun.RerunWriter",
    "mcap": "mcap.McapWriter",
    "ros2bag": "ros2bag.Ros2BagWriter",
    "gs_ply": "gaussian_ply.GaussianPlyWriter",
    "mesh": "mesh.MeshWriter",
    "k": "k.KWriter",
    "orbslam3": "orbslam3.OrbSlam3Writer",
    "openvins": "openvins.OpenVinsWriter",
    "results": "results.ResultsWriter",
    "ply_chunks": "ply_chunks.PlyChunksWriter",
    "glb": "glb.GlbWriter",
    "nerfstudio": "nerfstudio.NerfstudioWriter",
    "npz": "npz_stream.NpzWriter",
    "mini_npz": "npz_stream.MiniNpzWriter",
    "depth_vis": "depth_video.DepthVisWriter",
    "depth_png": "depth_png.DepthPngWriter",
    "depth_exr": "depth_exr.DepthExrWriter",
}


def export_names(config: OutputConfig) -> tuple[str, ...]:
    """The formats that a run writes at its end: those of `export`, and `results` if it is kept in full."""
    implied = ("results",) if config.keep == "full" else ()
    return tuple(dict.fromkeys((*config.export, *implied)))


def check_installed(names: Iterable[str]) -> None:
    """Whether all packages that these formats need are there, to be asked before anything is computed.

    Raises:
        ConfigError: a name is not known.
        MissingDependencyError: a package is missing; the message says how to install it.
    """
    for name in dict.fromkeys(names):
        _writer_class(name).check_installed()


def with_originals(names: Iterable[str]) -> tuple[str, ...]:
    """Those of these formats that hold images of the input, at their own size. ConfigError as above."""
    return tuple(name for name in dict.fromkeys(names) if _writer_class(name).has_originals)


def create_writers(names: Iterable[str], context: WriterContext) -> list[Writer]:
    """Begin one writer for each of these formats, without repetitions and in this order.

    If one cannot begin, those before it are aborted, so that nothing stays behind.

    Raises:
        ConfigError: a name is not known.
    """
    classes = [_writer_class(name) for name in dict.fromkeys(names)]
    writers: list[Writer] = []
    try:
        for writer_class in classes:
            writers.append(writer_class(context))
    except BaseException:
        for writer in writers:
            writer.abort()
        raise
    return writers


def _writer_class(name: str) -> type[Writer]:
    if name not in _CLASSES:
        raise ConfigError("unknown output format", got=repr(name), expected=f"one of {', '.join(_CLASSES)}")
    module, _, class_name = _CLASSES[name].partition(".")
    found: type[Writer] = getattr(import_module(f"da3stream.writers.{module}"), class_name)
    return found
