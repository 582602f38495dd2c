"""da3stream: monocular video in; camera poses, depth, a point cloud and a COLMAP model out.

    source -> selection -> chunking -> estimation -> alignment, loops -> optimisation -> assembly -> writers
     Frame      Frame        Chunk       Submap         SubmapEdge       PoseGraph      Trajectory   files

    result = da3stream.reconstruct("video.mp4", "out/")
    result.trajectory.world_from_cam        # (N, 4, 4)

Names are imported on first use, so that `import da3stream` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from da3stream.config import Config, load_config
    from da3stream.errors import (
        ConfigError,
        Da3StreamError,
        DeviceMemoryError,
        EstimationError,
        FormatError,
        InputError,
        MissingDependencyError,
        StoreError,
        WeightsError,
    )
    from da3stream.estimation.base import GeometryEstimator
    from da3stream.geometry.sim3 import Sim3
    from da3stream.pipeline import align, export, reconstruct, stream
    from da3stream.place.base import PlaceDescriptor
    from da3stream.progress import Progress
    from da3stream.result import Result, Update
    from da3stream.scene import Frame, KnownCameras, Prediction, Trajectory, WorldAlignment
    from da3stream.source.base import FrameSource
    from da3stream.world_frame import KnownDistance, ScenePoint

__version__ = "0.1.0"

_HOME = {
    "config": ("Config", "load_config"),
    "errors": (
        "ConfigError",
        "Da3StreamError",
        "DeviceMemoryError",
        "EstimationError",
        "FormatError",
        "InputError",
        "MissingDependencyError",
        "StoreError",
        "WeightsError",
    ),
    "estimation.base": ("GeometryEstimator",),
    "geometry.sim3": ("Sim3",),
    "pipeline": ("align", "export", "reconstruct", "stream"),
    "place.base": ("PlaceDescriptor",),
    "progress": ("Progress",),
    "result": ("Result", "Update"),
    "scene": ("Frame", "KnownCameras", "Prediction", "Trajectory", "WorldAlignment"),
    "source.base": ("FrameSource",),
    "world_frame": ("KnownDistance", "ScenePoint"),
}
_MODULE_OF = {name: f"{__name__}.{module}" for module, names in _HOME.items() for name in names}

__all__ = [
    "Config",
    "ConfigError",
    "Da3StreamError",
    "DeviceMemoryError",
    "EstimationError",
    "FormatError",
    "Frame",
    "FrameSource",
    "GeometryEstimator",
    "InputError",
    "KnownCameras",
    "KnownDistance",
    "MissingDependencyError",
    "PlaceDescriptor",
    "Prediction",
    "Progress",
    "Result",
    "ScenePoint",
    "Sim3",
    "StoreError",
    "Trajectory",
    "Update",
    "WeightsError",
    "WorldAlignment",
    "align",
    "export",
    "load_config",
    "reconstruct",
    "stream",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
