"""Features and matches of a folder that was written before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from da3stream.geometry.camera import Camera, rescale_intrinsics
from da3stream.geometry.sim3 import Sim3
from da3stream.scene import FrameBlock
from da3stream.writers.colmap import ColmapWriter, matching, worker
from da3stream.writers.colmap.job import ColmapJob, load_job
from da3stream.writers.colmap.matching import settings
from da3stream.writers.colmap.model import ModelImage
from da3stream.writers.colmap.pairs import sequence_pairs

from .plane_scene import HEIGHT, INTRINSICS, WIDTH, write
from .test_colmap_triangulates import BLOCK, SIZE, RenderedOriginals, render

WORLD = Sim3(
    scale=2.5, rotation=Rotation.from_rotvec([0.4, -0.3, 0.9]).as_matrix(), translation=np.array([5.0, -1, 2])
)


def in_another_world(block: FrameBlock) -> FrameBlock:
    return replace(
        block,
        world_from_cam=WORLD.move_pose(block.world_from_cam),
        depth=block.depth * np.float32(WORLD.scale),
    )


def job_of(block: FrameBlock, **options: object) -> ColmapJob:
    camera = Camera.from_matrix(rescale_intrinsics(INTRINSICS, (WIDTH, HEIGHT), SIZE), *SIZE)
    poses = enumerate(block.world_from_cam)
    return ColmapJob(
        cameras=[camera],
        images=[ModelImage(name=f"{number}.png", world_from_cam=pose) for number, pose in poses],
        typical_depths=[float(np.median(depth)) for depth in block.depth],
        chunks=[0] * len(block),
        uncertainties={},
        pairs=sequence_pairs(len(block)),
        points_in_world=np.zeros((0, 3), np.float32),
        colors=np.zeros((0, 3), np.uint8),
        camera_model="PINHOLE",
        file_format="binary",
        dense=False,
        refine=False,
        workers=2,
        **options,
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for number, pose in enumerate(BLOCK.world_from_cam):
        cv2.imwrite(str(folder / f"{number}.png"), render(pose))
    return folder


@pytest.fixture
def make(tmp_path: Path, images: Path):
    """Makes a folder of a job; returns it."""

    def work(name: str, job: ColmapJob, changed: int | None = None) -> Path:
        folder, scratch = tmp_path / name, tmp_path / f"{name}.scratch"
        (folder / "images").mkdir(parents=True)
        scratch.mkdir()
        for path in images.iterdir():
            (folder / "images" / path.name).write_bytes(path.read_bytes())
        if changed is not None:
            path = folder / "images" / f"{changed}.png"
            cv2.imwrite(str(path), cv2.imread(str(path))[:, ::-1])
        worker.work(folder, scratch, job, lambda line: None)
        return folder

    return work


@pytest.fixture
def work_done(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Images in which features are found, and pairs that are matched, from now on."""
    done: dict[str, list[str]] = {"images": [], "pairs": []}
    find, match = matching.image_features, matching.match_features

    def found(path: Path):
        done["images"].append(path.name)
        return find(path)

    def matched(first, second):
        done["pairs"].append("")
        return match(first, second)

    monkeypatch.setattr(matching, "image_features", found)
    monkeypatch.setattr(matching, "match_features", matched)
    return done


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def known(folder: Path) -> dict[str, str]:
    return {"earlier": str(folder), "earlier_settings": settings()}


def test_another_world_comes_out_as_if_matched_anew_and_nothing_is_matched(make, work_done):
    earlier = make("earlier", job_of(BLOCK))
    before, moved = contents(earlier), in_another_world(BLOCK)
    fresh = make("fresh", job_of(moved))
    work_done["images"].clear()
    work_done["pairs"].clear()
    again = make("again", job_of(moved, **known(earlier)))
    assert work_done == {"images": [], "pairs": []}
    assert contents(again) == contents(fresh) != before
    assert contents(earlier) == before, "it is only read"


def test_only_an_image_that_has_changed_is_matched_again(make, work_done):
    earlier = make("earlier", job_of(BLOCK))
    fresh = make("fresh", job_of(BLOCK), changed=4)
    work_done["images"].clear()
    work_done["pairs"].clear()
    again = make("again", job_of(BLOCK, **known(earlier)), changed=4)
    assert work_done["images"] == ["4.png"]
    assert len(work_done["pairs"]) == sum(4 in pair for pair in sequence_pairs(len(BLOCK)))
    assert contents(again) == contents(fresh)


def test_features_of_other_settings_are_not_taken(make, work_done):
    earlier = make("earlier", job_of(BLOCK))
    work_done["images"].clear()
    make("again", job_of(BLOCK, earlier=str(earlier), earlier_settings="SIFT of another kind"))
    assert len(work_done["images"]) == len(BLOCK)


def test_the_writer_hands_over_what_it_has_written(make_context, outputs, monkeypatch):
    names = tuple(f"{i:06d}.png" for i in BLOCK.source_index)
    block = replace(BLOCK, names=names, original_size=np.tile(SIZE, (len(BLOCK), 1)))
    jobs = []

    def report(folder: Path, scratch: Path, say: object) -> dict[str, object]:
        (folder / "sparse" / "0").mkdir(parents=True)
        jobs.append(load_job(scratch))
        return {"features": "of this kind", "points_with_tracks": 1}

    monkeypatch.setattr("da3stream.writers.colmap.writer.run_worker", report)
    context = make_context(frames=len(BLOCK), originals=RenderedOriginals(), colmap_points="tracks")
    first = ColmapWriter(context)
    write(first, [block])
    again = replace(context, earlier={"colmap": first.report}, written=lambda path: outputs.root / path)
    write(ColmapWriter(again), [block])
    assert jobs[0].earlier is None
    assert Path(jobs[1].earlier) == outputs.root / "colmap"
    assert jobs[1].earlier_settings == "of this kind"
