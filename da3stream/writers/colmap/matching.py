"""Features of the images and their matches, verified by our poses, into the database.

Imported by the worker process only.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import pycolmap
from numpy.typing import NDArray

from da3stream.errors import UnreadableImageError
from da3stream.features import CONTRAST_THRESHOLD, RATIO, Features, detect_features, match_features
from da3stream.geometry.epipolar import (
    essential_matrix,
    fundamental_matrix,
    infinite_homography,
    second_from_first,
    squared_sampson_error,
)
from da3stream.writers.colmap.earlier import EarlierFolder

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
_AHEAD, _BEHIND = 16, 8
"""Images whose features are being found, and whose matches are, beside the one that is written."""
_Result = TypeVar("_Result")


class FeatureStore:
    """Features of the images: written to the database once, the latest also kept in memory."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self._recent: OrderedDict[int, Features] = OrderedDict()

    def put(self, image_id: int, features: Features) -> None:
        """Keep the features of an image, with points in pixels of the image in the folder."""
        self._database.write_keypoints(image_id, features.points)
        self._database.write_descriptors(
            image_id,
            pycolmap.FeatureDescriptors(pycolmap.FeatureExtractorType.SIFT, features.descriptors),
        )
        self._remember(image_id, features)

    def of(self, image_id: int) -> Features:
        """The features of an image that were put."""
        if image_id not in self._recent:
            self._remember(image_id, self._read(image_id))
        self._recent.move_to_end(image_id)
        return self._recent[image_id]

    def _remember(self, image_id: int, features: Features) -> None:
        self._recent[image_id] = features
        if len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)

    def _read(self, image_id: int) -> Features:
        return Features(
            points=np.asarray(self._database.read_keypoints(image_id), dtype=np.float32)[:, :2],
            descriptors=np.asarray(self._database.read_descriptors(image_id).data, dtype=np.uint8),
        )


def settings() -> str:
    """What features and matches of an image depend on beside its bytes."""
    return (
        f"SIFT {MAX_FEATURES} at {MAX_SIDE} px, contrast {CONTRAST_THRESHOLD}, ratio {RATIO}, "
        f"OpenCV {cv2.__version__}"
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
    database: Any,
    paths: Mapping[str, Path],
    views: Sequence[View],
    pairs: Iterable[tuple[int, int]],
    *,
    earlier: EarlierFolder | None,
    workers: int,
    say: Callable[[int], None],
) -> int:
    """Find features and match pairs of images, image by image; returns how many pairs match.

    Writes features, matches and two-view geometries. The library's code runs in threads, which leave Python's
    lock alone there; what is written, and in which order, does not depend on their number.

    Args:
        database: a `pycolmap.Database` that knows the images.
        paths: name -> file; image i of them has the id i + 1.
        views: of each image.
        pairs: numbers of images from 0.
        earlier: a folder whose features and matches were made with the same `settings`; those of images that
            are still the same are taken from there. What is written is the same without it.
        workers: threads.
        say: is told how many images are done.

    Raises:
        UnreadableImageError: an image cannot be decoded.
    """
    store, source, matched = FeatureStore(database), _Source(paths, earlier), 0
    partners: dict[int, list[int]] = {}
    for first, second in sorted(pairs):
        partners.setdefault(second, []).append(first)
    with ThreadPoolExecutor(workers) as pool:
        found = _in_order(pool, source.features, ((number,) for number in range(len(paths))), ahead=_AHEAD)
        waiting: deque[tuple[int, int, Future[_PairMatches]]] = deque()
        for number, features in enumerate(found):
            store.put(number + 1, features)
            for first in partners.get(number, []):
                pair = first, number
                task = pool.submit(_match, source, pair, (store.of(first + 1), features), views)
                waiting.append((*pair, task))
            while waiting and (waiting[0][1] <= number - _BEHIND or number + 1 == len(paths)):
                first, second, task = waiting.popleft()
                matched += _write(database, views, first, second, task.result())
            say(number + 1)
    return matched


def _in_order(
    pool: ThreadPoolExecutor, do: Callable[..., _Result], arguments: Iterable[tuple[Any, ...]], ahead: int
) -> Iterator[_Result]:
    """Results in the order of the arguments; at most `ahead` more are begun."""
    begun: deque[Future[_Result]] = deque()
    for each in arguments:
        begun.append(pool.submit(do, *each))
        if len(begun) > ahead:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _PairMatches:
    """Matches of two images."""

    rows: NDArray[np.int32]
    """(M, 2) rows of their features."""
    kept: NDArray[np.bool_]
    """(M,) which of them fit the poses."""


class _Source:
    """Features and matches, new ones or those of an earlier folder. For use in several threads."""

    def __init__(self, paths: Mapping[str, Path], earlier: EarlierFolder | None) -> None:
        self._names, self._paths, self._earlier = list(paths), list(paths.values()), earlier
        self._are_known = np.zeros(len(paths), dtype=bool)

    def features(self, number: int) -> Features:
        """Of an image."""
        name, path = self._names[number], self._paths[number]
        if self._earlier is not None and self._earlier.has(name, path):
            features = self._earlier.features(name)
            if features is not None:
                self._are_known[number] = True
                return features
        return image_features(path)

    def matches(self, first: int, second: int, features: tuple[Features, Features]) -> NDArray[np.int32]:
        """(M, 2) rows of the features of two images."""
        if self._earlier is not None and self._are_known[first] and self._are_known[second]:
            rows = self._earlier.matches(self._names[first], self._names[second])
            if rows is not None:
                return rows
        return match_features(*features)


def _match(
    source: _Source, pair: tuple[int, int], features: tuple[Features, Features], views: Sequence[View]
) -> _PairMatches:
    rows = source.matches(*pair, features)
    first_px, second_px = (each.points[rows[:, side]].astype(float) for side, each in enumerate(features))
    kept = verified(first_px, second_px, views[pair[0]], views[pair[1]])
    return _PairMatches(rows=rows, kept=kept)


def _write(database: Any, views: Sequence[View], first: int, second: int, matches: _PairMatches) -> bool:
    """Write a pair unless too few of its matches fit the poses; returns whether it was written."""
    if np.count_nonzero(matches.kept) < MIN_MATCHES:
        return False
    database.write_matches(first + 1, second + 1, matches.rows.astype(np.uint32))
    geometry = two_view_geometry(views[first], views[second], matches.rows[matches.kept])
    database.write_two_view_geometry(first + 1, second + 1, geometry)
    return True


def follow_poses(database: Any, views: Sequence[View]) -> None:
    """Make all two-view geometries those of other poses and cameras; their matches stay.

    Args:
        database: a `pycolmap.Database` that `match_images` has filled.
        views: of each image, as they are now.
    """
    for pair_id, old in zip(*database.read_two_view_geometries(), strict=True):
        first, second = pycolmap.pair_id_to_image_pair(pair_id)
        new = two_view_geometry(views[first - 1], views[second - 1], old.inlier_matches)
        database.update_two_view_geometry(first, second, new)


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


def two_view_geometry(first: View, second: View, matches: NDArray[Any]) -> Any:
    """A `pycolmap.TwoViewGeometry`: the relative pose of two views, with (M, 2) matches that it explains."""
    poses = first.cam_from_world, second.cam_from_world
    return pycolmap.TwoViewGeometry(
        config=pycolmap.TwoViewGeometryConfiguration.CALIBRATED,
        E=essential_matrix(*poses),
        F=fundamental_matrix(*poses, first.intrinsics, second.intrinsics),
        cam2_from_cam1=pycolmap.Rigid3d(second_from_first(*poses)),
        inlier_matches=matches.astype(np.uint32),
    )
