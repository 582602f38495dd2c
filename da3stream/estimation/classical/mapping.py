"""Several reconstructions of one chunk, from several mappers, of which the best is kept.

Each mapper alone falls into a wrong minimum on some chunks (measured: 4 to 38 % of chunks of 24 frames), and
one such chunk ruins a merge. Both rarely do so at once, and the epipolar score tells them apart.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from da3stream.estimation.classical.epipolar import epipolar_score
from da3stream.estimation.classical.jobs import (
    MAPPERS,
    MapperName,
    adjust_request,
    map_request,
    reconstruction_from_arrays,
    triangulate_request,
)
from da3stream.estimation.classical.matching import Calibration
from da3stream.estimation.classical.reconstruction import Reconstruction
from da3stream.estimation.classical.view_graph import ViewGraph
from da3stream.estimation.classical.wire import Message
from da3stream.estimation.classical.worker_pool import WorkerPool

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Candidate:
    """One reconstruction of the chunk and how well it explains the matches."""

    mapper: MapperName
    reconstruction: Reconstruction
    score: float
    """Epipolar score in [0, 1]."""

    @property
    def focal_px(self) -> float:
        """Focal length of the first image in x."""
        return float(self.reconstruction.intrinsics[0, 0, 0])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Attempt:
    """The candidates that came out of several jobs, and what went wrong with the others."""

    candidates: tuple[Candidate, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def best(self) -> Candidate | None:
        """The candidate of the highest score; the earlier one of equals."""
        return max(self.candidates, key=lambda each: each.score, default=None)

    def __add__(self, other: Attempt) -> Attempt:
        return Attempt(candidates=self.candidates + other.candidates, warnings=self.warnings + other.warnings)


class Mapping:
    """Mappers and bundle adjustment of one chunk, run in worker processes."""

    def __init__(self, pool: WorkerPool, graph: ViewGraph, calibration: Calibration, *, seed: int) -> None:
        self._pool, self._graph, self._seed = pool, graph, seed
        self._calibration = calibration

    def reconstruct(self, focal_factors: Sequence[float] = (1.0,)) -> Attempt:
        """Run all mappers with the intrinsics, their focal times each factor; then bundle-adjust, intrinsics
        kept."""
        jobs = [(mapper, factor) for factor in focal_factors for mapper in MAPPERS]
        requests = [
            map_request(
                self._graph,
                scale_focal(self._calibration.intrinsics, factor),
                self._calibration.size,
                mapper=mapper,
                seed=self._seed,
            )
            for mapper, factor in jobs
        ]
        found = self._collect(requests, [mapper for mapper, _ in jobs])
        adjusted = self.adjust(found.candidates, free_focal=False)
        return Attempt(candidates=adjusted.candidates, warnings=found.warnings + adjusted.warnings)

    def triangulate(self, cam_from_world: NDArray[np.float64]) -> Reconstruction | None:
        """Points at known poses (N, 3, 4), which are kept exactly; None if the job fails."""
        request = triangulate_request(
            self._graph, self._calibration.intrinsics, cam_from_world, self._calibration.size, seed=self._seed
        )
        (reply,) = self._pool.ask([request])
        if "failed" in reply.fields:
            logger.debug("triangulation: %s", reply.fields["failed"])
            return None
        return replace(reconstruction_from_arrays(reply.arrays), cam_from_submap=cam_from_world)

    def adjust(self, candidates: Sequence[Candidate], *, free_focal: bool) -> Attempt:
        """Bundle-adjust each candidate; a job that fails loses the candidate."""
        requests = [
            adjust_request(each.reconstruction, self._graph, self._calibration.size, free_focal=free_focal)
            for each in candidates
        ]
        return self._collect(requests, [each.mapper for each in candidates])

    def _collect(self, requests: Sequence[Message], mappers: Sequence[MapperName]) -> Attempt:
        candidates, warnings = [], []
        for mapper, reply in zip(mappers, self._pool.ask(requests), strict=True):
            if "failed" in reply.fields:
                logger.debug("%s mapper: %s", mapper, reply.fields["failed"])
                warnings += _describe_failure(mapper, reply)
            else:
                reconstruction = reconstruction_from_arrays(reply.arrays)
                score = epipolar_score(reconstruction, self._graph)
                candidates.append(Candidate(mapper=mapper, reconstruction=reconstruction, score=score))
        return Attempt(candidates=tuple(candidates), warnings=tuple(warnings))


def scale_focal(intrinsics: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """(N, 3, 3) intrinsics with fx and fy times `factor`."""
    scaled = np.array(intrinsics, dtype=np.float64)
    scaled[:, [0, 1], [0, 1]] *= factor
    return scaled


def _describe_failure(mapper: MapperName, reply: Message) -> list[str]:
    """A warning for the report; a mapper that merely finds nothing is no news."""
    if reply.fields.get("timed_out"):
        return [
            f"the {mapper} mapper gave {reply.fields['failed']} and was stopped; "
            "the result of this chunk depends on the machine's speed, so another run may differ"
        ]
    if reply.fields["failed"].startswith("no model"):
        return []
    return [f"the {mapper} mapper was lost: {reply.fields['failed']}"]
