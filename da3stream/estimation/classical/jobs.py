"""What the estimator asks of a worker process, as messages, and back.

Both sides use this file; it imports no native code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from da3stream.estimation.classical.reconstruction import Reconstruction
from da3stream.estimation.classical.view_graph import TwoView, ViewGraph
from da3stream.estimation.classical.wire import Message

MapperName = Literal["incremental", "global"]
MAPPERS: tuple[MapperName, ...] = ("incremental", "global")

Arrays = dict[str, NDArray[Any]]


def verify_request(
    graph: ViewGraph, intrinsics: NDArray[np.float64], size: tuple[int, int], *, known: bool, seed: int
) -> Message:
    """Ask for the matches of each pair that a two-view geometry explains; the reply is a graph."""
    settings = {"job": "verify", "width": size[0], "height": size[1], "focal_known": known, "seed": seed}
    return Message(fields=settings, arrays={**graph_arrays(graph), "intrinsics": intrinsics})


def map_request(
    graph: ViewGraph, intrinsics: NDArray[np.float64], size: tuple[int, int], *, mapper: MapperName, seed: int
) -> Message:
    """Ask for a reconstruction with fixed intrinsics."""
    settings = {"job": "map", "width": size[0], "height": size[1], "mapper": mapper, "seed": seed}
    return Message(fields=settings, arrays={**graph_arrays(graph), "intrinsics": intrinsics})


def triangulate_request(
    graph: ViewGraph,
    intrinsics: NDArray[np.float64],
    cam_from_world: NDArray[np.float64],
    size: tuple[int, int],
    *,
    seed: int,
) -> Message:
    """Ask for a reconstruction with fixed intrinsics and fixed poses (N, 3, 4)."""
    settings = {"job": "triangulate", "width": size[0], "height": size[1], "seed": seed}
    arrays = {**graph_arrays(graph), "intrinsics": intrinsics, "cam_from_world": cam_from_world}
    return Message(fields=settings, arrays=arrays)


def adjust_request(
    reconstruction: Reconstruction, graph: ViewGraph, size: tuple[int, int], *, free_focal: bool
) -> Message:
    """Ask for a bundle adjustment of a reconstruction."""
    settings = {"job": "adjust", "width": size[0], "height": size[1], "free_focal": free_focal}
    keypoints = {name: array for name, array in graph_arrays(graph).items() if name.startswith("keypoint")}
    return Message(fields=settings, arrays={**reconstruction_arrays(reconstruction), **keypoints})


def keypoints_from_arrays(arrays: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.float32], ...]:
    """N arrays (K_i, 2)."""
    return tuple(_split(arrays["keypoints"], arrays["keypoint_counts"]))


def graph_arrays(graph: ViewGraph) -> Arrays:
    """A view graph as named arrays."""
    views = graph.two_views
    return {
        "keypoints": _join(graph.keypoints, (0, 2), np.float32),
        "keypoint_counts": np.array([len(each) for each in graph.keypoints], dtype=np.int64),
        "pairs": graph.pairs,
        "matches": _join([view.matches for view in views], (0, 2), np.int32),
        "match_counts": np.array([len(view.matches) for view in views], dtype=np.int64),
        "kinds": np.array([view.kind for view in views], dtype=np.int64),
        "matrices": np.array(
            [[view.fundamental, view.essential, view.homography] for view in views], dtype=np.float64
        ).reshape(-1, 3, 3, 3),
    }


def graph_from_arrays(arrays: Mapping[str, NDArray[Any]]) -> ViewGraph:
    """The inverse of `graph_arrays`."""
    matches = _split(arrays["matches"], arrays["match_counts"])
    views = tuple(
        TwoView(matches=rows, kind=int(kind), fundamental=three[0], essential=three[1], homography=three[2])
        for rows, kind, three in zip(matches, arrays["kinds"], arrays["matrices"], strict=True)
    )
    return ViewGraph(keypoints=keypoints_from_arrays(arrays), pairs=arrays["pairs"], two_views=views)


def reconstruction_arrays(reconstruction: Reconstruction) -> Arrays:
    """A reconstruction as named arrays."""
    return {
        "cam_from_submap": reconstruction.cam_from_submap,
        "registered": reconstruction.registered,
        "intrinsics": reconstruction.intrinsics,
        "points": reconstruction.points,
        "observations": reconstruction.observations,
    }


def reconstruction_from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Reconstruction:
    """The inverse of `reconstruction_arrays`."""
    names = (each.name for each in fields(Reconstruction))
    return Reconstruction(**{name: arrays[name] for name in names})


def _join(parts: Sequence[NDArray[Any]], empty: tuple[int, int], dtype: type) -> NDArray[Any]:
    return np.concatenate([np.zeros(empty, dtype), *parts], dtype=dtype)


def _split(joined: NDArray[Any], counts: NDArray[np.int64]) -> list[NDArray[Any]]:
    return np.split(joined, np.cumsum(counts)[:-1]) if len(counts) else []
