"""`da3stream weights` for the place descriptor."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from da3stream.cli import cli
from da3stream.place.salad import weights
from tests.place.salad.file_server import FileServer, serving


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["weights", *map(str, arguments)])


def test_fetch_list_and_check(small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "weights"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with serving(FileServer(small_file.read_bytes())) as server:
        monkeypatch.setattr(weights, "RELEASE_URL", server.url)
        fetched = invoke("fetch", "salad", "--folder", folder)
    assert fetched.exit_code == 0, fetched.output
    assert fetched.output.splitlines() == [
        "the weights of salad: code GPL-3.0; ask its authors about the weights",
        f"file       {folder / 'dino_salad.ckpt'}",
        f"digest     {hashlib.sha256(small_file.read_bytes()).hexdigest()}",
    ]
    assert str(folder) in invoke("list", "--folder", folder).output.splitlines()[-2]
    for arguments in (("salad", "--folder", folder), (folder / "dino_salad.ckpt",)):
        checked = invoke("check", *arguments)
        assert checked.exit_code == 0, checked.output
        assert checked.output.splitlines()[-2:] == [
            "digest     SHA-256 as recorded at the download",
            "verdict    complete, and fits salad",
        ]


def test_check_of_a_file_under_another_name(small_file: Path) -> None:
    renamed = small_file.rename(small_file.with_name("mine.ckpt"))
    assert "is a pickle" in str(invoke("check", renamed).exception)
    checked = invoke("check", renamed, "--model", "salad")
    assert "digest" not in checked.output
    assert checked.output.splitlines()[-1] == "verdict    complete, and fits salad"


def test_check_of_what_is_not_there(tmp_path: Path) -> None:
    message = str(invoke("check", "salad", "--folder", tmp_path).exception)
    assert message == (
        "dino_salad.ckpt is in no weights folder. Download it with: da3stream weights fetch salad"
    )
