"""Real runs, killed with SIGKILL at random moments and resumed: is the result the same, is a child left?

    python benchmarks/interruptions.py classical                 # 600 frames of KITTI there and back
    python benchmarks/interruptions.py video                     # 10 minutes decoded, simulated estimator
    python benchmarks/interruptions.py video --frames 600        # a short one

The clips lie in the folder that DA3STREAM_SHARED names (default: ../shared beside the checkout). The run is
made once without a kill, and its journal is watched. Then moments are drawn from its duration, and a second
run is killed when its own journal has grown as far as the first one's had at such a moment, and as long after
that: so kills hit decoding, estimation and the writing of the outputs, however long it takes to come there
again. Only the main process is killed; its children have to end by themselves. Compared are all files that
DESIGN.md, section 6, promises to be identical.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from metadata import describe_environment

import da3stream
from da3stream.synthetic.capture import SimulatedEstimator, SimulatedWorld
from da3stream.synthetic.paths import street_laps

SHARED = Path(os.environ.get("DA3STREAM_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
KITTI, ROBOT = SHARED / "kitti_seq1" / "image_l", SHARED / "robot_unitree.mp4"
KITTI_CAMERA = (707.0912, 707.0912, 601.8873 + 0.5, 183.1104 + 0.5)
FPS, VIDEO_SIZE = 30, (640, 360)
FRAMES = {"classical": 600, "video": 10 * 60 * FPS}
CHUNK_SIZE = {"classical": 24, "video": 60}
IDENTICAL = ("camera_poses.*", "intrinsic.txt", "trajectory_*", "cameras.json", "loop_closures.*")
IDENTICAL += ("pcd/**/*", "colmap/sparse/**/*", "submaps/*")
WATCH_S = 0.05
PATIENCE_S = 30.0
"""How long children may take to notice that their parent is gone."""


@dataclass(frozen=True, kw_only=True)
class Kill:
    """One kill, and what the run had done until then."""

    moment_share: float
    """Moment in the undisturbed run, as a share of its duration."""
    seconds: float
    """From the start of the process to its death."""
    journal_lines: int
    chunks: int
    has_outputs: bool
    """It was killed while the outputs were written."""
    children: int
    """That lived when it was killed."""
    children_left: int
    """That still lived half a minute later."""


# Inputs -----------------------------------------------------------------------------------------------------


def there_and_back(frames: int) -> Iterator[Path]:
    """Images of KITTI from the first to the last and back, again and again."""
    images = sorted(KITTI.iterdir())
    return islice(cycle([*images, *images[-2:0:-1]]), frames)


def make_folder(folder: Path, frames: int) -> Path:
    folder.mkdir()
    for number, path in enumerate(there_and_back(frames)):
        (folder / f"{number:06d}{path.suffix}").symlink_to(path)
    return folder


def make_video(path: Path, frames: int) -> Path:
    """The robot's clip there and back, again and again, as H.264 of 640x360."""
    width, height = VIDEO_SIZE
    with av.open(str(ROBOT)) as container:
        pictures = [
            frame.reformat(width, height, "yuv420p").to_ndarray() for frame in container.decode(video=0)
        ]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "28"}
        for number, picture in enumerate(islice(cycle([*pictures, *pictures[-2:0:-1]]), frames)):
            frame = av.VideoFrame.from_ndarray(picture, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


# The run ----------------------------------------------------------------------------------------------------


def reconstruct(arguments: argparse.Namespace, source: Path, output: Path) -> None:
    """One run, begun or resumed: what the process does that is killed."""
    overrides: dict[str, Any] = {
        "chunk_size": arguments.chunk_size or CHUNK_SIZE[arguments.case],
        "resolution": arguments.resolution,
        "select": "all",
        "place": "vlad",
    }
    if arguments.case == "classical":
        config = da3stream.load_config(None, {**overrides, "model": "classical", "intrinsics": KITTI_CAMERA})
        da3stream.reconstruct(source, output, config=config, resume=True)
        return
    world = SimulatedWorld(street_laps(arguments.frames), seed=7, size=(20, 36), hfov_deg=82)
    config = da3stream.load_config(None, overrides)
    estimator = SimulatedEstimator(world, seed=1)
    da3stream.reconstruct(source, output, config=config, estimator=estimator, resume=True)


def start(source: Path, output: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, *sys.argv, "--child", str(source), str(output)])


def journal(output: Path) -> list[str]:
    path = output / "journal.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def journal_bytes(output: Path) -> int:
    path = output / "journal.jsonl"
    return path.stat().st_size if path.exists() else 0


def undisturbed(source: Path, output: Path) -> list[tuple[float, int]]:
    """Make the run without a kill. Returns (seconds, bytes of the journal), whenever it grew, and last."""
    began, grown = time.perf_counter(), [(0.0, 0)]
    process = start(source, output)
    while process.poll() is None:
        if (size := journal_bytes(output)) > grown[-1][1]:
            grown.append((time.perf_counter() - began, size))
        time.sleep(WATCH_S)
    if process.returncode != 0:
        raise SystemExit(f"the undisturbed run failed with status {process.returncode}")
    return [*grown, (time.perf_counter() - began, journal_bytes(output))]


def run_until(source: Path, output: Path, share: float, grown: list[tuple[float, int]]) -> Kill | None:
    """Resume the run and kill it at the moment; None if it had ended before."""
    moment_s = share * grown[-1][0]
    reached_s, size = max(step for step in grown[:-1] if step[0] <= moment_s)
    began, process = time.perf_counter(), start(source, output)
    deadline = None
    while deadline is None or time.perf_counter() < deadline:
        if process.poll() is not None:
            if process.returncode != 0:
                raise SystemExit(f"a resumed run failed with status {process.returncode}")
            return None
        if deadline is None and journal_bytes(output) >= size and is_under_way(process.pid, output):
            deadline = time.perf_counter() + moment_s - reached_s
        time.sleep(WATCH_S)
    children = descendants(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    seconds = time.perf_counter() - began
    lines = journal(output)
    return Kill(
        moment_share=share,
        seconds=seconds,
        journal_lines=len(lines),
        chunks=len(list((output / "submaps").glob("*.safetensors"))),
        has_outputs=bool(list(output.glob("scratch/*")) or (output / "camera_poses.txt").exists()),
        children=len(children),
        children_left=len(still_alive(children)),
    )


def is_under_way(pid: int, output: Path) -> bool:
    """Whether the process has locked the run: what is there may be of the process before it."""
    lock = (output / "lock").resolve()
    handles = Path(f"/proc/{pid}/fd")
    return any(handle.resolve() == lock for handle in handles.iterdir())


def descendants(pid: int) -> list[int]:
    """Process ids of children and their children."""
    path = Path(f"/proc/{pid}/task")
    found = [int(child) for task in path.glob("*/children") for child in task.read_text().split()]
    return found + [below for child in found for below in descendants(child)]


def still_alive(pids: list[int]) -> list[int]:
    deadline = time.perf_counter() + PATIENCE_S
    alive = pids
    while alive and time.perf_counter() < deadline:
        alive = [pid for pid in alive if is_alive(pid)]
        time.sleep(WATCH_S)
    return alive


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


# The comparison ---------------------------------------------------------------------------------------------


def digests(output: Path) -> dict[str, str]:
    """SHA-256 of the files that must be identical."""
    files = sorted({path for pattern in IDENTICAL for path in output.glob(pattern) if path.is_file()})
    return {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def compare(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    make = make_folder if arguments.case == "classical" else make_video
    source = make(folder / ("images" if arguments.case == "classical" else "clip.mp4"), arguments.frames)
    grown = undisturbed(source, folder / "whole")
    shares = np.sort(np.random.default_rng(arguments.seed).uniform(0.0, 1.0, arguments.kills))
    began, kills = time.perf_counter(), []
    for share in shares:
        kill = run_until(source, folder / "parts", float(share), grown)
        if kill is None:
            break
        print(json.dumps(asdict(kill)), file=sys.stderr, flush=True)
        kills.append(kill)
    last_s = time.perf_counter()
    if start(source, folder / "parts").wait() != 0:
        raise SystemExit("the last resumed run failed")
    whole, parts = digests(folder / "whole"), digests(folder / "parts")
    manifest = json.loads((folder / "parts" / "run.json").read_text())
    return {
        "frames": manifest["frames"],
        "chunks": manifest["chunks"],
        "coarse_chunks": manifest["coarse_chunks"],
        "loops": manifest["loops"],
        "undisturbed_s": grown[-1][0],
        "killed_and_resumed_s": time.perf_counter() - began,
        "last_resume_s": time.perf_counter() - last_s,
        "kills": [asdict(kill) for kill in kills],
        "children_left": sum(kill.children_left for kill in kills),
        "files_compared": len(whole.keys() | parts.keys()),
        "files_different": sorted(
            name for name in whole.keys() | parts.keys() if whole.get(name) != parts.get(name)
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", choices=list(FRAMES))
    parser.add_argument("--frames", type=int, help=f"default: {FRAMES}")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--chunk-size", type=int, help=f"default: {CHUNK_SIZE}")
    parser.add_argument("--resolution", type=int, default=504)
    parser.add_argument("--child", nargs=2, type=Path, metavar=("INPUT", "RUN"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.frames = arguments.frames or FRAMES[arguments.case]
    if arguments.child:
        reconstruct(arguments, *arguments.child)
        return
    with tempfile.TemporaryDirectory() as folder:
        report = compare(arguments, Path(folder))
    del arguments.child
    print(json.dumps({**describe_environment(vars(arguments)), **report}, indent=2))


if __name__ == "__main__":
    main()
