"""Chunks, frames, predictions and edges to store."""

from __future__ import annotations

from typing import Any

import numpy as np

from da3stream.geometry.sim3 import Sim3
from da3stream.scene import Chunk, Frame, Prediction, SubmapEdge
from da3stream.store import Run

WIDTH, HEIGHT = IMAGE_SIZE = 42, 28


def make_frames(indices: tuple[int, ...]) -> tuple[Frame, ...]:
    """Frames of smooth colour that a JPEG keeps."""
    ramp = np.linspace(0, 120, WIDTH, dtype=np.uint8)
    images = [np.stack([np.tile(ramp + index, (HEIGHT, 1))] * 3, axis=-1) for index in indices]
    return tuple(
        Frame(index=i, source_index=2 * i, timestamp_s=i / 7, image=image, original_size=(84, 56))
        for i, image in zip(indices, images, strict=True)
    )


def make_prediction(frames: int, seed: int = 0, **changes: Any) -> Prediction:
    """A prediction at the size of the images."""
    rng = np.random.default_rng(seed)
    fields: dict[str, Any] = {
        "depth": rng.uniform(1, 9, size=(frames, HEIGHT, WIDTH)).astype(np.float32),
        "confidence": rng.uniform(0, 5, size=(frames, HEIGHT, WIDTH)).astype(np.float32),
        "cam_from_submap": Sim3.exp(rng.normal(size=(frames, 7)) * [1, 1, 1, 1, 1, 1, 0]).matrix()[:, :3],
        "intrinsics": np.tile(np.array([[40.0, 0, 21], [0, 41, 14], [0, 0, 1]]), (frames, 1, 1)),
        "is_metric": True,
    }
    return Prediction(**{**fields, **changes})


def make_edge(a: int, b: int) -> SubmapEdge:
    tangent = np.random.default_rng([a, b]).normal(size=7)
    evidence = {"method": "points", "frames": [3, 4], "depth_ratios": [1.5, 1.25]}
    return SubmapEdge(a=a, b=b, a_from_b=Sim3.exp(tangent), information=np.eye(7) * np.pi, evidence=evidence)


CHUNKS = (
    Chunk(index=0, context=(), new=(0, 1, 2, 3)),
    Chunk(index=1, context=(2, 3), new=(4, 5)),
    Chunk(index=2, context=(4, 5), new=(6, 7)),
)


def put(run: Run, index: int, **options: Any) -> None:
    """Store one of CHUNKS, and its edge."""
    chunk = CHUNKS[index]
    prediction = make_prediction(len(chunk.frames), seed=index)
    fixed = {"image_size": IMAGE_SIZE, "keep_full": False}
    run.put_chunk(chunk, make_frames(chunk.new), prediction, **{**fixed, **options})
    if index:
        run.put_edges(index, [make_edge(index - 1, index)])
