"""Runs with a calibration file: undistorted on the way in, stated in the outputs, compared when resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import da3stream
from da3stream import load_config
from da3stream.errors import ConfigError, RunMismatchError
from da3stream.geometry.lens import LensCamera
from da3stream.source.undistortion import Undistorter
from da3stream.synthetic.capture import SimulatedSource, SimulatedWorld

from .doubles import CountingEstimator

SIZE = 126, 42
LENS = LensCamera.of((100.0, 100.0, 62.0, 22.0), "radtan:-0.2,0.05,0.0,0.0")


@pytest.fixture
def images(tmp_path: Path, source: SimulatedSource) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for frame in source:
        cv2.imwrite(str(folder / f"{frame.index:03d}.png"), cv2.resize(frame.image, SIZE)[..., ::-1])
    return folder


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    path = tmp_path / "cameras.txt"
    path.write_text("1 RADIAL 252 84 200 124 44 -0.2 0.05\n")
    return path


def options(calibration: Path, **more: Any) -> da3stream.Config:
    more = {
        "colmap_points": "dense",
        "chunk_size": 16,
        "resolution": 126,
        "intrinsics": str(calibration),
        "loop": False,
        **more,
    }
    return load_config(None, more)


def test_everything_after_reading_is_of_a_pinhole_camera(
    tmp_path: Path, world: SimulatedWorld, images: Path, calibration: Path
) -> None:
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    class Listening(CountingEstimator):
        def estimate(self, images: np.ndarray, *, indices: np.ndarray, known_cameras: Any = None) -> Any:
            seen.append((images, known_cameras.intrinsics))
            return super().estimate(images, indices=indices, known_cameras=known_cameras)

    run = tmp_path / "run"
    da3stream.reconstruct(images, run, config=options(calibration), estimator=Listening(world))
    expected = Undistorter(LENS)(cv2.imread(str(images / "000.png")))
    np.testing.assert_array_equal(seen[0][0][0], expected[..., ::-1])
    np.testing.assert_allclose(seen[0][1][0], LENS.pinhole(*SIZE).matrix(), rtol=1e-9)
    np.testing.assert_array_equal(cv2.imread(str(run / "colmap" / "images" / "000.png")), expected)
    said = json.loads((run / "cameras.json").read_text())["distortion"]
    assert said["given_camera"] == {"fx": 100.0, "fy": 100.0, "cx": 62.0, "cy": 22.0}
    config = json.loads((run / "run.json").read_text())["config"]
    assert (config["intrinsics"], config["distortion"]) == ([100.0, 100.0, 62.0, 22.0], str(LENS.distortion))
    assert str(calibration) not in (run / "run.json").read_text()
    da3stream.export(run, ("colmap",))  # reads the input again
    np.testing.assert_array_equal(cv2.imread(str(run / "colmap" / "images" / "000.png")), expected)


def test_resuming_compares_the_numbers_not_the_file_s_name(
    tmp_path: Path, world: SimulatedWorld, images: Path, calibration: Path
) -> None:
    run = tmp_path / "run"

    def reconstruct(config: da3stream.Config) -> None:
        da3stream.reconstruct(images, run, config=config, estimator=CountingEstimator(world), resume=True)

    reconstruct(options(calibration))
    moved = calibration.rename(tmp_path / "moved.txt")
    reconstruct(options(moved))
    reconstruct(options(moved, intrinsics="100,100,62,22,-0.2,0.05,0,0"))
    moved.write_text(moved.read_text().replace("-0.2", "-0.1"))
    with pytest.raises(RunMismatchError, match=r"distortion \(was 'radtan:-0\.2,.*now 'radtan:-0\.1,"):
        reconstruct(options(moved))


def test_a_source_object_is_not_undistorted_in_silence(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource
) -> None:
    config = load_config(None, {"intrinsics": "100,100,62,22,-0.2,0,0,0"})
    with pytest.raises(ConfigError, match="taken as they are"):
        da3stream.reconstruct(source, tmp_path / "run", config=config, estimator=CountingEstimator(world))
    assert not (tmp_path / "run").exists()


@pytest.mark.data
@pytest.mark.slow
def test_fox_with_its_own_calibration(shared: Path, tmp_path: Path) -> None:
    """Twelve images, given as a folder of links; the camera is kept as given."""
    fox = shared / "data" / "fox"
    (tmp_path / "images").mkdir()
    for path in sorted((fox / "images").iterdir())[:12]:
        (tmp_path / "images" / path.name).symlink_to(path)
    config = load_config(
        None, {"intrinsics": str(fox / "transforms.json"), "model": "classical", "loop": False}
    )
    da3stream.reconstruct(tmp_path / "images", tmp_path / "run", config=config)
    cameras = json.loads((tmp_path / "run" / "cameras.json").read_text())
    assert cameras["distortion"]["coefficients"]["k2"] == -0.0805099
    first = cameras["frames"][0]["intrinsics"]
    assert (first["cx"], first["cy"]) == pytest.approx((554.558, 965.268))
    assert first["fx"] / 1375.52 == pytest.approx(first["fy"] / 1374.49)
    assert 1.0 < first["fx"] / 1375.52 < 1.05
