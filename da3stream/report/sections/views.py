"""What came out, to look at: the path from above, depth and confidence."""

from __future__ import annotations

from da3stream.errors import command_line
from da3stream.report.facts import Facts
from da3stream.report.html import Html, element, paragraph, picture, section
from da3stream.report.map import legend, path_before, path_map
from da3stream.report.pictures import StripFrame


def path_section(facts: Facts) -> Html:
    """The trajectory from above."""
    picture = path_map(facts)
    if picture is None:
        return section("path", "Path from above", _missing(facts, "submaps"))
    entries = [("gradient", "path, from start (blue) to end (red)")]
    if path_before(facts) is not None:
        entries.append(("before", "before loops and optimisation"))
    if facts.loops:
        entries += [("loop", "loop: long before, short after"), ("refused", "refused loop")]
    note = "Seen from above; point at the path for frame numbers."
    if not facts.is_finished:
        note += " The run has not finished: this is the chain of chunks, without any correction."
    elif facts.run.alignment is None or facts.run.alignment.up is None:
        note += " Which way is up is guessed from the path"
        upright = command_line("align", facts.name, "--up", "plane")
        note += f"; `{upright}` measures it." if facts.keeps_depth else "."
    if facts.chosen_world is not None:
        note += f" The world was set by hand: {facts.chosen_world}."
    return section("path", "Path from above", picture, legend(entries), note=note)


def frames_section(facts: Facts, strip: list[StripFrame]) -> Html:
    """Images, depth and confidence over time."""
    if not strip:
        return section("frames", "Depth and confidence over time", _missing(facts, "frames"))
    figures = [
        element(
            "figure",
            picture(frame.image, f"frame {frame.frame}"),
            picture(frame.depth, f"depth of frame {frame.frame}"),
            picture(frame.confidence, f"confidence of frame {frame.frame}"),
            element("figcaption", f"{frame.frame:,} · {frame.seconds:.1f} s"),
        )
        for frame in strip
    ]
    note = (
        "Image, depth (near is red, far is blue, unknown or sky is black; each map has its own range) and "
        "confidence (bright is sure, green is typical of this run, black is never used)."
    )
    return section(
        "frames", "Depth and confidence over time", element("div", *figures, class_="strip"), note=note
    )


def _missing(facts: Facts, what: str) -> Html:
    """Why there is nothing to see: as was asked for, or because of a loss."""
    if not facts.keeps_depth:
        return paragraph(f"Not kept: the {what} of this run were removed (--keep none).")
    return paragraph(
        f"Cannot be read: the {what} of this run were kept, but files are lost. "
        f"They are made anew by: {command_line('resume', 'RUN')}"
    )
