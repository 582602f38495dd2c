"""The first lines of the page: what was measured that says whether the result can be trusted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from da3stream.errors import command_line
from da3stream.placed_map_summary import UNSURE_SCALE
from da3stream.report.facts import Facts
from da3stream.report.map import drift_closed
from da3stream.report.numbers import count, percent
from da3stream.report.pictures import StripFrame

Mark = Literal["good", "look", "open"]
LARGE_RESIDUAL = 0.05
"""Of a join, relative to the depth; on real clips they are 0.002 to 0.01."""
FEW_PIXELS = 0.1
"""A frame with a smaller share of usable depth is worth a look."""
_ORDER = ("look", "good", "open")


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """One measured fact."""

    mark: Mark
    """good: nothing was found; look: something was, see the section; open: it could not be measured."""
    text: str
    section: str
    """Where the details are."""


def verdicts(facts: Facts, strip: list[StripFrame]) -> list[Verdict]:
    """What a reader has to know first."""
    found = [
        *_state(facts),
        *_seams(facts),
        *_loops(facts),
        *_optimisation(facts),
        *_depth(strip),
        *_scale(facts),
        *_warnings(facts),
        *_truth(facts),
    ]
    return sorted(found, key=lambda verdict: _ORDER.index(verdict.mark))


def _state(facts: Facts) -> Iterator[Verdict]:
    if not facts.is_finished:
        again = command_line("resume", facts.name)
        text = f"The run has not finished: this page shows its first {count(facts.frames, 'frame')}. "
        yield Verdict(mark="look", text=f"{text}Go on with: `{again}`", section="reproduce")


def _seams(facts: Facts) -> Iterator[Verdict]:
    seams = facts.seams
    if not seams:
        yield Verdict(
            mark="good", text="One chunk holds all frames: nothing had to be joined.", section="submaps"
        )
        return
    bad = [seam for seam in seams if seam.problem]
    residuals = [seam.residual for seam in seams if seam.residual is not None]
    text = f"{len(seams) - len(bad):,} of {count(len(seams), 'join')} between consecutive chunks fit."
    if residuals:
        worst = max(seams, key=lambda seam: seam.residual or 0.0)
        text += (
            f" The worst, of chunks {worst.previous} and {worst.chunk} (frame {worst.first_frame:,} on),"
            f" differs by {percent(max(residuals))} of the depth,"
            f" half of them by {percent(float(np.median(residuals)))} or less."
        )
    if bad:
        text += f" Not trusted: chunk {bad[0].chunk}, because {bad[0].problem}."
    if is_large := max(residuals, default=0.0) > LARGE_RESIDUAL:
        text += f" More than {percent(LARGE_RESIDUAL)} is a lot."
    yield Verdict(mark="look" if bad or is_large else "good", text=text, section="submaps")


def _loops(facts: Facts) -> Iterator[Verdict]:
    if facts.manifest.get("place", "none") == "none" or not facts.manifest["config"].get("loop", True):
        yield Verdict(
            mark="open",
            text="No loops were looked for: drift over the whole path is not corrected.",
            section="loops",
        )
        return
    closed = [loop for loop in facts.loops if loop.is_accepted]
    used = [loop for loop in closed if loop.chunk not in facts.unused_loops]
    if not used:
        reason = (
            f"{count(len(facts.loops), 'candidate')}, none kept" if facts.loops else "no place was seen twice"
        )
        text = f"No loop was closed ({reason}): drift over the whole path can neither be seen nor corrected."
        yield Verdict(mark="open", text=text, section="loops")
        return
    text = f"{count(len(used), 'loop')} closed, of {count(len(facts.loops), 'verified candidate')}."
    moved = drift_closed(facts)
    if moved:
        text += f" Optimisation moved the path by at most {moved}."
    if len(used) < len(closed):
        text += f" {len(closed) - len(used)} more contradict the rest and were not used."
    yield Verdict(mark="look" if len(used) < len(closed) else "good", text=text, section="loops")


def _optimisation(facts: Facts) -> Iterator[Verdict]:
    summary = facts.manifest.get("optimisation", {})
    if "converged" not in summary or not summary["edges"]:
        return
    refused = summary["edges_refused"]
    text = f"The pose graph of {count(summary['submaps'], 'submap')} and {count(summary['edges'], 'edge')} "
    text += "converged" if summary["converged"] else f"did not converge ({summary['reason']})"
    text += f"; {refused} edges were refused." if refused else "; no edge was refused."
    is_good = summary["converged"] and not refused
    yield Verdict(mark="good" if is_good else "look", text=text, section="submaps")


def _depth(strip: list[StripFrame]) -> Iterator[Verdict]:
    if strip:
        shares = [frame.usable_share for frame in strip]
        worst = strip[int(np.argmin(shares))]
        text = (
            f"Depth is usable in {percent(float(np.mean(shares)))} of the pixels of the {len(strip)} frames"
            f" shown ({percent(worst.usable_share)} in the worst, frame {worst.frame:,})."
        )
        yield Verdict(mark="look" if min(shares) < FEW_PIXELS else "good", text=text, section="frames")


def _scale(facts: Facts) -> Iterator[Verdict]:
    if not facts.is_finished:
        return
    if (priors := facts.manifest.get("optimisation", {}).get("pose_priors")) is not None:
        yield _priors(priors)
    alignment = facts.run.alignment
    if facts.is_metric:
        by_hand = alignment is not None and alignment.is_metric
        source = (
            "set by hand"
            if by_hand
            else "the unit of the known poses"
            if facts.manifest.get("poses")
            else None
        )
        text = f"Lengths are in metres ({source or 'as the model estimates them'})."
        yield Verdict(mark="good", text=text, section="summary")
    else:
        text = "Lengths are in an arbitrary unit."
        if facts.keeps_depth:
            text += f" In metres: `{command_line('align', facts.name, '--known-distance')} A B METRES`"
        yield Verdict(mark="open", text=text, section="summary")


def _priors(priors: Mapping[str, Any]) -> Verdict:
    unsure = priors["scale_uncertainty"]
    turns = "used" if priors["rotation_sigma_rad"] is not None else "left out, as they do not fit"
    text = (
        f"{count(priors['frames'], 'frame')} with a prior pose: positions off by {priors['sigma']:.3g} units"
        f" on each axis, {priors['outliers']:,} believed to be wrong, rotations {turns}. The unit that"
        f" they give the map is uncertain by {percent(unsure)}."
    )
    return Verdict(mark="good" if unsure < UNSURE_SCALE else "look", text=text, section="summary")


def _warnings(facts: Facts) -> Iterator[Verdict]:
    warnings = facts.manifest.get("warnings", [])
    if warnings:
        more = f" (and {len(warnings) - 1} more)" if len(warnings) > 1 else ""
        yield Verdict(mark="look", text=f"Warning: {warnings[0]}{more}", section="warnings")
    elif facts.is_finished:
        yield Verdict(mark="good", text="No warnings.", section="warnings")


def _truth(facts: Facts) -> Iterator[Verdict]:
    if facts.is_finished:
        measure = command_line("eval", facts.name, "--gt")
        text = f"The error against a ground truth was not measured. With one: `{measure} FILE`"
        yield Verdict(mark="open", text=text, section="reproduce")
