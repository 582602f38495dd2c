"""Where the weights of a model lie: a weights folder, the hub's cache, or the path that the user gave."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from da3stream.errors import WeightsError
from da3stream.estimation.da3.catalogue import KnownModel, find_model, model_names
from da3stream.estimation.da3.hub import CONFIG_FILE, cached_folder, parse_hub_config, recorded_revision
from da3stream.transformer.weights_folders import weights_folders

logger = logging.getLogger(__name__)

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
_CODE_FORMATS = (".bin", ".ckpt", ".pkl", ".pt", ".pth")


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsLocation:
    """A checkpoint on this machine.

    Attributes:
        model: which model it is, None for a file or folder that does not say so.
        files: its safetensors files, one or several shards.
        origin: where it was found.
        revision: commit of the hub's repository, None when not recorded.
    """

    model: KnownModel | None
    files: tuple[Path, ...]
    origin: Literal["weights folder", "hub cache", "path"]
    revision: str | None

    @property
    def size_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files)


def resolve_weights(name_or_path: str | Path, weights_folder: Path | None = None) -> WeightsLocation:
    """Find the checkpoint of a model, without the network.

    A name is looked for as NAME/ in each weights folder, then as the weights folder itself if its config.json
    names the model, then in the hub's cache. Anything else is the path of a folder or of one file.

    Args:
        name_or_path: `da3-small`, `depth-anything/DA3-SMALL`, a folder as the hub has it, or a file.
        weights_folder: look here instead of in `weights_folders()`.

    Raises:
        WeightsError: nothing is there, or what is there is incomplete or belongs to another model.
    """
    model = find_model(str(name_or_path))
    if model is None:
        return _at_path(Path(name_or_path))
    places = weights_folders() if weights_folder is None else (weights_folder,)
    found = find_weights(model, places)
    if found is None:
        raise WeightsError(
            f"the weights of {model.name} are not on this machine",
            expected=f"{SINGLE_FILE} in {' or '.join(str(place / model.name) for place in places)}, "
            "or in the hub's cache",
            hint=f"Download {model.size_bytes / 1e9:.2f} GB ({model.licence}) with: "
            f"da3stream weights fetch {model.name}",
        )
    return found


def find_weights(model: KnownModel, folders: tuple[Path, ...]) -> WeightsLocation | None:
    """The checkpoint of a model in some weights folders or in the hub's cache, None if it is in neither.

    Raises:
        WeightsError: a folder is there, but incomplete or of another model.
    """
    for folder in _candidates(model, folders):
        return _in_folder(folder, model, "weights folder")
    cached = cached_folder(model)
    return _in_folder(cached, model, "hub cache") if cached is not None and _has_weights(cached) else None


def _candidates(model: KnownModel, folders: tuple[Path, ...]) -> Iterator[Path]:
    for folder in folders:
        for name in (model.name, model.repository.split("/")[1]):
            if _has_weights(folder / name):
                yield folder / name
        config = folder / CONFIG_FILE
        if _has_weights(folder) and config.is_file() and parse_hub_config(config) == model:
            yield folder


def _has_weights(folder: Path) -> bool:
    return (folder / SINGLE_FILE).is_file() or (folder / INDEX_FILE).is_file()


def _at_path(path: Path) -> WeightsLocation:
    if path.is_dir():
        return _in_folder(path, None, "path")
    if path.suffix in _CODE_FORMATS:
        raise WeightsError(f"{path} is a pickle, which can run code", expected="a .safetensors file")
    if not path.is_file():
        raise WeightsError(f"no model and no file is called {path}", expected=f"a path, or {model_names()}")
    if path.name == INDEX_FILE:
        return _in_folder(path.parent, None, "path")
    return _of_folder(path.parent, (path,), None, "path")


def _in_folder(
    folder: Path, model: KnownModel | None, origin: Literal["weights folder", "hub cache", "path"]
) -> WeightsLocation:
    if (folder / SINGLE_FILE).is_file():
        files: tuple[Path, ...] = (folder / SINGLE_FILE,)
    elif (folder / INDEX_FILE).is_file():
        files = _shards(folder / INDEX_FILE)
    else:
        raise WeightsError(f"{folder} holds no weights", expected=f"{SINGLE_FILE} or {INDEX_FILE}")
    return _of_folder(folder, files, model, origin)


def _of_folder(
    folder: Path,
    files: tuple[Path, ...],
    model: KnownModel | None,
    origin: Literal["weights folder", "hub cache", "path"],
) -> WeightsLocation:
    config = folder / CONFIG_FILE
    said = parse_hub_config(config) if config.is_file() else model
    if model is not None and said != model:
        raise WeightsError(f"{folder} holds another model", got=said and said.name, expected=model.name)
    return WeightsLocation(model=said, files=files, origin=origin, revision=recorded_revision(folder))


def _shards(index: Path) -> tuple[Path, ...]:
    """The files that an index names, all of which lie beside it."""
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{index} is no index of shards ({type(error).__name__}: {error})") from error
    for name in names:
        # Names only: a link in the hub's cache may lead elsewhere, but an index from the network may not.
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise WeightsError(f"{index} names a shard outside its folder", got=repr(name))
    shards = tuple(index.parent / name for name in sorted(names))
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing or not shards:
        raise WeightsError(f"{index} names shards that are not there", got=missing, expected="all of them")
    return shards


_ANNOUNCED: set[str] = set()


def announce_licence(model: KnownModel, notify: Callable[[str], None] | None = None) -> None:
    """Say under which licence the weights are used, once per process and model.

    Args:
        model: the model that is about to be used.
        notify: takes the line; default: this module's logger, as a warning if commercial use is not allowed.
    """
    if model.name in _ANNOUNCED:
        return
    _ANNOUNCED.add(model.name)
    limit = "" if model.allows_commercial_use else ": no commercial use"
    line = f"the weights of {model.name} are licensed under {model.licence}{limit}"
    if notify is not None:
        notify(line)
    else:
        logger.log(logging.INFO if model.allows_commercial_use else logging.WARNING, line)
