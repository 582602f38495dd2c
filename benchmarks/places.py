"""Place recognition and loop candidates: what is found, and what the index costs.

    python benchmarks/places.py candidates              # simulated captures of the shared folder
    python benchmarks/places.py vlad                    # kitti and fox there and back, the way back disturbed
    python benchmarks/places.py index --frames 20000    # random descriptors of --dim: recall, memory, seconds

The tables lie in results/: places.json, and places_index_DIM.json of 108,000 frames.

A candidate is right if its cameras are closer than the scale of the simulated descriptor (8 m in the street,
1 m in the room) and look within 40 degrees of each other. `covered` is the share of frames with a right
revisit that lie within a chunk of a right candidate. `first half` ends before the street comes back. Of the
index, `compressed` says whether codes were searched, and `highest_growth_mb` is the peak of memory over the
state before, the benchmark's own vectors included.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from metadata import describe_environment
from numpy.typing import NDArray

from da3stream.evaluation import load_trajectory
from da3stream.imaging import resize_for_processing
from da3stream.loop_closure.candidates import CandidateOptions
from da3stream.loop_closure.exclusion import TravelledPath, search_limits
from da3stream.loop_search import LoopSearch
from da3stream.place.index import PlaceIndex
from da3stream.place.vlad import VladDescriptor
from da3stream.place.vocabulary import VladVocabulary
from da3stream.scene import ChunkSizes, LoopCandidate
from da3stream.store.descriptor_file import encode_descriptors, read_descriptors
from da3stream.synthetic.capture import SimulatedDescriptor, SimulatedWorld

SHARED = Path(os.environ.get("DA3STREAM_SHARED", Path(__file__).resolve().parents[2] / "shared"))
CHUNK, STEP = 60, 30
MAX_ANGLE_DEG = 40.0
PER_100_CHUNKS = CandidateOptions(spacing=1).per_100_chunks


def online_candidates(
    vectors: NDArray[np.float32], centres: NDArray[np.float64], *, chunk: int = CHUNK
) -> tuple[LoopCandidate, ...]:
    """All candidates of a video, chunk by chunk as a run finds them."""
    sizes = ChunkSizes(size=chunk, overlap=chunk - chunk // 2)
    search = LoopSearch(lambda frames: rounded(vectors[frames]), sizes, PER_100_CHUNKS)
    chosen: tuple[LoopCandidate, ...] = ()
    for start in range(0, len(vectors), chunk // 2):
        frames = np.arange(start, min(start + chunk // 2, len(vectors)))
        search.add(frames, rounded(vectors[frames]), centres[frames])
        chosen += search.decide(1)
    return chosen + search.finish()


def rounded(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """As they are stored."""
    return vectors.astype(np.float16).astype(np.float32)


def simulated(name: str, indoor: bool, scale_m: float, frames: int | None) -> dict[str, Any]:
    world_from_cam = load_trajectory(SHARED / "merge" / f"{name}.txt").world_from_cam[:frames]
    world = SimulatedWorld(world_from_cam, 7, indoor=indoor)
    everything = np.arange(len(world))
    vectors = SimulatedDescriptor(world, scale_m=scale_m).describe(np.zeros(0, np.uint8), indices=everything)
    centres, ahead = world_from_cam[:, :3, 3], world_from_cam[:, :3, 2]
    path = TravelledPath(CHUNK)
    path.add(centres)
    limits = search_limits(everything, min_gap=CHUNK, travelled=path.in_chunks, min_travelled=1.0)
    distance = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    angle = np.degrees(np.arccos(np.clip(ahead @ ahead.T, -1, 1)))
    same_place = (distance < scale_m) & (angle < MAX_ANGLE_DEG) & (everything < limits[:, None])
    chosen = online_candidates(vectors, centres)
    right = [one for one in chosen if same_place[one.later, one.earlier]]
    revisits = np.flatnonzero(same_place.any(axis=1))
    near = np.array([one.later for one in right], dtype=int)
    covered = np.abs(revisits[:, None] - near).min(axis=1, initial=10**9) <= CHUNK
    return {
        "frames": len(world),
        "chunks": len(range(0, len(world), STEP)),
        "revisiting_frames": len(revisits),
        "share_of_far_pairs_at_the_same_place": float(same_place.sum() / max(1, limits.sum())),
        "candidates": len(chosen),
        "right": len(right),
        "precision": len(right) / len(chosen) if chosen else None,
        "covered": float(covered.mean()) if len(revisits) else None,
        "median_distance_m": float(np.median([distance[c.later, c.earlier] for c in chosen]))
        if chosen
        else None,
        "thresholds": sorted({round(one.threshold, 3) for one in chosen})[:: max(1, len(chosen) // 4)],
    }


def disturbed(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turned, zoomed, of other brightness, blurred, noisy, a ninth of it covered."""
    height, width = image.shape[:2]
    warp = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-6, 6), rng.uniform(1.1, 1.4))
    warp[:, 2] += rng.uniform(-0.08, 0.08, 2) * [width, height]
    seen = cv2.warpAffine(image, warp, (width, height), borderMode=cv2.BORDER_REFLECT) / 255
    seen = cv2.GaussianBlur(255 * seen ** rng.uniform(0.6, 1.7), (0, 0), 1.0)
    seen += rng.normal(size=seen.shape) * 8
    left, top = rng.integers(0, width // 2), rng.integers(0, height // 2)
    seen[top : top + height // 3, left : left + width // 3] = 90
    return np.clip(seen, 0, 255).astype(np.uint8)


def vlad(clip: str, pattern: str, chunk: int) -> dict[str, Any]:
    paths = sorted((SHARED / "data" / clip).glob(pattern))
    images = [
        resize_for_processing(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), 504) for path in paths
    ]
    rng = np.random.default_rng(0)
    video = images + [disturbed(image, rng) for image in images[-2::-1]]
    began = time.process_time()
    features = [VladDescriptor.local_features(image) for image in video]
    extraction_s, began = time.process_time() - began, time.process_time()
    descriptor = VladDescriptor(VladVocabulary.train(features))
    training_s, began = time.process_time() - began, time.process_time()
    vectors = descriptor.describe_features(features, indices=np.arange(len(video)))
    aggregation_s = time.process_time() - began
    n = len(images)
    back = np.arange(n, len(video))
    best = (vectors[back] @ vectors[:n].T).argmax(axis=1)
    counterpart = 2 * (n - 1) - back
    path = np.stack([np.abs(np.arange(len(video)) - (n - 1.0)), *np.zeros((2, len(video)))], axis=1)
    chosen = online_candidates(vectors, path, chunk=chunk)
    errors = [abs(2 * (n - 1) - one.later - one.earlier) for one in chosen]
    return {
        "frames": len(video),
        "recall_at_1_same_frame": float((best == counterpart).mean()),
        "recall_at_1_within_one_frame": float((abs(best - counterpart) <= 1).mean()),
        "candidates": [(one.later, one.earlier, round(one.similarity, 3)) for one in chosen],
        "threshold": chosen[-1].threshold if chosen else None,
        "candidates_within_two_frames": sum(error <= 2 for error in errors),
        "cpu_s_per_frame": {
            "sift": extraction_s / len(video),
            "aggregation": aggregation_s / len(video),
            "training_in_total": training_s,
        },
    }


def index_cost(frames: int, dim: int, folder: Path) -> dict[str, Any]:
    """Places seen twice, a hundred frames each of random walks: is the counterpart among the 20 best?

    As in a run, every third frame of a block is searched for, in one call.
    """
    block = 100
    index = PlaceIndex(lambda wanted: _stored(folder, wanted, block))
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(64, dim)).astype(np.float32)
    base = _resident_bytes()
    peak, adding_s = 0, 0.0
    for start in range(0, frames, block):
        encoded = encode_descriptors(_walk(start, block, mixing, noise=0))
        (folder / f"{start // block}").write_bytes(encoded)
        began = time.perf_counter()
        index.add(np.arange(start, start + block))
        adding_s += time.perf_counter() - began
        peak = max(peak, _resident_bytes() - base)
    began, found, searched = time.perf_counter(), 0, 0
    for start in range(0, frames, max(block, frames // 8 // block * block)):
        queries = _walk(start, block, mixing, noise=1)[::3]
        result = index.search(queries, 20, before=np.full(len(queries), frames))
        truth = start + np.arange(0, block, 3)
        found += int((np.abs(result.indices - truth[:, None]) <= 2).any(axis=1).sum())
        searched += len(queries)
        peak = max(peak, _resident_bytes() - base)
    return {
        "frames": frames,
        "dim": dim,
        "compressed": index.is_compressed,
        "stride": index.stride,
        "recall_at_20_within_two_frames": found / searched,
        "peak_growth_mb": peak / 1e6,
        "highest_growth_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - base) / 1e6,
        "add_ms_per_frame": 1e3 * adding_s / frames,
        "search_ms_per_query": 1e3 * (time.perf_counter() - began) / searched,
        "search_ms_per_frame": 1e3 * (time.perf_counter() - began) / searched / 3,
    }


def _stored(folder: Path, frames: NDArray[np.int64], block: int) -> NDArray[np.float32]:
    """Descriptors from a file a block, as a run stores them."""
    parts = np.split(frames, np.flatnonzero(np.diff(frames // block)) + 1)
    return np.concatenate([read_descriptors(folder / f"{p[0] // block}", p % block) for p in parts])


def _walk(start: int, count: int, mixing: NDArray[np.float32], *, noise: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(start + 1)
    latent = np.cumsum(rng.normal(size=(count, len(mixing))), axis=0) * 0.3 + rng.normal(size=len(mixing)) * 2
    vectors = latent.astype(np.float32) @ mixing
    vectors += np.random.default_rng([start, noise]).normal(size=vectors.shape).astype(np.float32) * 8
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["candidates", "vlad", "index"])
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=8448)
    arguments = parser.parse_args()
    report: dict[str, Any]
    if arguments.what == "candidates":
        report = {
            "city": simulated("city_loop", False, 8.0, None),
            "city, first half": simulated("city_loop", False, 8.0, 550),
            "chess": simulated("chess", True, 1.0, None),
        }
    elif arguments.what == "vlad":
        report = {
            "kitti": vlad("kitti_seq1", "image_l/*.png", 24),
            "fox": vlad("fox", "images/*.jpg", 24),
        }
    else:
        with tempfile.TemporaryDirectory() as name:
            report = {"index": index_cost(arguments.frames, arguments.dim, Path(name))}
    print(json.dumps({**describe_environment(vars(arguments)), **report}, indent=2))


if __name__ == "__main__":
    main()
