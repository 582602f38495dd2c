"""The Hugging Face hub: what its config.json says, what its cache holds, and downloads when asked for."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from da3stream.errors import WeightsError
from da3stream.estimation.da3.catalogue import KnownModel, find_model, model_names

logger = logging.getLogger(__name__)

CONFIG_FILE = "config.json"
RECORD_FILE = "fetched.json"
_WANTED_FILES = [CONFIG_FILE, "*.safetensors", "*.safetensors.index.json", "LICENSE*"]
_MAX_CONFIG_BYTES = 1_000_000
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOCK_BYTES = 1 << 20
_COMMIT = re.compile(r"[0-9a-f]{40}")


def parse_hub_config(file: Path) -> KnownModel:
    """The model that a hub folder's config.json names by `model_name`.

    Everything else in it, the network's layout above all, is left aside: the name fixes the layout.

    Raises:
        WeightsError: the file cannot be read, is no such JSON, or names no model that we know.
    """
    try:
        if file.stat().st_size > _MAX_CONFIG_BYTES:
            raise ValueError("it is far too large")
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{file} is no configuration of a model: {error}") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{file} is no configuration of a model", got="JSON, but no object")
    return _named_model(content, file)


def _named_model(content: dict[str, object], file: Path) -> KnownModel:
    name = content.get("model_name")
    if not isinstance(name, str):
        raise WeightsError(
            f"{file} names no model", got=f"the keys {sorted(content)}", expected='"model_name": "da3-..."'
        )
    model = find_model(name)
    if model is None:
        raise WeightsError(f"{file} names a model that we do not know", got=name, expected=model_names())
    return model


def cached_folder(model: KnownModel) -> Path | None:
    """The folder of the hub's local cache that holds a model, None if nothing of it is there. No network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        held = snapshot_download(model.repository, local_files_only=True, allow_patterns=_WANTED_FILES)
    except LocalEntryNotFoundError:
        return None
    return Path(held)


def recorded_revision(folder: Path) -> str | None:
    """The commit that a folder was fetched from, if `fetch` or the hub's cache has recorded it."""
    if _COMMIT.fullmatch(folder.name):
        return folder.name
    try:
        record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
        return str(record["revision"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check_digest(file: Path) -> bool:
    """Compare a file of the hub's cache with its SHA-256, which the cache has for the file's name.

    Returns:
        Whether there was a digest to compare with; there is none outside the cache.

    Raises:
        WeightsError: the file is damaged.
    """
    blob = file.resolve()
    if not _SHA256.fullmatch(blob.name):
        return False
    digest = hashlib.sha256()
    with blob.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    if digest.hexdigest() != blob.name:
        hint = f"Delete {blob} and fetch it again: da3stream weights fetch NAME"
        raise WeightsError(f"{file} is damaged: its SHA-256 is not the published one", hint=hint)
    return True


def fetch(model: KnownModel, *, folder: Path | None = None) -> Path:
    """Download a model; what is there already is kept, and an interrupted download continues.

    Args:
        model: what to download.
        folder: where its files go, with the commit recorded in `fetched.json`; default: the hub's cache.

    Returns:
        The folder that holds the files.

    Raises:
        WeightsError: no network, no access, no such repository, or no space.
    """
    from huggingface_hub import HfApi, snapshot_download

    with _hub_errors(model):
        revision = HfApi().model_info(model.repository, timeout=30).sha
        if revision is None:
            raise WeightsError(f"the hub names no commit of {model.repository}")
        _check_space(model, folder)
        wanted = (
            None if folder is None else revision
        )  # the cache files a branch's commit under its name itself
        held = snapshot_download(
            model.repository, revision=wanted, local_dir=folder, allow_patterns=_WANTED_FILES
        )
    if folder is not None:
        record = {"repository": model.repository, "revision": revision, "licence": model.licence}
        (folder / RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return Path(held)


def _check_space(model: KnownModel, folder: Path | None) -> None:
    """Warn before gigabytes are fetched for nothing; only a warning, as part of them may be there already."""
    from huggingface_hub.constants import HF_HUB_CACHE

    place = (folder or Path(HF_HUB_CACHE)).absolute()
    existing = next(parent for parent in (place, *place.parents) if parent.exists())
    free_bytes = shutil.disk_usage(existing).free
    if free_bytes < model.size_bytes:
        logger.warning(
            "%s needs %.2f GB, and %s has %.2f GB free",
            model.name,
            model.size_bytes / 1e9,
            existing,
            free_bytes / 1e9,
        )


@contextmanager
def _hub_errors(model: KnownModel) -> Iterator[None]:
    """Turn what the hub's library raises into one line that says what to do."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    page = f"https://huggingface.co/{model.repository}"
    by_hand = f"Without network: copy the files of {page} from elsewhere into weights/{model.name}/"
    try:
        yield
    except (GatedRepoError, RepositoryNotFoundError) as error:
        hint = f"Open {page}, accept its terms if it asks for it, and log in with `hf auth login`."
        raise WeightsError(f"the hub gives no access to {model.repository}", hint=hint) from error
    except Exception as error:
        if not _is_of_the_network(error):
            raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise WeightsError(f"{model.repository} cannot be fetched ({reason})", hint=by_hand) from error


def _is_of_the_network(error: Exception) -> bool:
    """Whether the hub's library, its HTTP client (another one in each major version) or the disk failed."""
    packages = {base.__module__.split(".")[0] for base in type(error).__mro__}
    clients = ("httpx", "httpcore", "requests", "huggingface_hub", "hf_xet")
    return isinstance(error, OSError) or any(package.startswith(clients) for package in packages)
