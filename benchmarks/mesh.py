"""How much memory and time the mesh takes, by the length of the path.

    python -m benchmarks.mesh              writes benchmarks/results/mesh.json
    python -m benchmarks.mesh --frames 100 200

Frames of a simulated street that never comes back (1.2 m from frame to frame, depth of 168 x 94 pixels as a
run keeps it, 0.5 % too far or too near, voxels of 0.15 m) go straight into the mesh writer. Each length is a
process of its own. Its peak resident memory is taken of the fusing alone, since the simulated street takes
more of it the longer it is.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.metadata import describe_environment
from da3stream.config import OutputConfig
from da3stream.scene import FrameBlock
from da3stream.store.files import RunFiles
from da3stream.synthetic.paths import street_laps
from da3stream.synthetic.world import SimulatedWorld
from da3stream.writers.base import WriterContext
from da3stream.writers.mesh import MeshWriter
from da3stream.writers.tsdf import load_open3d

RESULT = Path(__file__).parent / "results" / "mesh.json"
FRAMES = (30, 60, 120)
BLOCK = 30
SIZE = (94, 168)
NOISE, VOXEL_M = 0.005, 0.15


def blocks(world: SimulatedWorld) -> Iterator[FrameBlock]:
    """The frames of a world, as a finished run gives them."""
    height, width = SIZE
    for start in range(0, len(world), BLOCK):
        index = np.arange(start, min(start + BLOCK, len(world)))
        true = [world.true_depth(int(i)) for i in index]
        scales = [np.random.default_rng(int(i)).normal(1, NOISE) for i in index]
        colors = np.random.default_rng(start).integers(0, 256, (len(index), *SIZE, 3), dtype=np.uint8)
        yield FrameBlock(
            submap=start // BLOCK,
            index=index,
            source_index=index,
            timestamp_s=index / 10,
            names=tuple(f"{i:06d}.jpg" for i in index),
            original_size=np.tile([width, height], (len(index), 1)),
            images=colors,
            world_from_cam=world.world_from_cam[index],
            intrinsics=np.tile(world.intrinsics, (len(index), 1, 1)),
            depth=np.stack([t.depth * s for t, s in zip(true, scales, strict=True)]).astype(np.float32),
            confidence=np.stack([~t.sky for t in true]).astype(np.float32),
            depth_intrinsics=np.tile(world.intrinsics, (len(index), 1, 1)),
            full_depth=None,
            full_confidence=None,
        )


def status_bytes(name: str) -> int:
    """VmRSS (now) or VmHWM (peak) of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


def forget_peak() -> None:
    """Let VmHWM begin anew (man 5 proc, clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


def measured(frames: int) -> dict[str, Any]:
    """Make one mesh."""
    poses = street_laps(frames, lap_frames=4 * max(FRAMES))
    world = SimulatedWorld(poses, seed=7, size=SIZE)
    load_open3d()
    with tempfile.TemporaryDirectory() as folder:
        context = WriterContext(
            outputs=RunFiles(Path(folder)),
            config=OutputConfig(mesh_voxel=VOXEL_M),
            positions_in_world=poses[:, :3, 3],
            is_metric=True,
            timestamps_are_synthetic=False,
            numbered_in=None,
            originals=None,
        )
        writer = MeshWriter(context)
        for block in blocks(world):
            writer.add(block)
        del world, block
        gc.collect()
        forget_peak()
        before, began = status_bytes("VmRSS"), time.perf_counter()
        writer.finish()
        seconds, peak = time.perf_counter() - began, status_bytes("VmHWM")
        size = (Path(folder) / "mesh" / "mesh.ply").stat().st_size
    return {
        "frames": frames,
        "path_m": round(float(np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1).sum()), 1),
        "before_bytes": before,
        "peak_bytes": peak,
        "fusing_takes_bytes": peak - before,
        "fusing_seconds": round(seconds, 1),
        "mesh_bytes": size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=FRAMES)
    parser.add_argument("--one", type=int, help="measure this length here, and print it as JSON")
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(measured(options.one)))
        return
    runs = []
    for frames in options.frames:
        command = [sys.executable, "-m", "benchmarks.mesh", "--one", str(frames)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
        print(json.dumps(runs[-1]), flush=True)
    arguments = {"frames": list(options.frames), "size": SIZE, "noise": NOISE, "voxel_m": VOXEL_M}
    RESULT.write_text(json.dumps({**describe_environment(arguments), "runs": runs}, indent=2) + "\n")


if __name__ == "__main__":
    main()
