"""A folder of runs as a list: what is in it, and the page that shows it."""

from __future__ import annotations

import contextlib
import html
import os
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2

from da3stream.disk import folder_bytes
from da3stream.errors import Da3StreamError, RunCorruptError, command_line
from da3stream.store import read_manifest
from da3stream.store.finished import is_finished
from da3stream.store.frame_file import read_frame
from da3stream.store.glance import frames_so_far, is_locked
from da3stream.store.journal import JOURNAL
from da3stream.store.manifest import MANIFEST, keeps_submaps
from da3stream.store.run import REPORT

MAX_RUNS = 500
_DEPTH = 3
"""Runs lie in the folder, in its folders or in theirs: `da3stream demo` makes da3stream_demo/run."""
_MAX_NAMES = 20
"""Of folders that cannot be read."""
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
class FoundRuns:
    """What is in a folder."""

    runs: list[ListedRun]
    """The newest first, at most `MAX_RUNS`."""
    unreadable: list[str]
    """Names of the folders that look like runs but cannot be read, in their order."""


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


def find_runs(folder: Path, clock: Callable[[], float] = time.monotonic) -> FoundRuns:
    """The runs in a folder.

    Args:
        folder: the folder.
        clock: seconds; tells when there is no time left to measure runs.
    """
    found, unreadable = [], []
    for one in _runs_below(folder, _DEPTH):
        if isinstance(one, _Found):
            found.append(one)
        else:
            unreadable.append(one)
    found = sorted(found, key=lambda run: run.written_ns, reverse=True)[:MAX_RUNS]
    watch = _Watch(clock)
    listed = {one.root: _listed(one, folder, watch) for one in found}
    unreadable += [root for root, run in listed.items() if run is None and _looks_like_a_run(root)]
    return FoundRuns(
        runs=[run for run in listed.values() if run is not None],
        unreadable=sorted(root.relative_to(folder).as_posix() for root in unreadable),
    )


class _Watch:
    """How long a list may still measure."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._until_s = clock, clock() + _MEASURING_S

    @property
    def is_over(self) -> bool:
        return self._clock() >= self._until_s


def _runs_below(folder: Path, depth: int) -> Iterator[_Found | Path]:
    """Those in its folders, so many deep, and folders that look like runs but cannot be read.

    What lies in them, tens of thousands of files, is passed over.
    """
    for root in _folders_in(folder):
        run = _found(root)
        if run is not None:
            yield run
        elif _looks_like_a_run(root):
            yield root
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
        if (root / JOURNAL).exists() and not (root / JOURNAL).is_file():  # a FIFO blocks who reads it
            return None
        manifest = read_manifest(root)
        return _Found(root=root, manifest=manifest, written_ns=(root / MANIFEST).stat().st_mtime_ns)
    except _DAMAGE:
        return None


def _looks_like_a_run(root: Path) -> bool:
    """Other programs write a run.json, too, but not both."""
    return all(os.path.lexists(root / name) for name in (MANIFEST, JOURNAL))


def _listed(run: _Found, folder: Path, watch: _Watch) -> ListedRun | None:
    """None if it cannot be read."""
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
            is_viewable=keeps_submaps(run.manifest),
            written=datetime.fromtimestamp(run.written_ns / 1e9, timezone.utc),
            disk_bytes=_measured_bytes(run, watch) if is_finished else None,
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


def _measured_bytes(run: _Found, watch: _Watch) -> int | None:
    """What a finished run takes on the disk; None if that was not measured yet, and there is no time left."""
    written_ns, taken = _sizes.get(run.root, (None, None))
    if written_ns == run.written_ns:
        return taken
    if watch.is_over:
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
        yield from (entry.name for entry in entries if entry.name.endswith(".zip") and entry.is_file())


_NO_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, IndexError, OSError, RuntimeError, ValueError)
"""What reading a damaged archive may raise, or another program's: RuntimeError if it is encrypted."""


def thumbnail(root: Path) -> bytes | None:
    """A JPEG of a frame in the middle of a run; None if it keeps no images.

    Raises:
        RunCorruptError: the file of that frame cannot be read.
    """
    names = sorted(_picture_files(root))
    if not names:
        return None
    file = root / "frames" / names[len(names) // 2]
    try:
        with zipfile.ZipFile(file) as archive:
            frame = int(Path(archive.namelist()[0]).stem)
        image = read_frame(file, frame)
    except _NO_ZIP as error:
        raise RunCorruptError(f"the images of {root} cannot be read: {error}") from error
    share = min(1.0, _THUMBNAIL_PX / image.shape[1])
    size = (round(share * image.shape[1]), max(1, round(share * image.shape[0])))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
    return jpeg.tobytes()


def no_picture(words: str) -> str:
    """An SVG picture that says why there is no other, as large as a thumbnail and as calm as `.none`."""
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 320 180" width="320" height="180">
<rect width="320" height="180" fill="#eee"/><text x="160" y="95" fill="#767676" text-anchor="middle"
font-family="system-ui, sans-serif" font-size="15">{html.escape(words)}</text></svg>
"""


def gallery_page(title: str, found: FoundRuns) -> str:
    """HTML with a card for each run. It links to `open/NAME`, `thumbnail/NAME` and `report/NAME`."""
    cards = "".join(_card(run) for run in found.runs)
    loss = f"<p>{html.escape(unreadable_line(found.unreadable))}</p>" if found.unreadable else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}: runs</title>
<link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>
<body><h1>{html.escape(title)}</h1><p>{_count(len(found.runs), "run")}, the newest first.</p>{loss}
<main>{cards}</main></body></html>
"""


def unreadable_line(names: Sequence[str]) -> str:
    """Which folders look like runs but cannot be read."""
    shown = ", ".join([*names[:_MAX_NAMES], *(["..."] if len(names) > _MAX_NAMES else [])])
    look = "looks like a run" if len(names) == 1 else "look like runs"
    return f"{_count(len(names), 'folder')} {look} but cannot be read: {shown}"


def _card(run: ListedRun) -> str:
    address, name = html.escape(run.address), html.escape(run.name)
    frames = "" if run.frames is None else f"{_count(run.frames, 'frame')}{_so_far(run)} · "
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


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _so_far(run: ListedRun) -> str:
    return "" if run.state is State.FINISHED else " so far"


def _state_line(run: ListedRun) -> str:
    """HTML: how far a run is, and how to go on with it where the list was asked for."""
    if run.state is not State.INTERRUPTED or not run.has_input:
        return run.state.value
    root = os.path.join(".", run.root) if str(run.root).startswith("-") else run.root
    return f"{run.state.value}: <code>{html.escape(command_line('resume', root))}</code>"


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
a { color: #1862bc; text-decoration: none } p { margin: .1rem .8rem; color: #555 } h1 ~ p { margin: 0 0 1rem }
code { font: .85em/1.4 ui-monospace, monospace; overflow-wrap: anywhere }
"""
