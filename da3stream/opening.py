"""What a run works on: frames, and what is known of their cameras beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from da3stream.colmap_input import ColmapFolder, is_one_camera
from da3stream.config import Config, KnownConfig
from da3stream.errors import ConfigError
from da3stream.geometry.lens import LensCamera
from da3stream.known_poses import KnownPoses
from da3stream.masks import MaskFolder
from da3stream.prior_check import check_count, check_listed
from da3stream.scene import Frame
from da3stream.source import ImageFolderSource, open_source
from da3stream.source.base import FrameSource
from da3stream.source.known_camera import check_undistorted, with_known_camera
from da3stream.source.undistortion import lens_of

NO_DRIFT = {"loop": False, "coarse": 0}
"""Loops and coarse chunks are there against drift, and known poses do not drift."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class OpenedInput:
    """Frames with what belongs to them. Nothing is decoded yet."""

    source: FrameSource
    config: Config
    """The options, with what follows from the input."""
    poses: KnownPoses | None = None
    masks: MaskFolder | None = None
    poses_in_metres: bool = False

    def posed(self, frame: Frame) -> Frame:
        """The frame with its known pose, or with its prior pose if it has one.

        InputError: it has no known pose.
        """
        if self.config.poses_as == "prior":
            prior = frame.world_from_cam if self.poses is None else self.poses.prior_of(frame)
            return replace(frame, world_from_cam=None, pose_prior=prior)
        return frame if self.poses is None else replace(frame, world_from_cam=self.poses.of(frame))


def open_input(source: str | Path | FrameSource, config: Config) -> OpenedInput:
    """Open the frames, the known poses and the masks that the options name.

    A folder with `images/` and a COLMAP model is known intrinsics and poses, unless the options say others.
    If its images have several cameras, so have the frames and the COLMAP model in the outputs.

    Raises:
        InputError, FormatError: something is not there, cannot be read or does not fit.
    """
    colmap = ColmapFolder.find(source) if isinstance(source, str | Path) else None
    lenses: Mapping[str, LensCamera] = {}
    if colmap is not None and config.intrinsics is None:
        lenses = colmap.lenses()
        if is_one_camera(lenses.values()):
            config, lenses = _with_camera(config, next(iter(lenses.values()))), {}
        else:
            config = config.model_copy(update={"per_frame_cameras": True})
    config = with_known_camera(config, source if colmap is None else colmap.frames(_camera_unknown(config)))
    if colmap is not None:
        opened: FrameSource = colmap.frames(config, lenses)
    else:
        opened = open_source(source, config) if isinstance(source, str | Path) else source
    check_undistorted(opened, config)
    if config.poses_as == "prior" and config.poses is None and colmap is None and opened is not source:
        raise ConfigError("there are no poses to take as priors", hint="Add --poses FILE.")
    path = config.poses or (None if colmap is None else colmap.model)
    poses = None
    if path is not None:
        exact_times = getattr(opened, "timestamps_are_synthetic", False) and config.fps is None
        poses = KnownPoses.load(path, config, exact_times=exact_times)
    if poses is not None and config.poses_as == "prior":
        _check_priors(poses, opened)
    if poses is not None and config.poses_as == "fixed":
        config = config.model_copy(update=NO_DRIFT)
    masks = None if config.masks is None else MaskFolder(config.masks, lens_of(config), lenses)
    if masks is not None and isinstance(opened, ImageFolderSource):
        masks.check_names([image.path.name for image in opened.selected()])
    return OpenedInput(
        source=opened,
        config=config,
        poses=poses,
        masks=masks,
        poses_in_metres=_in_metres(poses, config),
    )


def _check_priors(poses: KnownPoses, source: FrameSource) -> None:
    if isinstance(source, ImageFolderSource):
        check_listed(poses, source.selected())
    else:
        check_count(poses)


def _in_metres(poses: KnownPoses | None, config: KnownConfig) -> bool:
    """Whether the unit of known poses is the metre; of a source's own poses only the options tell."""
    if config.pose_unit == "auto":
        return poses is not None and poses.is_metric_by_custom
    return config.pose_unit == "metre"


def _with_camera(config: Config, camera: LensCamera) -> Config:
    distortion = None if camera.distortion is None else str(camera.distortion)
    return config.model_copy(update={"intrinsics": camera.numbers, "distortion": distortion})


def _camera_unknown(config: Config) -> Config:
    return config.model_copy(update={"intrinsics": None, "distortion": None})


def open_frames(path: str | Path, config: Config) -> FrameSource:
    """The frames alone, with the options of a run; of a COLMAP folder the images that have a pose.

    Raises what `open_source` raises.
    """
    colmap = ColmapFolder.find(path)
    if colmap is None:
        return open_source(path, config)
    # The options of a run have the camera if it is one.
    return colmap.frames(config, colmap.lenses() if config.intrinsics is None else None)
