"""Loops with both images, and why others were rejected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from da3stream.report.facts import Facts
from da3stream.report.html import Html, element, paragraph, picture, section, table
from da3stream.report.numbers import percent
from da3stream.report.pictures import thumbnail
from da3stream.report.thinning import evenly
from da3stream.result import reason_kind
from da3stream.scene import LoopClosure

MOST_PICTURES = 12
MOST_REJECTED_PICTURES = 8
MOST_ROWS = 100


def loops_section(facts: Facts) -> Html:
    """Loops with both images, and why others were rejected."""
    accepted = [loop for loop in facts.loops if loop.is_accepted]
    rejected = [loop for loop in facts.loops if not loop.is_accepted]
    if not facts.loops:
        return section("loops", "Loops", paragraph(_no_loops(facts)))
    parts: list[str] = [element("h3", f"Closed: {len(accepted):,}")]
    parts += _loop_cards(facts, accepted, MOST_PICTURES)
    if len(accepted) > MOST_PICTURES:
        parts.append(_loop_table(facts, accepted))
    parts.append(element("h3", f"Rejected: {len(rejected):,}"))
    if rejected:
        kinds = Counter(reason_kind(str(loop.reason)) for loop in rejected).most_common()
        parts.append(
            table(["Reason", "Count"], [[kind, f"{number:,}"] for kind, number in kinds], numbers={1})
        )
        parts += _loop_cards(facts, rejected, MOST_REJECTED_PICTURES)
    note = (
        "Similarity: of the two images' descriptors. Confirmed: pixels of one place that frames of the other "
        "see at the same depth, once both are reconstructed together."
    )
    return section("loops", "Loops", *parts, note=note)


def _no_loops(facts: Facts) -> str:
    if facts.manifest.get("place", "none") == "none":
        return "No loops were looked for: frames were not described (--place none)."
    return "No place was recognised again."


def _spread(loops: Sequence[LoopClosure], most: int) -> list[LoopClosure]:
    return [loops[row] for row in evenly(len(loops), most)]


def _loop_cards(facts: Facts, loops: list[LoopClosure], most: int) -> list[Html]:
    shown = _spread(loops, most)
    cards = [_loop_card(facts, loop) for loop in shown]
    more = f"{len(shown)} of {len(loops):,}, spread over the run." if len(shown) < len(loops) else ""
    return [*([paragraph(more)] if more else []), element("div", *cards, class_="cards")]


def _loop_card(facts: Facts, loop: LoopClosure) -> Html:
    pair = loop.candidate
    pictures = [
        picture(thumbnail(facts, frame), f"frame {frame}")
        for frame in (pair.earlier, pair.later)
        if facts.has_pixels
    ]
    title = f"frames {pair.earlier:,} and {pair.later:,}"
    return element(
        "figure",
        element("div", *pictures, class_="pair"),
        element("figcaption", element("b", title), element("span", "; ".join(_scores(facts, loop)))),
        class_="card",
    )


def _scores(facts: Facts, loop: LoopClosure) -> list[str]:
    pair = loop.candidate
    scores = [f"similarity {pair.similarity:.3f} (at least {pair.threshold:.3f})"]
    for name, words in (("confirmed", "of the pixels confirmed"), ("agreement", "agree in depth")):
        value = loop.evidence.get(name)
        if isinstance(value, float):
            scores.append(f"{percent(value)} {words}")
    if loop.reason is not None:
        scores.append(loop.reason)
    elif loop.chunk in facts.unused_loops:
        scores.append("contradicts the rest: not used")
    return scores


def _loop_table(facts: Facts, loops: list[LoopClosure]) -> Html:
    shown = _spread(loops, MOST_ROWS)
    rows = [
        [
            f"{loop.candidate.earlier:,}",
            f"{loop.candidate.later:,}",
            f"{loop.candidate.similarity:.3f}",
            "no" if loop.chunk in facts.unused_loops else "yes",
        ]
        for loop in shown
    ]
    head = ["Earlier frame", "Later frame", "Similarity", "Used"]
    title = f"Table of {len(shown)}" + (
        f" of {len(loops):,}, spread over the run" if len(shown) < len(loops) else ""
    )
    return element("details", element("summary", title), table(head, rows, numbers={0, 1, 2}))
