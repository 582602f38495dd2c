"""Where weights are found, and what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from da3stream.errors import WeightsError
from da3stream.estimation.da3.catalogue import MODELS, KnownModel, find_model
from da3stream.estimation.da3.config import PRESETS
from da3stream.estimation.da3.hub import RECORD_FILE, check_digest, parse_hub_config
from da3stream.estimation.da3.weights import resolve_weights
from da3stream.transformer.weights_folders import weights_folders
from tests.estimation.da3.checkpoint_files import (
    few_arrays,
    write_config,
    write_folder,
    write_index,
    write_shards,
    write_weights,
)

COMMIT = "89abcdef" * 5


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and a working directory without weights."""
    folder, work = tmp_path / "cache", tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    return folder


def write_cache(cache: Path, repository: str, model: str) -> Path:
    """What a download leaves in the hub's cache, links to blobs included."""
    held = cache / f"models--{repository.replace('/', '--')}"
    snapshot = write_folder(held / "snapshots" / COMMIT, few_arrays(), model=model)
    (held / "blobs").mkdir()
    blob = held / "blobs" / ("a" * 64)
    (snapshot / "model.safetensors").rename(blob)
    (snapshot / "model.safetensors").symlink_to(Path("../../blobs") / blob.name)
    (held / "refs").mkdir()
    (held / "refs" / "main").write_text(COMMIT)
    return snapshot


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_model_is_found_by_its_names_and_has_a_network(model: KnownModel) -> None:
    for name in (model.name, model.repository, model.repository.split("/")[1], model.name.upper()):
        assert find_model(name) is model
    assert model.name in PRESETS
    assert model.allows_commercial_use == (model.licence == "Apache-2.0")


def test_other_names_are_no_models() -> None:
    assert find_model("da3") is None
    assert find_model("someone/DA3-SMALL") is None
    assert find_model("tiny") is None


@pytest.mark.parametrize("folder", ["da3-small", "DA3-SMALL", "."])
def test_a_weights_folder_holds_the_model_or_is_it(tmp_path: Path, folder: str) -> None:
    held = write_folder(tmp_path / "weights" / folder, few_arrays(), model="da3-small")
    found = resolve_weights("da3-small", tmp_path / "weights")
    assert found.model is find_model("da3-small")
    assert [file.resolve() for file in found.files] == [(held / "model.safetensors").resolve()]
    assert (found.origin, found.revision) == ("weights folder", None)
    assert found.size_bytes == (held / "model.safetensors").stat().st_size


def test_the_working_directory_comes_first_and_the_checkout_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "checkout" / "da3stream" / "__init__.py"
    monkeypatch.setattr("da3stream.__file__", str(package))
    assert weights_folders() == (Path.cwd() / "weights",)
    package.parent.mkdir(parents=True)
    (tmp_path / "checkout" / "pyproject.toml").touch()
    assert weights_folders() == (Path.cwd() / "weights", tmp_path / "checkout" / "weights")
    monkeypatch.chdir(tmp_path / "checkout")
    assert weights_folders() == (tmp_path / "checkout" / "weights",)

    folders = tuple(tmp_path / name for name in "ab")
    monkeypatch.setattr("da3stream.estimation.da3.weights.weights_folders", lambda: folders)
    write_folder(tmp_path / "b" / "da3-base", few_arrays())
    assert resolve_weights("da3-base").files[0].is_relative_to(folders[1])
    write_folder(tmp_path / "a" / "da3-base", few_arrays())
    assert resolve_weights("da3-base").files[0].is_relative_to(folders[0])


def test_a_folder_of_the_name_needs_no_config_but_the_weights_folder_itself_does(tmp_path: Path) -> None:
    write_folder(tmp_path / "a" / "da3-small", few_arrays())
    assert resolve_weights("da3-small", tmp_path / "a").model is find_model("da3-small")
    write_folder(tmp_path / "b", few_arrays())
    with pytest.raises(WeightsError, match="not on this machine"):
        resolve_weights("da3-small", tmp_path / "b")
    write_config(tmp_path / "b", "da3-base")
    with pytest.raises(WeightsError, match="not on this machine"):
        resolve_weights("da3-small", tmp_path / "b")
    assert resolve_weights("da3-base", tmp_path / "b").model is find_model("da3-base")


def test_a_folder_of_one_name_with_the_weights_of_another_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "da3-small", few_arrays(), model="da3-base")
    with pytest.raises(WeightsError, match=r"holds another model; got da3-base; expected da3-small"):
        resolve_weights("da3-small", tmp_path)


def test_the_cache_of_the_hub_is_looked_at_last(cache: Path, tmp_path: Path) -> None:
    snapshot = write_cache(cache, "depth-anything/DA3-LARGE-1.1", "da3-large")
    found = resolve_weights("da3-large")
    assert (found.origin, found.revision) == ("hub cache", COMMIT)
    assert found.files == (snapshot / "model.safetensors",)
    write_folder(tmp_path / "work" / "weights" / "da3-large", few_arrays())
    assert resolve_weights("da3-large").origin == "weights folder"


def test_a_download_that_has_not_finished_does_not_count(cache: Path) -> None:
    snapshot = write_cache(cache, "depth-anything/DA3-SMALL", "da3-small")
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="not on this machine"):
        resolve_weights("da3-small")


def test_a_file_of_the_cache_is_checked_against_its_digest(cache: Path, tmp_path: Path) -> None:
    file = write_cache(cache, "depth-anything/DA3-SMALL", "da3-small") / "model.safetensors"
    with pytest.raises(WeightsError, match="SHA-256 is not the published one"):
        check_digest(file)
    blob = file.resolve().rename(file.resolve().with_name(hashlib.sha256(file.read_bytes()).hexdigest()))
    file.unlink()
    file.symlink_to(blob)
    assert check_digest(file)
    assert not check_digest(write_weights(tmp_path / "plain.safetensors", few_arrays()))


def test_missing_weights_name_places_size_licence_and_command(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as raised:
        resolve_weights("da3nested-giant-large")
    for part in (
        str(tmp_path / "work" / "weights" / "da3nested-giant-large"),
        "6.76 GB",
        "CC BY-NC 4.0",
        "da3stream weights fetch da3nested-giant-large",
    ):
        assert part in str(raised.value)


def test_paths(tmp_path: Path) -> None:
    held = write_folder(tmp_path / "mine", few_arrays())
    bare = resolve_weights(held)
    assert (bare.model, bare.origin) == (None, "path")
    assert resolve_weights(str(held / "model.safetensors")) == bare
    other = write_weights(held / "other.safetensors", few_arrays())
    assert resolve_weights(other).files == (other,)
    write_config(held, "da3mono-large")
    assert resolve_weights(held).model is find_model("da3mono-large")


@pytest.mark.parametrize("record", ['{"revision": "abc"}', "[]", "no JSON", '{"other": 1}'])
def test_the_recorded_revision(tmp_path: Path, record: str) -> None:
    held = write_folder(tmp_path / "mine", few_arrays())
    (held / RECORD_FILE).write_text(record)
    assert resolve_weights(held).revision == ("abc" if "revision" in record else None)


@pytest.mark.parametrize("name", ["da3-tiny", "nowhere/da3-small", "model.safetensors"])
def test_neither_a_model_nor_a_path(name: str) -> None:
    with pytest.raises(WeightsError, match=f"no model and no file is called {name}.*da3-small, da3-base"):
        resolve_weights(name)


def test_pickles_are_refused_and_empty_folders_too(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"model\.pt is a pickle, which can run code"):
        resolve_weights(tmp_path / "model.pt")
    with pytest.raises(WeightsError, match=r"holds no weights; expected model\.safetensors or"):
        resolve_weights(tmp_path)


def test_shards(tmp_path: Path) -> None:
    held = write_shards(tmp_path / "mine", few_arrays(), shards=3)
    found = resolve_weights(held)
    assert [file.name for file in found.files] == [f"model-{i:05d}-of-00003.safetensors" for i in (1, 2, 3)]
    assert resolve_weights(held / "model.safetensors.index.json") == found
    found.files[1].unlink()
    with pytest.raises(WeightsError, match=r"shards that are not there; got \['model-00002-of-00003"):
        resolve_weights(held)


@pytest.mark.parametrize(
    "shard",
    [
        "../outside.safetensors",
        "/outside.safetensors",
        "sub/inside.safetensors",
        "..",
        ".",
        "",
        "shard.bin",
        3,
        None,
    ],
)
def test_an_index_may_name_files_beside_it_only(tmp_path: Path, shard: object) -> None:
    write_weights(tmp_path / "outside.safetensors", few_arrays())
    write_weights(tmp_path / "mine" / "sub" / "inside.safetensors", few_arrays())
    write_index(tmp_path / "mine", {"model.scale": shard})
    with pytest.raises(WeightsError, match="outside its folder"):
        resolve_weights(tmp_path / "mine")


@pytest.mark.parametrize(
    "index", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": []}}', "[" * 99999]
)
def test_a_broken_index(tmp_path: Path, index: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(WeightsError, match="is no index of shards"):
        resolve_weights(tmp_path)


def test_an_index_of_nothing(tmp_path: Path) -> None:
    write_index(tmp_path, {})
    with pytest.raises(WeightsError, match="shards that are not there"):
        resolve_weights(tmp_path)


@pytest.mark.parametrize("name", ["da3-giant", "DA3-GIANT-1.1", "da3-giant-1.1"])
def test_the_hub_config_names_the_model(tmp_path: Path, name: str) -> None:
    write_config(tmp_path, name)
    assert parse_hub_config(tmp_path / "config.json") is find_model("da3-giant")
    (tmp_path / "config.json").write_text(json.dumps({"model_name": name}))
    assert parse_hub_config(tmp_path / "config.json") is find_model("da3-giant")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{}", r"names no model; got the keys \[\]"),
        ('{"name": "da3-small", "config": {}}', r"got the keys \['config', 'name'\]"),
        ('{"model_name": 3}', "names no model"),
        ('{"model_name": "vggt"}', "do not know; got vggt; expected da3-small, da3-base"),
        ("[]", "JSON, but no object"),
        ("", "is no configuration of a model"),
        ("[" * 99_999, "is no configuration of a model"),
        ('{"model_name": "da3-small"' + " " * 1_000_000 + "}", "far too large"),
    ],
)
def test_a_config_that_names_no_model(tmp_path: Path, content: str, reason: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(content)
    with pytest.raises(WeightsError, match=reason):
        parse_hub_config(file)


def test_a_config_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read: No such file"):
        parse_hub_config(tmp_path / "config.json")
    (tmp_path / "config.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(WeightsError, match="is no configuration"):
        parse_hub_config(tmp_path / "config.json")
