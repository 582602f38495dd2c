"""The data types that flow between the stages; see DESIGN section "Data types"."""

from da3stream.scene.block import FrameBlock
from da3stream.scene.chunk import Chunk, ChunkSizes
from da3stream.scene.frame import Frame
from da3stream.scene.gaussians import FrameGaussians, Gaussians
from da3stream.scene.loop import LoopCandidate, LoopClosure
from da3stream.scene.pose_graph import PoseGraph, SubmapEdge
from da3stream.scene.pose_uncertainty import PoseUncertainty
from da3stream.scene.prediction import KnownCameras, Prediction
from da3stream.scene.submap import Submap
from da3stream.scene.submap_cameras import PlacedCameras, SubmapCameras
from da3stream.scene.trajectory import Trajectory
from da3stream.scene.world_alignment import WorldAlignment

__all__ = [
    "Chunk",
    "ChunkSizes",
    "Frame",
    "FrameBlock",
    "FrameGaussians",
    "Gaussians",
    "KnownCameras",
    "LoopCandidate",
    "LoopClosure",
    "PlacedCameras",
    "PoseGraph",
    "PoseUncertainty",
    "Prediction",
    "Submap",
    "SubmapCameras",
    "SubmapEdge",
    "Trajectory",
    "WorldAlignment",
]
