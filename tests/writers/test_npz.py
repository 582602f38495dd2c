"""npz files read back without pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.writers.npz import save_results


def arrays(height: int, width: int, value: float) -> dict[str, NDArray[Any]]:
    return {
        "image": np.full((height, width, 3), round(value), dtype=np.uint8),
        "depth": np.full((height, width), value, dtype=np.float32),
        "sky": np.zeros((height, width), dtype=bool),
        "is_metric": np.array(value > 1),
    }


def read(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)


def test_images_of_one_size_are_stacked(tmp_path: Path) -> None:
    images = [arrays(4, 6, 1), arrays(4, 6, 2)]
    images[1]["intrinsics"] = np.eye(3, dtype=np.float32)
    save_results(tmp_path, images, ["a", "b"], with_images=True)
    found = read(tmp_path / "results.npz")
    assert found.keys() == {"image", "depth", "sky", "is_metric", "intrinsics"}
    for name in ("image", "depth", "sky", "is_metric"):
        np.testing.assert_array_equal(found[name], [image[name] for image in images])
        assert found[name].dtype == images[0][name].dtype
    assert np.isnan(found["intrinsics"][0]).all()
    np.testing.assert_array_equal(found["intrinsics"][1], np.eye(3))
    assert [path.name for path in tmp_path.iterdir()] == ["results.npz"]


def test_the_small_file_has_no_images(tmp_path: Path) -> None:
    save_results(tmp_path, [arrays(4, 6, 1)], ["a"], with_images=False)
    assert read(tmp_path / "results.npz").keys() == {"depth", "sky", "is_metric"}


def test_images_of_several_sizes_get_a_file_each(tmp_path: Path) -> None:
    save_results(tmp_path, [arrays(4, 6, 1), arrays(6, 4, 2)], ["a", "b"], with_images=True)
    assert {path.name for path in tmp_path.iterdir()} == {"results_a.npz", "results_b.npz"}
    assert read(tmp_path / "results_a.npz")["depth"].shape == (1, 4, 6)
    np.testing.assert_array_equal(read(tmp_path / "results_b.npz")["depth"], np.full((1, 6, 4), 2))
