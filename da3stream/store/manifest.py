"""run.json: what a run was asked for and what became of it, with a checksum; the journal has a copy of its
beginning."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

from da3stream.errors import RunCorruptError, RunMismatchError
from da3stream.store.files import RunFiles
from da3stream.store.journal import Journal

MANIFEST = "run.json"
FORMAT = "da3stream run"
VERSION = 1
_CHECKSUM = "crc32"
_NEEDED = {"config", "input", "model", "source", "status", "timestamps_are_synthetic"}


def encode_manifest(manifest: Mapping[str, Any]) -> bytes:
    """Bytes of run.json."""
    entries = {name: value for name, value in manifest.items() if name != _CHECKSUM}
    content = {**entries, _CHECKSUM: _checksum(entries)}
    return json.dumps(content, indent=2, allow_nan=False).encode() + b"\n"


def keeps_submaps(manifest: Mapping[str, Any]) -> bool:
    """Whether a finished run still has images and depth, to be viewed, exported and aligned: not with
    `--keep none`."""
    return bool(manifest["config"].get("keep") != "none")


def is_run(files: RunFiles) -> bool:
    """Whether a run directory is there, even if its run.json is lost."""
    return files.path(MANIFEST).is_file() or _beginning(files) is not None


def load_manifest(files: RunFiles) -> dict[str, Any]:
    """What run.json says; if it is lost or damaged, what the journal says that the run began as.

    Raises:
        RunCorruptError: the journal does not know it either.
        RunMismatchError: another version of da3stream has made the run.
    """
    try:
        return _decode(files)
    except RunCorruptError:
        beginning = _beginning(files)
        if beginning is None:
            raise
        return beginning


def _decode(files: RunFiles) -> dict[str, Any]:
    path, hint = files.root / MANIFEST, "Start again with --overwrite."
    try:
        manifest = json.loads(files.read(MANIFEST))
    except ValueError as error:
        raise RunCorruptError(f"{path} cannot be read: {error}", hint=hint) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise RunCorruptError(f"{path} is no manifest of a run", hint=hint)
    if manifest.get("version") != VERSION:
        raise RunMismatchError(
            f"{files.root} was made by another version of da3stream",
            got=f"format {manifest.get('version')}",
            expected=f"format {VERSION}",
        )
    missing = _NEEDED - manifest.keys()
    if missing:
        raise RunCorruptError(f"{path} has lost {', '.join(sorted(missing))}", hint=hint)
    checksum = manifest.pop(_CHECKSUM, None)
    if checksum != _checksum(manifest):
        raise RunCorruptError(f"{path} fails its checksum", hint=hint)
    return manifest


def _beginning(files: RunFiles) -> dict[str, Any] | None:
    events = Journal(files).salvage()
    return next((dict(event["manifest"]) for event in events if event["event"] == "begin"), None)


def _checksum(manifest: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(manifest, sort_keys=True).encode()):08x}"
