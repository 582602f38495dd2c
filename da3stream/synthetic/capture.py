"""Simulated source, estimator and place descriptor: a whole run without a video, a network or a GPU."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.scene import Frame, KnownCameras, Prediction
from da3stream.synthetic.error_model import simulate_chunk
from da3stream.synthetic.world import SimulatedWorld

__all__ = ["SimulatedDescriptor", "SimulatedEstimator", "SimulatedSource", "SimulatedWorld"]

_FRAMES_PER_SECOND = 10.0
_BLOCK_PX = 6


class SimulatedEstimator:
    """A `GeometryEstimator` that knows the world and errs like a network. It looks at frame indices, not at
    pixels.

    Args:
        world: the world that the frames show.
        seed: what the errors are drawn from.
        level: size of the errors; 0 returns exact submaps, each under a random Sim(3).
    """

    name = "simulated"
    is_metric = False
    settles_intrinsics = False

    def __init__(self, world: SimulatedWorld, seed: int, level: float = 1.0) -> None:
        self.world, self.seed, self.level = world, seed, level

    def estimate(
        self, images: NDArray[np.uint8], *, indices: NDArray[Any], known_cameras: KnownCameras | None = None
    ) -> Prediction:
        """Predict the frames `indices` (N,); images may have any content, known cameras change nothing."""
        if len(images) != len(indices):
            raise ValueError(f"{len(images)} images for {len(indices)} indices")
        chunk = simulate_chunk(self.world, [int(i) for i in indices], seed=self.seed, level=self.level)
        return Prediction(
            depth=chunk.depth,
            confidence=chunk.confidence,
            cam_from_submap=chunk.cam_from_submap,
            intrinsics=chunk.intrinsics,
            is_metric=self.is_metric,
        )


class SimulatedDescriptor:
    """A `PlaceDescriptor`: random Fourier features of position and heading, plus noise.

    Two views are alike if they lie within about `scale_m` and look the same way (Rahimi and Recht, "Random
    features for large-scale kernel machines", 2007). A frame's descriptor does not depend on what it is
    described together with.

    Args:
        world: the world that the frames show.
        seed: of the features and of the noise.
        scale_m: distance over which descriptors decorrelate, in metres; 8 suits a street, 1 a room.
        noise: standard deviation of what is added to every cosine.
    """

    name = "simulated"

    def __init__(
        self,
        world: SimulatedWorld,
        *,
        seed: int = 0,
        scale_m: float = 8.0,
        dim: int = 256,
        noise: float = 0.25,
    ) -> None:
        self.dim = dim
        self._world, self._seed, self._scale_m, self._noise = world, seed, scale_m, noise
        self._frequencies = np.random.default_rng(seed).normal(size=(5, dim // 2))

    def describe(self, images: NDArray[np.uint8], *, indices: NDArray[Any]) -> NDArray[np.float32]:
        """(N, dim) unit descriptors of the frames `indices` (N,); images may have any content."""
        return np.concatenate(
            [np.zeros((0, self.dim), np.float32), *(self._describe(int(i)) for i in indices)]
        )

    def _describe(self, index: int) -> NDArray[np.float32]:
        world_from_cam = self._world.world_from_cam[index : index + 1]
        place = world_from_cam[:, [0, 2], 3] / self._scale_m
        phase = np.concatenate([place, 1.2 * world_from_cam[:, :3, 2]], 1) @ self._frequencies
        features = np.concatenate([np.cos(phase), np.sin(phase)], 1)
        features += self._noise * np.random.default_rng([self._seed + 1, index]).normal(size=features.shape)
        return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


class SimulatedSource:
    """A `FrameSource` with an image of coloured blocks for every frame of a world, at 10 frames a second.

    The images are `magnification` times as large as the world's depth maps and differ from frame to frame.
    """

    def __init__(self, world: SimulatedWorld, *, frames: int | None = None, magnification: int = 3) -> None:
        self._frames = len(world) if frames is None else frames
        if not 0 < self._frames <= len(world):
            raise ValueError(f"frames must be between 1 and {len(world)}, got {self._frames}")
        self._size = (world.size[0] * magnification, world.size[1] * magnification)
        poses = world.world_from_cam[: self._frames].tobytes()
        self._digest = hashlib.sha256(poses + world.boxes.tobytes()).hexdigest()[:16]
        self.intrinsics = world.intrinsics * np.array([magnification, magnification, 1.0])[:, None]
        """(3, 3) true intrinsics in pixels of the images."""

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self._frames):
            yield Frame(
                index=index,
                source_index=index,
                timestamp_s=index / _FRAMES_PER_SECOND,
                image=self._image(index),
            )

    def size_hint(self) -> int:
        """Number of frames."""
        return self._frames

    def identity(self) -> str:
        """Equal for equal worlds and lengths."""
        height, width = self._size
        return f"simulated:{self._digest}:{self._frames}x{width}x{height}"

    def _image(self, index: int) -> NDArray[np.uint8]:
        height, width = self._size
        blocks = (-(-height // _BLOCK_PX), -(-width // _BLOCK_PX), 3)
        colours = np.random.default_rng(index).integers(40, 216, blocks, dtype=np.uint8)
        return np.ascontiguousarray(colours.repeat(_BLOCK_PX, 0).repeat(_BLOCK_PX, 1)[:height, :width])
