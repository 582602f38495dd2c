"""`da3stream depth` as a user meets it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from da3stream.cli import cli
from da3stream.errors import ConfigError, InputError, RunExistsError, StoreError, WeightsError
from tests.estimation.da3.checkpoint_files import few_arrays, tiny_arrays, write_folder
from tests.source.test_focal_length import write_photo

Depth = Callable[..., str]
TINY = ("--model", "tiny", "--weights", "seeded:0")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: no weights here, nor in the hub's cache, nor in the checkout."""
    monkeypatch.chdir(tmp_path)
    for module in ("da3stream.transformer.weights_folders", "da3stream.estimation.da3.weights"):
        monkeypatch.setattr(f"{module}.weights_folders", lambda: (tmp_path / "weights",))
    monkeypatch.setattr("da3stream.estimation.da3.weights.cached_folder", lambda _model: None)
    return tmp_path


@pytest.fixture
def single_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """The single-view models are small ones."""
    from tests.estimation.da3.small_networks import small_single_view

    monkeypatch.setattr(
        "da3stream.estimation.da3.loading.load_network", lambda name, **_: small_single_view(name)
    )


def depth(*arguments: str | Path) -> str:
    """What the command prints; its errors are raised."""
    ended = CliRunner().invoke(cli, ["depth", *map(str, arguments)], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended.output


def picture(path: Path, height: int, width: int) -> Path:
    noise = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), noise)
    return path


def results(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_set_of_images_by_an_any_view_model(folder: Path) -> None:
    images = [picture(folder / "a.png", 84, 112), picture(folder / "b.png", 112, 112)]
    printed = depth(*images, "-o", "out", *TINY, "--resolution", 56, "--features", "0,3")
    assert tree(folder / "out") == {
        "npz/results.npz", "depth_vis/0000_a.png", "depth_vis/0001_b.png",
    }  # fmt: skip
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["depth_vis", "npz"]
    found = results(folder / "out/npz/results.npz")
    shapes = {name: array.shape for name, array in found.items()}
    assert shapes == {
        "image": (2, 42, 56, 3), "depth": (2, 42, 56), "conf": (2, 42, 56), "extrinsics": (2, 3, 4),
        "intrinsics": (2, 3, 3), "is_metric": (2,),
        "feat_layer_0": (2, 3, 4, 64), "feat_layer_3": (2, 3, 4, 64),
    }  # fmt: skip
    assert not found["is_metric"].any()
    assert np.isfinite(found["depth"]).all()
    assert found["depth"].min() > 0
    shown = cv2.imread(str(folder / "out/depth_vis/0001_b.png"))
    np.testing.assert_array_equal(shown[:, :56, ::-1], found["image"][1])
    first, second = printed.splitlines()
    assert first.startswith(f"{images[0]}  112x84 -> 56x42  median depth ")
    assert f"(no unit)  fx {found['intrinsics'][0, 0, 0]:.1f} fy" in first
    assert second.startswith(f"{images[1]}  112x112 -> 56x42  ")
    assert second.endswith("sky not estimated")


def test_images_of_several_sizes_by_a_single_view_model(folder: Path, single_view: None) -> None:
    photo = write_photo(folder / "photo.jpg", 24, (300, 200))
    other = picture(folder / "other.png", 100, 100)
    printed = depth(photo, other, "-o", "out", "--model", "DA3METRIC-LARGE", "--resolution", 84)
    assert tree(folder / "out") == {
        "npz/results_0000_photo.npz", "npz/results_0001_other.npz",
        "depth_vis/0000_photo.png", "depth_vis/0001_other.png",
    }  # fmt: skip
    known, unknown = (results(folder / f"out/npz/results_{n}.npz") for n in ("0000_photo", "0001_other"))
    assert known.keys() == {"image", "depth", "sky", "is_metric", "intrinsics"}
    assert unknown.keys() == {"image", "depth", "sky", "is_metric"}
    assert known["is_metric"].all()
    np.testing.assert_allclose(known["intrinsics"][0], [[56, 0, 42], [0, 56, 28], [0, 0, 1]], rtol=1e-6)
    first, second, note = printed.splitlines()
    assert " m  fx 56.0 fy 56.0 px  sky " in first
    assert " for f = 300 px  focal length unknown  sky " in second
    assert note.startswith("Depth is not in metres where the focal length is unknown")


def test_the_focal_length_that_is_given_beats_that_of_the_photo(folder: Path, single_view: None) -> None:
    photo = write_photo(folder / "photo.jpg", 24, (300, 200))
    options = ("--model", "da3metric-large", "--resolution", 84, "--to", "mini_npz")
    depth(photo, "-o", "exif", *options)
    printed = depth(photo, "-o", "given", *options, "--focal", 600)
    by_exif, given = (results(folder / name / "mini_npz/results.npz") for name in ("exif", "given"))
    np.testing.assert_allclose(given["depth"], 3 * by_exif["depth"], rtol=1e-5)  # EXIF: 200 pixels
    assert "image" not in given
    assert len(printed.splitlines()) == 1


def test_the_monocular_model_promises_no_metres(folder: Path, single_view: None) -> None:
    image = picture(folder / "a.png", 28, 42)
    printed = depth(image, "-o", "out", "--model", "da3mono-large", "--focal", 50, "--resolution", 42)
    assert "(no unit)  fx 50.0" in printed
    assert "metres" not in printed
    assert not results(folder / "out/npz/results.npz")["is_metric"].any()


def test_lower_resize_and_rays(folder: Path) -> None:
    image = picture(folder / "a.png", 100, 200)
    printed = depth(image, "-o", "out", *TINY, "--resolution", 56, "--resize", "lower", "--pose-head", "ray")
    assert "200x100 -> 112x56" in printed


def test_an_output_that_is_not_empty_is_kept(folder: Path) -> None:
    image = picture(folder / "a.png", 28, 42)
    arguments = (image, "-o", "out", *TINY, "--resolution", 42)
    depth(*arguments, "--to", "npz,mini_npz")
    (folder / "out/scratch").mkdir()
    (folder / "out/scratch/mine.txt").write_text("mine")
    before = (folder / "out/npz/results.npz").read_bytes()
    with pytest.raises(RunExistsError, match="out is not empty"):
        depth(*arguments)
    depth(*arguments, "--to", "npz", "--overwrite")
    assert tree(folder / "out") == {"npz/results.npz", "scratch/mine.txt"}
    assert (folder / "out/npz/results.npz").read_bytes() == before


def test_nothing_appears_if_something_cannot_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("da3stream.writers.depth_vis.save_picture", full)
    image = picture(folder / "a.png", 28, 42)
    with pytest.raises(StoreError, match="cannot write to out; got No space left on device"):
        depth(image, "-o", "out", *TINY, "--resolution", 42)
    assert list((folder / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (["--to", "npz,glb"], ConfigError, "got glb; expected one or several of npz, mini_npz, depth_vis"),
        (["--to", ","], ConfigError, "got none"),
        (["--model", "da4"], ConfigError, "there is no such DA3 model; got 'da4'"),
        (["--weights", "seeded:0"], ConfigError, "nothing says which model seeded:0 is for"),
        (["--focal", "500", "--model", "da3-base"], ConfigError, "estimates the cameras itself"),
        (["--pose-head", "ray", "--model", "da3mono-large"], ConfigError, "has no poses"),
        (["--model", "da3-base"], WeightsError, "da3stream weights fetch da3-base"),
        ([], WeightsError, "da3stream weights fetch da3metric-large"),
        (["no.png", *TINY], InputError, "there is no image no.png"),
    ],
)
def test_what_cannot_be_done_is_said(
    folder: Path, options: list[str], error: type[Exception], message: str
) -> None:
    image = picture(folder / "a.png", 28, 42)
    with pytest.raises(error) as raised:
        depth(image, "-o", "out", *options)
    assert message in str(raised.value)
    assert not (folder / "out").exists()


@pytest.mark.parametrize("options", [["--features", "5,a"], ["--focal", "0"], ["--resize", "middle"]])
def test_wrong_usage(folder: Path, options: list[str]) -> None:
    arguments = ["depth", str(picture(folder / "a.png", 28, 42)), "-o", "out", *TINY, *options]
    assert CliRunner().invoke(cli, arguments).exit_code == 2


def test_the_model_is_the_best_one_whose_weights_are_here(folder: Path) -> None:
    from da3stream.cli.depth import _model_name

    held = folder / "weights"
    for name, best in [
        ("da3-small", "da3-small"),
        ("da3-large", "da3-large"),
        ("da3mono-large", "da3-large"),
        ("da3metric-large", "da3metric-large"),
    ]:
        write_folder(held / name, few_arrays(), model=name)
        assert _model_name(None, None) == best
    assert _model_name(None, str(held / "da3mono-large")) == "da3mono-large"
    assert _model_name("depth-anything/DA3-LARGE-1.1", None) == "da3-large"


def test_weights_of_ones_own(folder: Path) -> None:
    held = write_folder(folder / "mine", tiny_arrays())
    image = picture(folder / "a.png", 28, 42)
    depth(image, "-o", "mine_out", "--model", "tiny", "--weights", held, "--resolution", 42)
    depth(image, "-o", "seeded_out", *TINY, "--resolution", 42)
    ours, seeded = (results(folder / f"{name}_out/npz/results.npz") for name in ("mine", "seeded"))
    np.testing.assert_array_equal(ours["depth"], seeded["depth"])


def test_a_wrong_option_costs_no_torch(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom da3stream.cli import main\ncode = 0\ntry:\n    main(['depth', *sys.argv[1:]])\n"
        "except SystemExit as end:\n    code = end.code or 0\nprint(code)\n"
        "print(sorted(sys.modules.keys() & {'torch', 'cv2', 'scipy', 'av', 'pycolmap'}))"
    )
    for arguments, code in ((["--help"], 0), (["a.png", "-o", "out", "--to", "glb"], 1)):
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            capture_output=True, text=True, timeout=120, check=True, cwd=tmp_path,
            env=os.environ | {"HF_HOME": str(tmp_path)},
        )  # fmt: skip
        assert done.stdout.splitlines()[-2:] == [str(code), "[]"]


@pytest.mark.data
def test_a_photograph(folder: Path, shared: Path) -> None:
    image = shared / "data" / "fox" / "images" / "0001.jpg"
    assert "1080x1920 -> 70x126" in depth(image, "-o", "out", *TINY, "--resolution", 126)
