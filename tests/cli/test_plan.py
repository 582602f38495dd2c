"""`da3stream plan`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from da3stream.cli import main
from da3stream.place import choice


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        main(["plan", *arguments])
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_table_ends_with_the_longest_chunk(capsys: pytest.CaptureFixture[str]) -> None:
    small = ("--model", "DA3-SMALL", "--size", "252x140", "--resolution", "252")
    code, out, _ = run(capsys, *small, "--vram", "1.1GB")
    assert code == 0
    assert "da3-small, images of 252 x 140 px" in out
    lines = out.splitlines()
    longest = int(lines[-1].split("GiB: ")[1].split(" frames")[0])
    fits = [not line.endswith("does not fit") for line in lines if " frames  " in line]
    assert fits == [frames <= longest for frames in (8, 16, 30, 60, 120, 240)]
    assert True in fits
    assert False in fits


def test_json_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--model", "da3-small", "--size", "252x140", "--resolution", "252", "--json")
    _, out, _ = run(capsys, *arguments)
    plan = json.loads(out)
    assert plan["image_size"] == [252, 140]
    assert plan["card_bytes"]["60"] > plan["allocated_bytes"]["60"] > plan["weights_bytes"] > 60e6
    assert plan["longest_chunk"] > 240


def test_the_place_descriptor_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    small = ("--model", "da3-small", "--size", "252x140", "--resolution", "252", "--vram", "1.5GB")
    with_salad, without = (
        json.loads(run(capsys, *small, "--place", place, "--json")[1]) for place in ("salad", "vlad")
    )
    assert (with_salad["place"], without["place"], without["place_bytes"]) == ("salad", "vlad", 0)
    salad_bytes = with_salad["place_bytes"]
    assert 200e6 < salad_bytes < 350e6
    for frames, card_bytes in without["card_bytes"].items():
        assert with_salad["card_bytes"][frames] == card_bytes + salad_bytes
    assert with_salad["longest_chunk"] < without["longest_chunk"]
    _, table, _ = run(capsys, *small, "--place", "salad")
    (line,) = [line for line in table.splitlines() if line.startswith("salad")]
    assert line.split()[1] == f"{salad_bytes / 2**30:.2f}"


def test_auto_counts_salad_where_its_weights_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ("--model", "da3-small", "--size", "252x140", "--resolution", "252")
    for found, counted in ((Path("dino_salad.ckpt"), True), (None, False)):
        monkeypatch.setattr(choice, "find_salad", lambda found=found: found)
        assert ("the place descriptor" in run(capsys, *small)[1]) is counted


@pytest.mark.slow
def test_gaussians_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    giant = ("--model", "da3-giant", "--size", "252x140", "--resolution", "252", "--place", "none")
    without, with_them = (
        json.loads(run(capsys, *giant, "--json", "--export", formats)[1])
        for formats in ("poses,glb", "poses,gs_ply")
    )
    assert (without["gaussians_bytes"], without["weights_bytes"] > 2e9) == (0, True)
    assert with_them["weights_bytes"] > without["weights_bytes"]
    assert with_them["longest_chunk"] < without["longest_chunk"]
    extra = {n: with_them["card_bytes"][n] - card for n, card in without["card_bytes"].items()}
    assert extra["240"] > extra["8"] > 0
    assert with_them["gaussians_bytes"] > extra["60"]
    _, table, _ = run(capsys, *giant, "--export", "gs_ply")
    (line,) = [line for line in table.splitlines() if line.startswith("Gaussians")]
    assert line.split()[1] == f"{with_them['gaussians_bytes'] / 2**30:.2f}"
    assert f"for {with_them['longest_chunk']} frames" in line


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--model", "da3metric-large"), 1, "reconstructs no video"),
        (("--model", "resnet"), 1, "got resnet"),
        (("--model", "da3-base", "--export", "gs_ply"), 1, "needs a model that predicts Gaussians"),
        (("--export", "gif"), 1, "gif"),
        (("--size", "1080p"), 2, "no size like 1920x1080"),
        (("--vram", "lots"), 2, "an amount such as 10GB"),
        (
            ("--model", "da3-small", "--size", "252x140", "--resolution", "252", "--vram", "100MB"),
            1,
            "does not fit",
        ),
    ],
)
def test_what_cannot_be_planned(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, words: str
) -> None:
    found, _, err = run(capsys, *arguments)
    assert found == code
    assert words in err
