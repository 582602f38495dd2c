"""The whole page, from its sections."""

from __future__ import annotations

from importlib import resources
from string import Template

from da3stream.report.facts import Facts
from da3stream.report.html import element, joined
from da3stream.report.pictures import strip_frames
from da3stream.report.sections import costs, loops, origin, overview, submaps, views
from da3stream.report.verdict import verdicts


def page_of(facts: Facts) -> str:
    """The HTML of a run's report. Nothing in it leads out of the file but links to the run's own files."""
    strip = strip_frames(facts)
    body = joined(
        overview.header(facts),
        overview.verdict_section(verdicts(facts, strip)),
        overview.summary_section(facts),
        views.path_section(facts),
        views.frames_section(facts, strip),
        loops.loops_section(facts),
        submaps.submaps_section(facts),
        costs.speed_section(facts),
        costs.resources_section(facts),
        origin.warnings_section(facts),
        origin.files_section(facts),
        origin.reproduce_section(facts),
    )
    title = element("title", f"{facts.input_name} · da3stream report")
    return Template(_text("page.html")).substitute(title=title, style=_text("style.css"), body=body)


def _text(name: str) -> str:
    return resources.files("da3stream.report").joinpath(name).read_text(encoding="utf-8")
