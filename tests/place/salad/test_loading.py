"""Checkpoint files, whole and damaged."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from da3stream.errors import ConfigError, WeightsError
from da3stream.place.salad import loading, weights
from da3stream.place.salad.checkpoint import check_salad
from da3stream.place.salad.descriptor import SaladDescriptor
from da3stream.place.salad.loading import load_salad, weights_identity
from da3stream.place.salad.weights import find_salad
from tests.place.salad.conftest import small_tensors
from tests.place.salad.file_server import FileServer, serving


def refusal(file: Path) -> str:
    with pytest.raises(WeightsError) as raised:
        load_salad(file)
    return str(raised.value)


def test_a_checkpoint_is_loaded_as_stored(small_file: Path) -> None:
    network, stored = load_salad(small_file), torch.load(small_file, weights_only=True)
    assert set(stored) - set(network.state_dict()) == {"backbone.model.mask_token"}
    for name, value in network.state_dict().items():
        assert torch.equal(value, stored[name])
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert check_salad(small_file) == sum(value.numel() for value in network.state_dict().values())


def test_weights_are_told_apart_by_their_content(small_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = weights_identity(small_file)
    assert identity["file"] == "dino_salad.ckpt"
    assert identity["sha256"] == hashlib.sha256(small_file.read_bytes()).hexdigest()
    monkeypatch.setattr(loading, "weights_folders", lambda: (small_file.parent,))
    assert weights_identity() == identity
    assert SaladDescriptor.load(small_file).weights == identity
    assert SaladDescriptor.load("seeded:3").weights == weights_identity("seeded:3") == {"seed": 3}
    torch.save({name: value + 1 for name, value in small_tensors().items()}, small_file)
    assert weights_identity(small_file) != identity


def test_the_file_may_go_once_it_is_loaded(small_file: Path) -> None:
    """Values are copied out of the mapped file."""
    network = load_salad(small_file)
    os.truncate(small_file, 0)
    assert all(bool(parameter.isfinite().all()) for parameter in network.parameters())


def test_the_mask_token_does_not_matter(small_file: Path) -> None:
    tensors = small_tensors()
    tensors["backbone.model.mask_token"].zero_()
    torch.save(tensors, small_file)
    assert check_salad(small_file)
    del tensors["backbone.model.mask_token"]
    torch.save(tensors, small_file)
    load_salad(small_file)


def test_everything_that_does_not_fit_is_listed_at_once(small_file: Path) -> None:
    tensors = small_tensors()
    del tensors["aggregator.score.3.bias"]
    tensors["aggregator.extra"] = torch.ones(1)
    tensors["backbone.model.norm.bias"] = torch.ones(31)
    torch.save(tensors, small_file)
    message = refusal(small_file)
    assert "1 missing (aggregator.score.3.bias)" in message
    assert "1 unexpected (aggregator.extra)" in message
    assert "1 misshapen (backbone.model.norm.bias (31,) for (32,))" in message


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(small_file: Path, share: float) -> None:
    os.truncate(small_file, int(share * small_file.stat().st_size))
    assert "incomplete or damaged" in refusal(small_file)


def test_damaged_bytes_are_an_error_or_other_values_but_never_a_crash(small_file: Path) -> None:
    """Without a recorded SHA-256 a changed value goes unseen; everything else must be a WeightsError."""
    whole, rng = small_file.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        content = np.frombuffer(whole, np.uint8).copy()
        where = rng.integers(0, len(content), 200)
        content[where] = rng.integers(0, 256, 200)
        small_file.write_bytes(content.tobytes())
        try:
            load_salad(small_file)
        except WeightsError:
            refused += 1
    assert refused > 30


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_no_network_has_are_refused(small_file: Path, value: float) -> None:
    tensors = small_tensors()
    tensors["aggregator.dust_bin"] = torch.tensor(value)
    torch.save(tensors, small_file)
    assert "aggregator.dust_bin" in refusal(small_file)
    assert "NaN or infinities" in refusal(small_file)


def test_a_matrix_of_zeros_is_refused(small_file: Path) -> None:
    tensors = small_tensors()
    tensors["backbone.model.blocks.1.mlp.fc1.weight"].zero_()
    torch.save(tensors, small_file)
    assert "fc1.weight in" in refusal(small_file)
    assert "is all zero" in refusal(small_file)


@pytest.mark.parametrize(
    "stored", [{}, [torch.ones(1)], {"a": 1}, {"a": torch.ones(2, dtype=torch.int64)}, {3: torch.ones(1)}]
)
def test_other_contents_are_no_state_dict(small_file: Path, stored: object) -> None:
    torch.save(stored, small_file)
    assert "is no state dict" in refusal(small_file)


class Dangerous:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("exit 3",)


def test_code_in_a_checkpoint_is_refused(small_file: Path) -> None:
    torch.save({"a": Dangerous()}, small_file)
    assert "UnpicklingError" in refusal(small_file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "there is no file" in refusal(tmp_path / "none.ckpt")


@pytest.mark.parametrize("seed", ["", "x", "-1"])
def test_seeds_are_numbers(seed: str) -> None:
    with pytest.raises(ConfigError, match="need a seed"):
        load_salad(f"seeded:{seed}")


def test_seeds_differ(small_salad: None) -> None:
    first, again, other = (
        load_salad(f"seeded:{seed}").aggregator.state_dict()["score.0.weight"] for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_first_weights_folder_that_has_it_is_taken(tmp_path: Path) -> None:
    folders = tmp_path / "a", tmp_path / "b"
    assert find_salad(folders) is None
    for folder in reversed(folders):
        folder.mkdir()
        (folder / "dino_salad.ckpt").touch()
        assert find_salad(folders) == folder / "dino_salad.ckpt"


def test_without_a_path_it_is_found_or_fetched(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = (tmp_path / "first", tmp_path / "second")
    monkeypatch.setattr(loading, "weights_folders", lambda: folders)
    lines: list[str] = []
    with serving(FileServer(small_file.read_bytes())) as server:
        monkeypatch.setattr(weights, "RELEASE_URL", server.url)
        load_salad(notify=lines.append)
        load_salad(notify=lines.append)
        assert server.ranges == [None]
    assert lines == [
        f"fetching dino_salad.ckpt (352 MB) into {folders[0]}",
        "the weights of salad: code GPL-3.0; ask its authors about the weights",
    ]


def test_the_licence_goes_to_the_log_otherwise(small_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load_salad(small_file)
        load_salad(small_file)
    assert caplog.messages == ["the weights of salad: code GPL-3.0; ask its authors about the weights"]
