"""Features of the images and their matches, verified by our poses, into the database.

Imported by the worker process only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycolmap
from numpy.typing import NDArray

from da3stream.errors import UnreadableImageError
from da3stream.features import Features, detect_features, match_features
from da3stream.geometry.epipolar import (
    essential_matrix,
    fundamental_matrix,
    infinite_homography,
    second_from_first,
    squared_sampson_error,
)

MAX_FEATURES = 2048
MAX_SIDE = 1280
"""Pixels. Larger images are shrunk to this longest side to find features in."""
MAX_ERROR = 4.0 / 1000
"""How far a match may lie from its epipolar line, relative to the longest side of the image..."""
MIN_ERROR_PX = 4.0
"""... or in pixels: COLMAP's own threshold, whichever is more."""
MIN_MATCHES = 15
"""Fewer in a pair are chance: COLMAP's own threshold."""
_REMEMBERED = 32
"""Images whose features are kept in memory, more than the longest offset: 0.3 MB each."""


class FeatureStore:
    """Features of the images: found once, kept in the database, the latest also in memory."""

    def __init__(self, database: Any, folder: Path, model: Any) -> None:
        self._database, self._folder, self._model = database, folder, model
        self._recent: OrderedDict[int, Features] = OrderedDict()

    def of(self, image_id: int) -> Features:
        """The features of an image, with points in pixels of the image in the folder."""
        if image_id not in self._recent:
            known = self._database.exists_keypoints(image_id)
            self._recent[image_id] = self._read(image_id) if known else self._find(image_id)
            if len(self._recent) > _REMEMBERED:
                self._recent.popitem(last=False)
        self._recent.move_to_end(image_id)
        return self._recent[image_id]

    def _find(self, image_id: int) -> Features:
        features = image_features(self._folder / self._model.images[image_id].name)
        self._database.write_keypoints(image_id, features.points)
        self._database.write_descriptors(
            image_id,
            pycolmap.FeatureDescriptors(pycolmap.FeatureExtractorType.SIFT, features.descriptors),
        )
        return features

    def _read(self, image_id: int) -> Features:
        return Features(
            points=np.asarray(self._database.read_keypoints(image_id), dtype=np.float32)[:, :2],
            descriptors=np.asarray(self._database.read_descriptors(image_id).data, dtype=np.uint8),
        )


def image_features(path: Path) -> Features:
    """At most about `MAX_FEATURES` SIFT features of an image file.

    Raises:
        UnreadableImageError: it cannot be decoded.
    """
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise UnreadableImageError(f"the image {path.name} of colmap/images cannot be decoded")
    height, width = bgr.shape[:2]
    factor = min(1.0, MAX_SIDE / max(height, width))
    small = (max(1, round(width * factor)), max(1, round(height * factor)))
    if factor < 1.0:
        bgr = cv2.resize(bgr, small, interpolation=cv2.INTER_AREA)
    features = detect_features(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), MAX_FEATURES)
    scale = np.array([width / small[0], height / small[1]], dtype=np.float32)
    return Features(points=features.points * scale, descriptors=features.descriptors)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class View:
    """What verification knows of an image."""

    cam_from_world: NDArray[np.float64]
    """(3, 4)."""
    intrinsics: NDArray[np.float64]
    """(3, 3) in pixels of the image."""
    longest_side: int
    """Pixels."""
    typical_depth: float
    """Median depth in world units; infinite if unknown."""

    @property
    def max_error_px(self) -> float:
        """How far a match may lie from where it belongs."""
        return max(MIN_ERROR_PX, MAX_ERROR * self.longest_side)


def match_images(
    database: Any, store: FeatureStore, views: Sequence[View], pairs: Sequence[tuple[int, int]]
) -> int:
    """Match pairs of images and write matches and two-view geometries; returns how many pairs have any.

    Args:
        database: a `pycolmap.Database` that knows the images.
        store: their features.
        views: of each image; image i has the id i + 1.
        pairs: numbers of images from 0.
    """
    matched = 0
    for first, second in pairs:
        features = store.of(first + 1), store.of(second + 1)
        matches = match_features(*features)
        kept = verified(
            features[0].points[matches[:, 0]].astype(np.float64),
            features[1].points[matches[:, 1]].astype(np.float64),
            views[first],
            views[second],
        )
        if np.count_nonzero(kept) >= MIN_MATCHES:
            matched += 1
            database.write_matches(first + 1, second + 1, matches.astype(np.uint32))
            geometry = _two_view_geometry(views[first], views[second], matches[kept])
            database.write_two_view_geometry(first + 1, second + 1, geometry)
    return matched


def verified(
    first_px: NDArray[np.float64], second_px: NDArray[np.float64], first: View, second: View
) -> NDArray[np.bool_]:
    """(M,) whether (M, 2) pixels match by the poses of their images.

    They must lie near each other's epipolar lines. These say nothing where the camera hardly moved: there
    the pixels must lie where the rotation takes them, but for what the movement can do.
    """
    limit = min(first.max_error_px, second.max_error_px)
    arguments = first.cam_from_world, second.cam_from_world, first.intrinsics, second.intrinsics
    parallax_px = _parallax_px(first, second)
    if parallax_px < limit:
        shift = _project(infinite_homography(*arguments), first_px) - second_px
        return np.asarray(np.linalg.norm(shift, axis=1) <= limit + parallax_px)
    return squared_sampson_error(fundamental_matrix(*arguments), first_px, second_px) <= limit**2


def _parallax_px(first: View, second: View) -> float:
    """How far the movement between two images shifts a point at the typical depth, at most."""
    baseline = np.linalg.norm(second_from_first(first.cam_from_world, second.cam_from_world)[:, 3])
    depth = min(first.typical_depth, second.typical_depth)
    return float(baseline * max(first.intrinsics[0, 0], second.intrinsics[0, 0]) / depth)


def _project(homography: NDArray[np.float64], pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    projected = pixels @ homography[:, :2].T + homography[:, 2]
    # What the rotation takes behind the camera matches nothing.
    ahead = np.where(projected[:, 2:] > 0, projected[:, 2:], np.nan)
    return np.asarray(np.nan_to_num(projected[:, :2] / ahead, nan=np.inf))


def _two_view_geometry(first: View, second: View, matches: NDArray[np.int32]) -> Any:
    """Our own relative pose, with the matches that it explains."""
    poses = first.cam_from_world, second.cam_from_world
    return pycolmap.TwoViewGeometry(
        config=pycolmap.TwoViewGeometryConfiguration.CALIBRATED,
        E=essential_matrix(*poses),
        F=fundamental_matrix(*poses, first.intrinsics, second.intrinsics),
        cam2_from_cam1=pycolmap.Rigid3d(second_from_first(*poses)),
        inlier_matches=matches.astype(np.uint32),
    )
