"""The title, the verdict and the numbers that matter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from da3stream.report.facts import Facts
from da3stream.report.html import Html, element, section, words
from da3stream.report.map import path_length
from da3stream.report.numbers import count, duration, length, size
from da3stream.report.verdict import Verdict

_MARKS = {"good": "✓ fine", "look": "! look", "open": "? open"}


def header(facts: Facts) -> Html:
    """Title and what was reconstructed."""
    measured = facts.manifest.get("measured", {})
    said = [
        count(facts.frames, "frame"),
        f"model {facts.manifest['model']}",
        measured.get("finished", "finished" if facts.is_finished else "not finished"),
        f"da3stream {facts.manifest['da3stream']}",
    ]
    return element("header", element("h1", facts.input_name), element("p", " · ".join(said)))


def verdict_section(verdicts: list[Verdict]) -> Html:
    """The lines that say whether to trust the result."""
    lines = [
        element(
            "li",
            element("span", _MARKS[verdict.mark], class_=f"mark {verdict.mark}"),
            element("span", words(verdict.text), " ", element("a", "details", href=f"#{verdict.section}")),
        )
        for verdict in verdicts
    ]
    counts = Counter(verdict.mark for verdict in verdicts)
    note = f"{counts['good']} fine, {counts['look']} to look at, {counts['open']} open."
    lists = element("ul", *lines, class_="verdicts")
    return section("verdict", "Can it be trusted?", lists, note=note)


def summary_section(facts: Facts) -> Html:
    """The numbers that matter."""
    tiles = [
        element(
            "div",
            element("dt", name),
            element("dd", value),
            element("dd", more, class_="more"),
            class_="tile",
        )
        for name, value, more in (*_tiles(facts), *_cost_tiles(facts))
    ]
    return section("summary", "Summary", element("dl", *tiles, class_="tiles"))


Tile: TypeAlias = tuple[str, str, str]
"""Name, value, and what else is to be said."""


def _tiles(facts: Facts) -> Iterator[Tile]:
    yield "Frames", count(facts.frames), ""
    span_s = float(facts.timestamp_s[-1] - facts.timestamp_s[0])
    made_up = (
        "made up: the input has none"
        if facts.manifest.get("timestamps_are_synthetic")
        else "first to last frame"
    )
    yield "Time", duration(span_s), made_up
    if facts.positions_after is not None:
        yield from _path_tiles(facts, facts.positions_after)
    coarse = sum(record.chunk.scale > 1 for record in facts.run.chunks.values())
    yield "Chunks", count(len(facts.run.fine_chunks)), f"and {coarse:,} coarse" if coarse else ""
    yield (
        "Loops closed",
        count(facts.closed_loops),
        f"of {len(facts.loops):,} verified",
    )
    yield "In metres", "yes" if facts.is_metric else "no" if facts.is_finished else "not known yet", ""
    if facts.chosen_world is not None:
        yield "World", "set by hand", facts.chosen_world
    yield "Error against truth", "not measured", "ATE: da3stream eval"


def _path_tiles(facts: Facts, positions: NDArray[np.float64]) -> Iterator[Tile]:
    yield "Path length", length(path_length(positions), facts.is_metric), ""
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    if len(steps):
        largest, median = float(steps.max()), float(np.median(steps))
        ratio = f"{largest / median:.1f} × the median, " if median > 0 else ""
        yield "Longest step", length(largest, facts.is_metric), f"{ratio}to frame {int(steps.argmax()) + 1:,}"


def _cost_tiles(facts: Facts) -> Iterator[Tile]:
    measured = facts.manifest.get("measured", {})
    if not measured:
        return
    total = measured["seconds_total"]
    yield "Wall time", duration(total), "since it was resumed" if facts.is_resumed else ""
    if not facts.is_resumed:
        yield "Time per frame", duration(total / facts.frames), ""
    process = "of the last process, without its children" if facts.is_resumed else "without child processes"
    yield "Peak memory", size(_peak_bytes(facts)), process
    gpu = [sample.gpu_bytes for sample in facts.samples if sample.gpu_bytes is not None]
    if gpu:
        yield "Peak GPU memory", size(max(gpu)), ""
    if facts.samples:
        yield "On the disk", size(facts.samples[-1].disk_bytes), "all of the run directory"


def _peak_bytes(facts: Facts) -> int:
    """Of the process that has finished the run."""
    last = [sample for sample in facts.samples if sample.began_s == facts.samples[-1].began_s]
    resident = [sample.rss_bytes for sample in last if sample.rss_bytes is not None]
    return int(max([facts.manifest["measured"]["peak_rss_bytes"], *resident]))
