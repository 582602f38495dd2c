"""A folder of runs as a list: what is in it, and the page that shows it."""

from __future__ import annotations

import functools
import html
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote

import cv2

from da3stream.disk import folder_bytes
from da3stream.errors import Da3StreamError, RunCorruptError
from da3stream.store import read_manifest
from da3stream.store.frame_file import read_frame
from da3stream.store.manifest import MANIFEST

MAX_RUNS = 500
_DEPTH = 3
"""Runs lie in the folder, in its folders or in theirs: `da3stream demo` makes da3stream_demo/run."""
_THUMBNAIL_PX = 320


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedRun:
    """One run of a gallery."""

    root: Path
    name: str
    """Path from the gallery's folder."""
    model: str
    is_finished: bool
    frames: int | None
    """None before the run has finished."""
    is_viewable: bool
    """It has depth maps to show."""
    written: datetime
    """When run.json was written last, UTC."""
    disk_bytes: int

    @property
    def address(self) -> str:
        """Its name in addresses."""
        return quote(os.fsencode(self.name))


def find_runs(folder: Path) -> list[ListedRun]:
    """The runs in a folder, the newest first, at most `MAX_RUNS`. Damaged ones are left out."""
    patterns = ["/".join([*["*"] * depth, MANIFEST]) for depth in range(1, _DEPTH + 1)]
    manifests = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    runs = [run for path in manifests if (run := _listed(path.parent, folder)) is not None]
    return sorted(runs, key=lambda run: run.written, reverse=True)[:MAX_RUNS]


def _listed(root: Path, folder: Path) -> ListedRun | None:
    try:
        manifest, status = read_manifest(root), (root / MANIFEST).stat()
    except (Da3StreamError, OSError):  # another program's run.json, a damaged one, or it went away meanwhile
        return None
    is_finished = manifest["status"] == "finished"
    return ListedRun(
        root=root,
        name=root.relative_to(folder).as_posix(),
        model=str(manifest["model"]),
        is_finished=is_finished,
        frames=manifest.get("frames"),
        is_viewable=manifest["config"].get("keep") != "none",
        written=datetime.fromtimestamp(status.st_mtime, timezone.utc),
        disk_bytes=_finished_bytes(root, status.st_mtime_ns) if is_finished else folder_bytes(root),
    )


@functools.lru_cache(maxsize=4 * MAX_RUNS)
def _finished_bytes(root: Path, _written_ns: int) -> int:
    """What a finished run takes on the disk: its files change together with its run.json."""
    return folder_bytes(root)


def thumbnail(root: Path) -> bytes | None:
    """A JPEG of a frame in the middle of a run; None if it keeps no images."""
    files = sorted((root / "frames").glob("*.zip"))
    if not files:
        return None
    try:
        with zipfile.ZipFile(files[len(files) // 2]) as archive:
            frame = int(Path(archive.namelist()[0]).stem)
        image = read_frame(files[len(files) // 2], frame)
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
    address = html.escape(run.address)
    name, frames = html.escape(run.name), "" if run.frames is None else f"{run.frames:,} frames · "
    state = "finished" if run.is_finished else "not finished"
    facts = f"{frames}{html.escape(run.model)} · {state}"
    report = f'<a href="report/{address}">report</a>' if (run.root / "report.html").is_file() else ""
    opening = f'href="open/{address}"' if run.is_viewable else 'aria-disabled="true"'
    kept = "" if run.is_viewable else "kept without depth maps: nothing to view"
    return f"""<article><a {opening}><img src="thumbnail/{address}" alt="" loading="lazy"><h2>{name}</h2></a>
<p>{facts}</p><p>{run.written:%Y-%m-%d %H:%M} UTC · {run.disk_bytes / 1e6:,.0f} MB {report}</p>
<p>{kept}</p></article>
"""


_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1.2rem }
article { border: 1px solid #ddd; border-radius: 8px; overflow: hidden; padding-bottom: .6rem }
article:hover { border-color: #1862bc }
img { width: 100%; aspect-ratio: 16/9; object-fit: cover; background: #eee; display: block }
h2 { font-size: 1.05rem; margin: .6rem .8rem .2rem; overflow-wrap: anywhere }
a { color: #1862bc; text-decoration: none } p { margin: .1rem .8rem; color: #555 } h1 + p { margin: 0 0 1rem }
"""
