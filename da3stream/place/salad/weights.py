"""Where `dino_salad.ckpt` lies, under which licence, and whether it is the file that was once downloaded."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

from da3stream.errors import WeightsError
from da3stream.transformer.weights_folders import weights_folders

logger = logging.getLogger(__name__)

CHECKPOINT_FILE = "dino_salad.ckpt"
RELEASE_URL = "https://github.com/serizba/salad/releases/download/v1.0.0/dino_salad.ckpt"
SIZE_BYTES = 352_000_000
"""About what the published file takes: 335.7 MiB."""
LICENCE = "code GPL-3.0; ask its authors about the weights"
FETCH_AGAIN = "Delete it and fetch it again: da3stream weights fetch salad"

_BLOCK_BYTES = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


def find_salad(folders: tuple[Path, ...] | None = None) -> Path | None:
    """The checkpoint in the first weights folder that has it, None if none has. No network.

    Args:
        folders: look there; default: `weights_folders()`.
    """
    places = weights_folders() if folders is None else folders
    return next((file for folder in places if (file := folder / CHECKPOINT_FILE).is_file()), None)


def record_file(checkpoint: Path) -> Path:
    """Where the SHA-256 of a downloaded checkpoint is kept: beside it."""
    return checkpoint.with_name(checkpoint.name + ".json")


def record_digest(downloaded: Path, *, of: Path, source: str) -> None:
    """Write the SHA-256 of a file that has just been downloaded beside the checkpoint that it will become.

    Raises:
        WeightsError: the file cannot be read, or the record cannot be written.
    """
    record = {"source": source, "sha256": sha256(downloaded), "licence": LICENCE}
    try:
        record_file(of).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise WeightsError(f"{record_file(of)} cannot be written: {error.strerror or error}") from error


def recorded_digest(checkpoint: Path) -> str | None:
    """The SHA-256 that was recorded at the download, None for a file that was put there by hand.

    Raises:
        WeightsError: the record is there, but cannot be read.
    """
    file = record_file(checkpoint)
    if not file.exists():
        return None
    try:
        digest = json.loads(file.read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(f"{file} is damaged ({type(error).__name__})", hint=FETCH_AGAIN) from error
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise WeightsError(f"{file} holds no SHA-256", got=repr(digest), hint=FETCH_AGAIN)
    return digest


def check_digest(checkpoint: Path) -> bool:
    """Compare a checkpoint with the SHA-256 that was recorded at its download.

    Returns:
        Whether there was one to compare with.

    Raises:
        WeightsError: the file is not the one that was downloaded, or cannot be read.
    """
    expected = recorded_digest(checkpoint)
    if expected is None:
        return False
    found = sha256(checkpoint)
    if found != expected:
        raise WeightsError(
            f"{checkpoint} is not the file that was downloaded",
            got=f"SHA-256 {found}",
            expected=f"{expected}, recorded in {record_file(checkpoint).name}",
            hint=FETCH_AGAIN,
        )
    return True


def sha256(file: Path) -> str:
    """Hexadecimal SHA-256 of a file. WeightsError if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()


_ANNOUNCED: set[str] = set()


def announce_licence(notify: Callable[[str], None] | None = None) -> None:
    """Say under which licence the weights are used, once per process.

    Args:
        notify: takes the line; default: this module's logger, as a warning.
    """
    if LICENCE in _ANNOUNCED:
        return
    _ANNOUNCED.add(LICENCE)
    (notify or logger.warning)(f"the weights of salad: {LICENCE}")
