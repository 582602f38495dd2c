"""Poses for the images that a mapper left over, and a frame and scale that are sane."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from da3stream.estimation.classical.reconstruction import Reconstruction
from da3stream.estimation.classical.view_graph import ViewGraph
from da3stream.geometry import rigid3

Array = NDArray[np.float64]

MIN_PNP_INLIERS = 12
PNP_ERROR_PX = 3.0
PNP_TRIALS = 500


def register_by_pnp(reconstruction: Reconstruction, graph: ViewGraph) -> Reconstruction:
    """Add images whose keypoints match keypoints that own 3D points, the best-connected first, until none is
    left.

    Perspective-n-point by cv2.solvePnPRansac (seeded by OpenCV itself, so repeatable) and
    Levenberg-Marquardt.
    """
    refused: set[int] = set()
    while True:
        links = {
            int(image): _point_links(reconstruction, graph, int(image))
            for image in np.flatnonzero(~reconstruction.registered)
            if int(image) not in refused
        }
        if not links:
            return reconstruction
        image = max(links, key=lambda each: (len(links[each]), -each))
        added = _register(reconstruction, graph, image, links[image])
        if added is None:
            refused.add(image)
        else:
            reconstruction = added
            refused.clear()


def interpolate_unregistered(reconstruction: Reconstruction, indices: NDArray[np.int64]) -> Reconstruction:
    """Fill the missing poses between registered neighbours in time; before the first and after the last,
    copy.

    Args:
        reconstruction: at least one image is registered.
        indices: (N,) frame indices, the time by which to interpolate.
    """
    known = np.flatnonzero(reconstruction.registered)
    missing = np.flatnonzero(~reconstruction.registered)
    if len(missing) == 0:
        return reconstruction
    known = known[np.argsort(indices[known], kind="stable")]
    poses = reconstruction.cam_from_submap.copy()
    poses[missing] = _interpolate(poses[known], indices[known], indices[missing])
    return replace(reconstruction, cam_from_submap=poses)


def normalised(reconstruction: Reconstruction) -> Reconstruction:
    """The same reconstruction in the frame of its first camera, with a median depth of 1 over all
    observations.

    Every image has a pose.
    """
    depths = reconstruction.observed_depths()
    depths = depths[np.isfinite(depths) & (depths > 0)]
    scale = 1.0 / float(np.median(depths)) if len(depths) else 1.0
    first = reconstruction.cam_from_submap[0]
    poses = rigid3.to_4x4(reconstruction.cam_from_submap) @ rigid3.invert(rigid3.to_4x4(first))
    poses[:, :3, 3] *= scale
    poses[0] = np.eye(4)
    points = scale * (reconstruction.points @ first[:, :3].T + first[:, 3])
    return replace(reconstruction, cam_from_submap=poses[:, :3], points=points)


def _point_links(reconstruction: Reconstruction, graph: ViewGraph, image: int) -> NDArray[np.int32]:
    """(L, 2) keypoint row of `image` and row of `points`, from its verified matches; each keypoint once."""
    owned = {(int(i), int(k)): int(p) for i, k, p in reconstruction.observations}
    links: dict[int, int] = {}
    for (first, second), view in zip(graph.pairs.tolist(), graph.two_views, strict=True):
        if image not in (first, second):
            continue
        own, other = (view.matches if image == first else view.matches[:, ::-1]).T
        partner = second if image == first else first
        for keypoint, matched in zip(own.tolist(), other.tolist(), strict=True):
            point = owned.get((partner, matched))
            if point is not None:
                links.setdefault(keypoint, point)
    return np.array(sorted(links.items()), dtype=np.int32).reshape(-1, 2)


def _register(
    reconstruction: Reconstruction, graph: ViewGraph, image: int, links: NDArray[np.int32]
) -> Reconstruction | None:
    if len(links) < MIN_PNP_INLIERS:
        return None
    pixels = graph.keypoints[image][links[:, 0]].astype(np.float64)
    points = reconstruction.points[links[:, 1]]
    intrinsics = reconstruction.intrinsics[image]
    # Our pixels fit our intrinsics; OpenCV's own origin does not matter as long as both share one.
    found, rotvec, translation, inliers = cv2.solvePnPRansac(
        points,
        pixels,
        intrinsics,
        None,
        reprojectionError=PNP_ERROR_PX,
        iterationsCount=PNP_TRIALS,
        confidence=0.9999,
        flags=cv2.SOLVEPNP_SQPNP,
    )
    if not found or inliers is None or len(inliers) < MIN_PNP_INLIERS:
        return None
    kept = inliers[:, 0]
    rotvec, translation = cv2.solvePnPRefineLM(
        points[kept], pixels[kept], intrinsics, None, rotvec, translation
    )
    poses, registered = reconstruction.cam_from_submap.copy(), reconstruction.registered.copy()
    poses[image] = np.concatenate([cv2.Rodrigues(rotvec)[0], translation.reshape(3, 1)], axis=1)
    if not np.isfinite(poses[image]).all():
        return None
    registered[image] = True
    seen = np.concatenate([np.full((len(kept), 1), image, np.int32), links[kept]], axis=1)
    observations = np.concatenate([reconstruction.observations, seen])
    return replace(reconstruction, cam_from_submap=poses, registered=registered, observations=observations)


def _interpolate(poses: Array, known_times: NDArray[np.int64], times: NDArray[np.int64]) -> Array:
    """(M, 3, 4) poses at `times`: centres linearly, rotations by slerp, constant outside the known range."""
    if len(poses) == 1:
        return np.repeat(poses, len(times), axis=0)
    cam_from_world = rigid3.to_4x4(poses)
    world_from_cam = rigid3.invert(cam_from_world)
    clipped = np.clip(times, known_times[0], known_times[-1])
    between = np.tile(np.eye(4), (len(times), 1, 1))
    between[:, :3, :3] = Slerp(known_times, Rotation.from_matrix(world_from_cam[:, :3, :3]))(
        clipped
    ).as_matrix()
    for axis in range(3):
        between[:, axis, 3] = np.interp(clipped, known_times, world_from_cam[:, axis, 3])
    return rigid3.invert(between)[:, :3]
