"""Where all submaps of a run lie in the world. Holds cameras, no pixels."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.assembly import AssembledCameras, assemble
from da3stream.geometry import rigid3
from da3stream.geometry.sim3 import Sim3
from da3stream.optimisation import (
    Distortion,
    KnownPlacement,
    OptimisationReport,
    PosePriors,
    PriorReport,
    at_known,
    log_ratio_of,
    log_scale_of,
    place,
    place_at_known,
    pose_uncertainties,
)
from da3stream.placed_map_summary import graph_summary, known_summary, prior_warnings, tells_unit
from da3stream.scene import (
    LoopClosure,
    PlacedCameras,
    PoseUncertainty,
    SubmapCameras,
    SubmapEdge,
    WorldAlignment,
)
from da3stream.store import Run

Array = NDArray[np.float64]

WORTH_OPTIMISING = 0.01
"""Share of all edges that must be new before all submaps are placed anew. An optimisation takes time in
proportion to the edges, so that all of them together take no longer than 100 times the last one. Up to about
25 chunks every new edge is worth it."""
WORTH_A_CORRECTION = 0.002
"""The same once a loop has shown that the map is visibly off. A loop has 4 edges or more, so that up to 2,000
edges, some 400 chunks, the first one corrects the map at once; in the longest runs some chunks later."""
VISIBLE = 0.02
"""A map is visibly off if the two sides of a loop put a point at its depth so far apart, relative to that:
radians, lengths over depth, log-scale."""


class PlacedMap:
    """All submaps of a run, or of its beginning, in the world.

    A new submap is put next to the one before. `optimise` places all anew by all edges between them. Where
    the poses were known beforehand, all cameras stay there, and only the scales of depth are solved for.
    Prior poses pull the map to them in the end, when all submaps are there.
    """

    def __init__(self, run: Run, scale_prior: float | None) -> None:
        self._run, self._scale_prior = run, scale_prior
        self._cameras: list[SubmapCameras] = []
        self._bent: list[PlacedCameras] = []
        """The submaps that the last optimisation placed."""
        self._rigid: list[Sim3] = []
        """world_from_submap of those that came since."""
        self._chain: list[Sim3] = []
        self._chain_centres: list[Array] = []
        self.fine: list[int] = []
        """Indices of the chunks that own frames."""
        self._first_new: list[int] = []
        self._ratios: dict[int, Array] = {}
        self._alignment: WorldAlignment | None = None
        self._used_edges: list[SubmapEdge] = []
        self.report: OptimisationReport | None = None
        """What the last optimisation said."""
        self._distortion: Distortion | None = None
        self._known: KnownPlacement | None = None
        self._priors: PriorReport | None = None
        """What became of the prior poses that the map was pulled to in the end."""
        self._world_from_chain = Sim3.identity()
        """From the frame and unit of the first submap, but for what was chosen by hand."""
        self._edges = self._new_edges = 0
        self._new_loops: list[int] = []
        self._is_visibly_off, self._is_settled = False, True

    def __len__(self) -> int:
        """Number of chunks, those without frames of their own included."""
        return len(self._cameras)

    @classmethod
    def of(cls, run: Run, scale_prior: float | None, *, is_aligned: bool = True) -> PlacedMap:
        """The finished map of everything that is stored; not `is_aligned`: in the frame and unit that the run
        came out in, whatever frame was chosen by hand."""
        placed = cls(run, scale_prior)
        for index in range(len(run.chunks)):
            placed.add(index)
        placed.settle(is_aligned=is_aligned)
        return placed

    @classmethod
    def chain_of(cls, run: Run, world_from_chain: Sim3) -> PlacedMap:
        """A map that is not optimised: only its `chain_centres` are those of the finished map.

        Args:
            run: finished or not; what was killed between a chunk and its edges ends before that chunk.
            world_from_chain: of the finished map's summary; identity as long as there is none.
        """
        placed = cls(run, None)
        for index in range(len(run.chunks)):
            if index and not run.edges.get(index) and not placed.has_known_poses:
                break
            placed.add(index)
        placed._world_from_chain, placed._alignment = world_from_chain, run.alignment
        return placed

    def add(self, index: int) -> None:
        """Put the next chunk's submap next to an earlier one; its edges are stored."""
        cameras = self._run.cameras(index)
        edges = self._run.edges.get(index, {})
        if (poses := self._run.known_poses(cameras.chunk.frames)) is not None:
            self._bent.append(self._at_known(cameras, poses, edges))
            self._adopt(cameras, poses, edges)
            return
        if index == 0:
            first = cameras.cam_from_submap[0]
            self._chain.append(Sim3(rotation=first[:, :3], translation=first[:, 3]))
            world_from_submap = self._chain[0]
        else:
            neighbour = self.fine[-1] if self.fine[-1] in edges else min(edges)
            self._chain.append(self._chain[neighbour] @ edges[neighbour].a_from_b)
            world_from_submap = self._local_sim3(neighbour, cameras) @ edges[neighbour].a_from_b
        self._rigid.append(world_from_submap)
        self._adopt(cameras, _moved(cameras, self._chain[-1]).world_from_cam, edges)

    def _adopt(self, cameras: SubmapCameras, chain: Array, edges: Mapping[int, SubmapEdge]) -> None:
        """Note a submap that was put somewhere. `chain` (N, 4, 4) are its cameras if only consecutive chunks
        were joined."""
        index = cameras.chunk.index
        self._cameras.append(cameras)
        if cameras.chunk.new:
            self._ratios[index] = self._ratios_to_owner(index)
            self.fine.append(index)
            self._first_new.append(cameras.chunk.new[0])
            own = slice(len(cameras.chunk.context), None)
            self._chain_centres.append(chain[own, :3, 3].copy())  # a view would keep whole poses
        self._edges += len(edges)
        self._new_edges += 0 if len(edges) <= 1 and cameras.chunk.new else len(edges)
        if not cameras.chunk.new and cameras.chunk.scale == 1:
            self._new_loops.append(index)
        self._is_settled = False

    def _at_known(
        self, cameras: SubmapCameras, poses: Array, edges: Mapping[int, SubmapEdge]
    ) -> PlacedCameras:
        """A new submap at its known cameras (N, 4, 4), until `optimise` weighs what all say of its scale."""
        own = log_scale_of(cameras, poses)
        if own is None and edges:
            neighbour = max(edges)
            scale = float(self._bent[neighbour].depth_scale[0])
            return at_known(cameras, poses, scale * float(np.exp(log_ratio_of(edges[neighbour]).value)))
        return at_known(cameras, poses, 1.0 if own is None else float(np.exp(own.value)))

    @property
    def has_known_poses(self) -> bool:
        """Whether the poses of all frames were known beforehand. False before there is a chunk."""
        return bool(self._cameras) and self._run.chunks[0].frames.world_from_cam is not None

    @property
    def is_metric(self) -> bool:
        """Whether lengths are in metres: by hand, by known poses, or by metric submaps."""
        if self._alignment is not None and self._alignment.is_metric:
            return True
        if self.has_known_poses or self._priors is not None:
            is_told = self._priors is None or tells_unit(self._priors)
            return is_told and bool(self._run.manifest.get("poses_in_metres"))
        return bool(self._metric_chunks)

    def needs_optimisation(self) -> bool:
        """Whether enough edges have come that do more than continue the chain; fewer are enough if
        a loop disagrees with where its two places lie. Known poses need none until the end."""
        if self.has_known_poses:
            return False
        self._is_visibly_off |= any(self._disagrees(loop) for loop in self._new_loops)
        self._new_loops = []
        share = WORTH_A_CORRECTION if self._is_visibly_off else WORTH_OPTIMISING
        return self._new_edges > share * self._edges

    def optimise(self, priors: PosePriors | None = None) -> None:
        """Place all submaps by all edges, and by prior poses if these are given."""
        edges = [edge for later in sorted(self._run.edges) for edge in self._run.edges[later].values()]
        edges = [edge for edge in edges if edge.b < len(self)]
        if self.has_known_poses:
            self._optimise_scales(edges)
            return
        placement = place(
            self._cameras,
            edges,
            self._chain[0],
            metric_nodes=self._metric_chunks,
            scale_prior=self._scale_prior,
            priors=priors,
        )
        self._priors = placement.priors
        # Without priors the first submap stays where the chain has it.
        free = priors is None
        self._world_from_chain = Sim3.identity() if free else placement.rigid[0] @ self._chain[0].inverse()
        self._bent, self._rigid, self._alignment = placement.cameras, [], None
        self.report, self._distortion = placement.report, placement.distortion
        weights = placement.report.weights
        self._used_edges = [edge for edge, weight in zip(edges, weights, strict=True) if weight > 0]
        self._new_edges, self._new_loops, self._is_visibly_off = 0, [], False

    def _optimise_scales(self, edges: Sequence[SubmapEdge]) -> None:
        """Find the scales of depth of all submaps, at their known poses."""
        poses = [placed.world_from_cam for placed in self._bent]
        metric = self._metric_chunks if self.is_metric else ()
        self._known = place_at_known(self._cameras, edges, poses, metric_nodes=metric)
        self._bent = self._known.cameras

    def summary(self) -> dict[str, Any]:
        """How the last optimisation went, in plain JSON values, for the report."""
        if self._known is not None:
            return known_summary(self._known)
        if self.report is None or self._distortion is None:
            return {}
        return graph_summary(
            self.report,
            self._distortion,
            submaps=len(self),
            world_from_chain=self._world_from_chain,
            loops_unused=[loop for loop, is_used in self.loops_used().items() if not is_used],
            priors=self._priors,
        )

    @property
    def warnings(self) -> list[str]:
        """What the last optimisation leaves open, in words."""
        return [] if self._priors is None else prior_warnings(self._priors)

    def pose_uncertainties(self) -> dict[int, PoseUncertainty]:
        """Chunk -> how well its cameras are known, by the last optimisation; empty at known poses."""
        if self.report is None or self._distortion is None:
            return {}
        found = pose_uncertainties(self._cameras, self._distortion, self.report.variance_factor)
        return dict(enumerate(found))

    def settle(self, *, is_aligned: bool = True) -> None:
        """Place everything for good, now that all submaps are there; in metres if they are, and in the frame
        and unit of prior poses if there are any.

        Each metric submap says what a unit of the world is in metres. Until now it was what the first submap
        said; from now on it is the median of all fine ones. Last, if `is_aligned`, the world becomes the one
        that was chosen by hand.
        """
        if self._is_settled or not self._cameras:
            return
        self.optimise(self._pose_priors())
        self._is_settled = True
        if not self.has_known_poses and self._priors is None:
            self._settle_unit()
        if is_aligned and self._run.alignment is not None:
            self.align(self._run.alignment)

    def _pose_priors(self) -> PosePriors | None:
        """The prior poses; None if none were asked for. InputError if no frame has one."""
        config = self._run.manifest["config"]
        if config.get("poses_as") != "prior":
            return None
        frames, poses = self._run.pose_priors()
        return PosePriors(frames=frames, world_from_cam=poses, sigma=config.get("pose_prior_sigma"))

    def _settle_unit(self) -> None:
        metric = set(self._metric_chunks)
        depth_scales = [self._bent[index].depth_scale for index in self.fine if index in metric]
        if depth_scales:
            unit = float(np.median([np.log(scales).mean() for scales in depth_scales]))
            self._world_from_chain = Sim3(
                scale=float(np.exp(-unit)), rotation=np.eye(3), translation=np.zeros(3)
            )
            self._move(self._world_from_chain)

    def align(self, alignment: WorldAlignment) -> None:
        """Turn and scale a settled map that is not aligned yet."""
        assert self._is_settled
        assert self._alignment is None
        self._alignment = alignment
        self._move(alignment.world_from_run)

    def _move(self, new_world_from_world: Sim3) -> None:
        self._bent = [
            replace(
                placed,
                world_from_cam=new_world_from_world.move_pose(placed.world_from_cam),
                depth_scale=placed.depth_scale * new_world_from_world.scale,
            )
            for placed in self._bent
        ]

    def assemble(self, frames: Sequence[int]) -> AssembledCameras:
        """Blended cameras of consecutive frames."""
        wanted = set(frames)
        owner = bisect.bisect_right(self._first_new, min(frames)) - 1
        covering = itertools.takewhile(
            lambda placed: not wanted.isdisjoint(placed.chunk.window),
            (self._placed(index) for index in itertools.islice(self.fine, owner, None)),
        )
        blended = assemble(frames, [self._per_owner(placed) for placed in covering])
        known = self._run.known_poses(frames)
        if known is None:
            return blended
        if self._alignment is not None:
            known = self._alignment.world_from_run.move_pose(known)
        return replace(blended, world_from_cam=known)

    def chain_centres(self) -> Array:
        """(N, 3) camera centres of all frames if only consecutive chunks were joined, in the map's frame and
        unit."""
        return self._in_world(np.concatenate(self._chain_centres))

    def chain_centres_of(self, index: int) -> Array:
        """(M, 3) the same of the frames that one chunk owns."""
        return self._in_world(self._chain_centres[bisect.bisect_left(self.fine, index)])

    def chain_cameras_of(self, index: int) -> PlacedCameras:
        """All cameras of a submap if only consecutive chunks were joined, in the map's frame and unit; where
        the poses were known, as they are placed."""
        if self.has_known_poses:
            return self._placed(index)
        in_run = self._world_from_chain @ self._chain[index]
        aligned = in_run if self._alignment is None else self._alignment.world_from_run @ in_run
        return _moved(self._cameras[index], aligned)

    def _in_world(self, chain_centres: Array) -> Array:
        in_run = self._world_from_chain.apply(chain_centres)
        return in_run if self._alignment is None else self._alignment.world_from_run.apply(in_run)

    def loops_used(self) -> dict[int, bool]:
        """Chunk of each accepted loop -> whether the optimisation kept edges to both of its places."""
        loops = [loop for loop in self._run.loops.values() if loop.chunk is not None]
        return {loop.chunk: self._joins_both_places(loop) for loop in loops if loop.chunk is not None}

    def _joins_both_places(self, loop: LoopClosure) -> bool:
        middle = (loop.candidate.earlier + loop.candidate.later) / 2
        places = {
            frame < middle
            for edge in self._used_edges
            if edge.b == loop.chunk
            for frame in edge.evidence["frames"]
        }
        return len(places) == 2

    def chain_scale(self, index: int) -> float:
        """Scale of a submap in the world if only consecutive chunks were joined."""
        return float(self._chain[index].scale)

    def depth_scale_of(self, index: int) -> float:
        """World units per unit of a submap's depth, on the geometric mean over its frames."""
        return float(np.exp(np.log(self._placed(index).depth_scale).mean()))

    @property
    def _metric_chunks(self) -> list[int]:
        return [index for index in range(len(self._cameras)) if self._run.chunks[index].is_metric]

    def _placed(self, index: int) -> PlacedCameras:
        """The cameras of a submap; of a rigid one they are made when asked for, instead of kept."""
        since = index - len(self._bent)
        return self._bent[index] if since < 0 else _moved(self._cameras[index], self._rigid[since])

    def _local_sim3(self, index: int, cameras: SubmapCameras) -> Sim3:
        """world_from_submap of a placed submap, as it is where it shares frames with another."""
        placed, own = self._placed(index), self._cameras[index]
        shared = set(cameras.chunk.window) & set(own.chunk.window)
        rows = [row for row, frame in enumerate(own.chunk.frames) if frame in shared]
        submap_from_cam = rigid3.invert(rigid3.to_4x4(own.cam_from_submap[rows]))
        world_from_cam = placed.world_from_cam[rows]
        turns = world_from_cam[:, :3, :3] @ np.swapaxes(submap_from_cam[:, :3, :3], 1, 2)
        rotation = rigid3.nearest_rotation(turns.sum(axis=0))
        scale = float(np.exp(np.log(placed.depth_scale[rows]).mean()))
        offsets = world_from_cam[:, :3, 3] - scale * submap_from_cam[:, :3, 3] @ rotation.T
        return Sim3(scale=scale, rotation=rotation, translation=offsets.mean(axis=0))

    def _disagrees(self, loop: int) -> bool:
        """Whether the submaps that a loop's chunk is joined to would put it visibly apart."""
        cameras = self._cameras[loop]
        first, *others = (
            self._local_sim3(neighbour, cameras) @ edge.a_from_b
            for neighbour, edge in self._run.edges[loop].items()
        )
        for other in others:
            apart = first.inverse() @ other
            turn = float(rigid3.rotation_angle(apart.rotation))
            shift = np.linalg.norm(apart.translation) / cameras.typical_depth
            if max(turn, shift, abs(np.log(apart.scale))) > VISIBLE:
                return True
        return False

    def _per_owner(self, placed: PlacedCameras) -> PlacedCameras:
        return replace(placed, depth_scale=placed.depth_scale / self._ratios[placed.chunk.index])

    def _ratios_to_owner(self, index: int) -> Array:
        """(N,) depth of each frame in the submap that owns it over its depth here."""
        chunk = self._run.chunks[index].chunk
        ratios = np.ones(len(chunk.frames))
        if not self.fine:
            return ratios
        previous = self.fine[-1]
        earlier = dict(zip(self._cameras[previous].chunk.frames, self._ratios[previous], strict=True))
        evidence = self._run.edges[index][previous].evidence
        ratio_of = dict(zip(evidence["frames"], evidence["depth_ratios"], strict=True))
        for row, frame in enumerate(chunk.context):
            ratios[row] = earlier.get(frame, 1.0) * ratio_of.get(frame, 1.0)
        return ratios


def _moved(cameras: SubmapCameras, world_from_submap: Sim3) -> PlacedCameras:
    """The cameras of a submap that stays as it is."""
    submap_from_cam = rigid3.invert(rigid3.to_4x4(cameras.cam_from_submap))
    return PlacedCameras(
        chunk=cameras.chunk,
        world_from_cam=world_from_submap.move_pose(submap_from_cam),
        depth_scale=np.full(len(submap_from_cam), float(world_from_submap.scale)),
    )
