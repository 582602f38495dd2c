"""A folder of runs as a list: what is in it, and the page that shows it."""

from __future__ import annotations

import contextlib
import html
import os
import shlex
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2

from da3stream.disk import folder_bytes
from da3stream.errors import Da3StreamError, RunCorruptError
from da3stream.store import read_manifest
from da3stream.store.finished import is_finished
from da3stream.store.frame_file import read_frame
from da3stream.store.glance import frames_so_far, is_locked
from da3stream.store.manifest import MANIFEST
from da3stream.store.run import REPORT

MAX_RUNS = 500
_DEPTH = 3
"""Runs lie in the folder, in its folders or in theirs: `da3stream demo` makes da3stream_demo/run."""
_THUMBNAIL_PX = 320
_MEASURING_S = 0.3
"""How long a list may measure finished runs; sizes that are missing then come with the next one."""


class State(Enum):
    """How far a run is."""

    FINISHED = "finished"
    BEING_WRITTEN = "being written now"
    INTERRUPTED = "interrupted"
    UNFINISHED = "not finished"
    """Whether a process works on it cannot be known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedRun:
    """One run of a gallery."""

    root: Path
    name: str
    """Path from the gallery's folder."""
    model: str
    state: State
    frames: int | None
    """So far, if it has not finished; None if that is not known."""
    has_input: bool
    """`da3stream resume` can open its input again; otherwise it was a source object."""
    has_pictures: bool
    is_viewable: bool
    """It has depth maps to show."""
    written: datetime
    """When run.json was written last, UTC."""
    disk_bytes: int | None
    """None before it has finished, and where that is not measured yet."""

    @property
    def address(self) -> str:
        """Its name in addresses."""
        return quote(os.fsencode(self.name))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    root: Path
    manifest: dict[str, Any]
    written_ns: int


_DAMAGE = (
    *(Da3StreamError, OSError),
    *(AttributeError, LookupError, OverflowError, RecursionError, TypeError, ValueError),
)
"""What reading a run's JSON may raise: it may be damaged, another program's, or go away meanwhile; a stranger
may have put anything there."""


def find_runs(folder: Path) -> list[ListedRun]:
    """The runs in a folder, the newest first, at most `MAX_RUNS`. Damaged ones are left out."""
    found = sorted(_runs_below(folder, _DEPTH), key=lambda run: run.written_ns, reverse=True)[:MAX_RUNS]
    until_s = time.monotonic() + _MEASURING_S
    return [run for one in found if (run := _listed(one, folder, until_s)) is not None]


def _runs_below(folder: Path, depth: int) -> Iterator[_Found]:
    """Those in its folders, so many deep. What lies in a run, tens of thousands of files, is passed over."""
    for root in _folders_in(folder):
        run = _found(root)
        if run is not None:
            yield run
        elif depth > 1:
            yield from _runs_below(root, depth - 1)


def _folders_in(folder: Path) -> list[Path]:
    """None of a folder that may not be read, or went away."""
    folders = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # a link that leads in a circle
                if entry.is_dir():
                    folders.append(Path(entry.path))
    return folders


def _found(root: Path) -> _Found | None:
    try:
        if not (root / MANIFEST).is_file():  # `read_manifest` would look for it in a journal
            return None
        manifest = read_manifest(root)
        return _Found(root=root, manifest=manifest, written_ns=(root / MANIFEST).stat().st_mtime_ns)
    except _DAMAGE:
        return None


def _listed(run: _Found, folder: Path, until_s: float) -> ListedRun | None:
    try:
        state = _state_of(run)
        is_finished = state is State.FINISHED
        frames = run.manifest.get("frames") if is_finished else _frames_so_far(run.root)
        return ListedRun(
            root=run.root,
            name=run.root.relative_to(folder).as_posix(),
            model=str(run.manifest["model"]),
            state=state,
            frames=None if frames is None else int(frames),
            has_input=run.manifest["input"] is not None,
            has_pictures=_has_pictures(run.root),
            is_viewable=run.manifest["config"].get("keep") != "none",
            written=datetime.fromtimestamp(run.written_ns / 1e9, timezone.utc),
            disk_bytes=_measured_bytes(run, until_s) if is_finished else None,
        )
    except _DAMAGE:
        return None


def _frames_so_far(root: Path) -> int | None:
    """None too where the journal is damaged: `resume` mends that."""
    try:
        return frames_so_far(root)
    except _DAMAGE:
        return None


def _state_of(run: _Found) -> State:
    if is_finished(run.root, run.manifest):
        return State.FINISHED
    try:
        return State.BEING_WRITTEN if is_locked(run.root) else State.INTERRUPTED
    except OSError:
        return State.UNFINISHED


_sizes: dict[Path, tuple[int, int]] = {}
"""Of finished runs by root: when run.json was written, and bytes; their files change together with that."""


def _measured_bytes(run: _Found, until_s: float) -> int | None:
    """What a finished run takes on the disk; None if that was not measured yet, and there is no time left."""
    written_ns, taken = _sizes.get(run.root, (None, None))
    if written_ns == run.written_ns:
        return taken
    if time.monotonic() >= until_s:
        return None
    taken = folder_bytes(run.root)
    _sizes[run.root] = run.written_ns, taken
    return taken


def _has_pictures(root: Path) -> bool:
    """Whether there is something to make a thumbnail of."""
    return next(_picture_files(root), None) is not None


def _picture_files(root: Path) -> Iterator[str]:
    """Names of the files with a run's images, in no order."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(root / "frames") as entries:
        yield from (entry.name for entry in entries if entry.name.endswith(".zip"))


def thumbnail(root: Path) -> bytes | None:
    """A JPEG of a frame in the middle of a run; None if it keeps no images."""
    names = sorted(_picture_files(root))
    if not names:
        return None
    file = root / "frames" / names[len(names) // 2]
    try:
        with zipfile.ZipFile(file) as archive:
            frame = int(Path(archive.namelist()[0]).stem)
        image = read_frame(file, frame)
    except (zipfile.BadZipFile, ValueError, IndexError, OSError) as error:
        raise RunCorruptError(f"the images of {root} cannot be read: {error}") from error
    share = min(1.0, _THUMBNAIL_PX / image.shape[1])
    size = (round(share * image.shape[1]), max(1, round(share * image.shape[0])))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
    return jpeg.tobytes()


def gallery_page(title: str, runs: Sequence[ListedRun]) -> str:
    """HTML with a card for each run. It links to `open/NAME`, `thumbnail/NAME` and `report/NAME`."""
    cards = "".join(_card(run) for run in runs)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}: runs</title>
<link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>
<body><h1>{html.escape(title)}</h1><p>{len(runs)} runs, the newest first.</p>
<main>{cards}</main></body></html>
"""


def _card(run: ListedRun) -> str:
    address, name = html.escape(run.address), html.escape(run.name)
    frames = "" if run.frames is None else f"{run.frames:,} frames{_so_far(run)} · "
    size = "" if run.disk_bytes is None else f" · {run.disk_bytes / 1e6:,.0f} MB"
    report = f' · <a href="report/{address}">report</a>' if has_report(run.root) else ""
    picture = f'<img src="thumbnail/{address}" alt="" loading="lazy">'
    picture = picture if run.has_pictures else '<div class="none">no picture</div>'
    opening = f'href="open/{address}"' if run.is_viewable else 'aria-disabled="true"'
    kept = "" if run.is_viewable else "<p>kept without depth maps: nothing to view</p>"
    return f"""<article><a {opening}>{picture}<h2>{name}</h2></a>
<p>{frames}{html.escape(run.model)} · {_state_line(run)}</p>
<p>{run.written:%Y-%m-%d %H:%M} UTC{size}{report}</p>
{kept}</article>
"""


def _so_far(run: ListedRun) -> str:
    return "" if run.state is State.FINISHED else " so far"


def _state_line(run: ListedRun) -> str:
    """HTML: how far a run is, and how to go on with it from the gallery's folder."""
    if run.state is not State.INTERRUPTED or not run.has_input:
        return run.state.value
    name = f"./{run.name}" if run.name.startswith("-") else run.name
    return f"{run.state.value}: <code>da3stream resume {html.escape(shlex.quote(name))}</code>"


def has_report(root: Path) -> bool:
    """Whether a run has a report of its own: a link could lead to any file of this machine."""
    report = root / REPORT
    return report.is_file() and not report.is_symlink()


_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1.2rem }
article { border: 1px solid #ddd; border-radius: 8px; overflow: hidden; padding-bottom: .6rem }
article:hover { border-color: #1862bc }
img, .none { width: 100%; aspect-ratio: 16/9; background: #eee; display: block }
img { object-fit: cover } .none { color: #767676; display: grid; place-items: center }
h2 { font-size: 1.05rem; margin: .6rem .8rem .2rem; overflow-wrap: anywhere }
a { color: #1862bc; text-decoration: none } p { margin: .1rem .8rem; color: #555 } h1 + p { margin: 0 0 1rem }
code { font: .85em/1.4 ui-monospace, monospace; overflow-wrap: anywhere }
"""
