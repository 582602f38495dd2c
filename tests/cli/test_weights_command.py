"""`da3stream weights` as a user meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from da3stream.cli import cli
from da3stream.errors import Da3StreamError
from tests.estimation.da3.checkpoint_files import few_arrays, tiny_arrays, write_folder, write_weights
from tests.estimation.da3.fake_hub import COMMIT, FakeHub, serving

NOWHERE = "http://127.0.0.1:9"

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def weights(tmp_path: Path) -> Command:
    """Runs `da3stream weights ARGUMENTS` in an empty folder, with an empty cache and no network."""
    work = tmp_path / "work"
    work.mkdir()

    def run(*arguments: str | Path, endpoint: str = NOWHERE, **more: str) -> subprocess.CompletedProcess[str]:
        settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1", **more}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        return subprocess.run(
            [sys.executable, "-m", "da3stream", "weights", *map(str, arguments)],
            capture_output=True, text=True, timeout=120, check=False, cwd=work, env=environment | settings,
        )  # fmt: skip

    return run


def only_line(text: str) -> str:
    (line,) = text.strip().splitlines()
    return line


def test_list(weights: Command, tmp_path: Path) -> None:
    write_folder(tmp_path / "work" / "weights" / "da3-base", few_arrays(), model="da3-base")
    write_folder(tmp_path / "work" / "weights" / "da3-small", few_arrays(), model="da3-base")
    ended = weights("list")
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    models = {line.split()[0]: place.strip() for line, place in zip(lines[:-1:2], lines[1::2], strict=True)}
    assert len(models) == 8
    assert models["salad"] == "not on this machine"
    assert models["da3-base"].endswith(str(Path("weights") / "da3-base"))
    assert "holds another model" in models["da3-small"]
    assert models["da3-large"] == "not on this machine"
    assert any("0.35 GB  code GPL-3.0; ask its authors about the weights" in line for line in lines)
    assert any("6.76 GB" in line and "CC BY-NC 4.0" in line and "DA3NESTED" in line for line in lines)
    assert "no commercial use" in lines[-1]


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["fetch", "--help"], ["check", "--help"]])
def test_what_needs_no_network_class_loads_no_torch(arguments: list[str], tmp_path: Path) -> None:
    script = (
        "import sys\nfrom da3stream.cli import main\ntry:\n    main(['weights', *sys.argv[1:]])\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "print(sorted(sys.modules.keys() & {'torch', 'safetensors', 'cv2', 'pycolmap'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True, text=True, timeout=120, check=True, env=os.environ | {"HF_HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"


def test_fetch_into_the_cache_survives_a_broken_connection(weights: Command, tmp_path: Path) -> None:
    """The hub's library writes 10 MiB at a time; a connection cut after the first continues from there."""
    arrays = {"model.w": np.ones((3000, 1000), np.float32)}
    published = write_folder(tmp_path / "published", arrays, model="da3-small")
    files = {file.name: file.read_bytes() for file in published.iterdir()}
    with serving(FakeHub("depth-anything/DA3-SMALL", {**files, "demo.mp4": b"not wanted"})) as hub:
        hub.cut_after = 11_000_000
        ended = weights("fetch", "da3-small", endpoint=hub.url)
        assert ended.returncode == 0, ended.stderr
        starts = [start for method, path, start in hub.requests if path.endswith("/model.safetensors")]
        assert f"bytes={10 << 20}-" in starts
        assert not any("demo.mp4" in path for _, path, _ in hub.requests)
        hub.requests.clear()
        assert weights("fetch", "depth-anything/DA3-SMALL", endpoint=hub.url).returncode == 0
        assert not any(method == "GET" and "/resolve/" in path for method, path, _ in hub.requests)
    assert "licensed under Apache-2.0" in ended.stdout
    assert f"revision   {COMMIT}" in ended.stdout
    place = next(line for line in ended.stdout.splitlines() if line.startswith("file")).split(maxsplit=1)[1]
    assert Path(place).read_bytes() == files["model.safetensors"]
    assert str(Path(place).parent) in weights("list").stdout


def test_fetch_into_a_folder_records_the_revision(weights: Command, tmp_path: Path) -> None:
    published = write_folder(tmp_path / "published", few_arrays(), model="da3-large")
    files = {file.name: file.read_bytes() for file in published.iterdir()}
    with serving(FakeHub("depth-anything/DA3-LARGE-1.1", files)) as hub:
        ended = weights("fetch", "da3-large", "--folder", "weights", endpoint=hub.url)
    assert ended.returncode == 0, ended.stderr
    assert "CC BY-NC 4.0: no commercial use" in ended.stdout
    held = tmp_path / "work" / "weights" / "da3-large"
    assert json.loads((held / "fetched.json").read_text())["revision"] == COMMIT
    assert (held / "model.safetensors").read_bytes() == files["model.safetensors"]
    assert f"revision   {COMMIT}" in ended.stdout
    assert str(held) in weights("list").stdout


@pytest.mark.parametrize("settings", [{}, {"HF_HUB_OFFLINE": "1"}])
def test_without_network_fetch_is_one_line(weights: Command, settings: dict[str, str]) -> None:
    ended = weights("fetch", "da3-small", **settings)
    assert ended.returncode == 1
    line = only_line(ended.stderr)
    assert line.startswith("error: depth-anything/DA3-SMALL cannot be fetched")
    assert "weights/da3-small/" in line


def test_a_repository_that_gives_no_access_is_one_line(weights: Command) -> None:
    with serving(FakeHub("depth-anything/DA3-BASE", {})) as hub:
        ended = weights("fetch", "da3-small", endpoint=hub.url)
    assert ended.returncode == 1
    assert "gives no access to depth-anything/DA3-SMALL" in only_line(ended.stderr)


def test_an_unknown_model_lists_the_known_ones(weights: Command) -> None:
    ended = weights("fetch", "da4")
    assert ended.returncode == 1
    assert "no model is called da4; expected da3-small, da3-base" in only_line(ended.stderr)


def test_check_gives_a_verdict(weights: Command, tmp_path: Path) -> None:
    held = write_folder(tmp_path / "mine", tiny_arrays())
    assert "Say it: --model NAME" in only_line(weights("check", held).stderr)
    ended = weights("check", held, "--model", "tiny", "--full")
    assert ended.returncode == 0, ended.stderr
    assert "tensors    337" in ended.stdout
    assert "values     803,839, all finite" in ended.stdout
    assert ended.stdout.splitlines()[-1].startswith("verdict    complete, and fits tiny")


def test_check_finds_what_is_wrong(tmp_path: Path) -> None:
    def refusal(*arguments: str | Path) -> str:
        ended = CliRunner().invoke(cli, ["weights", "check", *map(str, arguments)])
        assert isinstance(ended.exception, Da3StreamError)
        assert "verdict" not in ended.output
        return str(ended.exception)

    arrays = tiny_arrays()
    file = write_folder(tmp_path / "mine", arrays) / "model.safetensors"
    tiny = (file, "--model", "tiny")
    assert "there is no such DA3 model; got 'da4'" in refusal(file, "--model", "da4")
    dropped = "model.backbone.pretrained.norm.bias"
    write_weights(file, {name: array for name, array in arrays.items() if name != dropped})
    assert "1 missing (backbone.pretrained.norm.bias)" in refusal(*tiny)
    arrays[dropped][3] = np.nan
    write_weights(file, arrays)
    assert CliRunner().invoke(cli, ["weights", "check", *map(str, tiny)]).exit_code == 0
    assert "NaN or infinities" in refusal(*tiny, "--full")
    os.truncate(file, file.stat().st_size // 2)
    assert "is incomplete" in refusal(*tiny)
