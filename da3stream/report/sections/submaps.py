"""How each chunk fits the one before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from da3stream.report.facts import Facts, Seam
from da3stream.report.html import Html, element, paragraph, section, table
from da3stream.report.numbers import count
from da3stream.result import reason_kind

OPEN_ROWS, MOST_ROWS = 20, 200
"""Shown at once, and in all."""
MOST_REASONS = 10
_HEAD = (
    "Chunk", "New frames", "Joined to", "Residual", "Inliers", "Shared frames", "Points", "Scale", "Trusted"
)  # fmt: skip
_NUMBERS = (0, 2, 3, 4, 5, 6, 7)


def submaps_section(facts: Facts) -> Html:
    """How each chunk fits the one before, the worst first."""
    seams = sorted(facts.seams, key=_badness, reverse=True)
    if not seams:
        return section("submaps", "Submaps", paragraph(f"One chunk: {count(facts.frames, 'frame')}."))
    note = (
        f"Chunks of {facts.chunk_sizes}; worst first. Residual: how far shared points are apart, relative to "
        "their depth (robust standard deviation). Scale: the chunk's unit in the unit of the one before."
    )
    parts: list[str] = [_seam_table(seams[:OPEN_ROWS])]
    if more := seams[OPEN_ROWS:MOST_ROWS]:
        parts.append(element("details", element("summary", f"{len(more)} more"), _seam_table(more)))
    if len(seams) > MOST_ROWS:
        rest = f"{len(seams) - MOST_ROWS:,} more fit better than these. All are in journal.jsonl."
        parts.append(paragraph(rest))
    parts += _vain_chunks(facts)
    return section("submaps", "Submaps", *parts, note=note)


def _seam_table(seams: Sequence[Seam]) -> Html:
    return table(_HEAD, [_seam_row(seam) for seam in seams], numbers=_NUMBERS)


def _badness(seam: Seam) -> tuple[bool, float]:
    return seam.problem is not None, float("inf") if seam.residual is None else seam.residual


def _seam_row(seam: Seam) -> list[str]:
    trusted = "yes" if seam.problem is None else f"no: {seam.problem}"
    return [
        f"{seam.chunk:,}",
        f"{seam.first_frame:,} – {seam.last_frame:,}",
        f"{seam.previous:,}",
        "–" if seam.residual is None else f"{seam.residual:.2%}",
        "–" if seam.inlier_ratio is None else f"{seam.inlier_ratio:.0%}",
        f"{seam.shared_frames}",
        f"{seam.points:,}",
        f"{seam.scale:.4f}",
        trusted,
    ]


def _vain_chunks(facts: Facts) -> list[Html]:
    vain = [chunk for chunk in facts.run.rejected.values() if chunk.scale > 1]
    if not vain:
        return []
    kinds = Counter(reason_kind(chunk.reason) for chunk in vain).most_common(MOST_REASONS)
    head = element("h3", f"Coarse chunks made in vain: {len(vain):,}")
    return [head, table(["Reason", "Count"], [[kind, f"{number:,}"] for kind, number in kinds], numbers={1})]
