"""Warnings, files, and how to do it again."""

from __future__ import annotations

import shlex
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from da3stream import errors
from da3stream.config import load_config
from da3stream.report.facts import Facts
from da3stream.report.html import Html, element, paragraph, section, table
from da3stream.report.numbers import size

MOST_WARNINGS = 50


def warnings_section(facts: Facts) -> Html:
    """All that went wrong without ending the run."""
    warnings = facts.manifest.get("warnings", [])
    if not warnings:
        text = "None." if facts.is_finished else "Known once the run has finished."
        return section("warnings", "Warnings", paragraph(text))
    items = [element("li", warning) for warning in warnings[:MOST_WARNINGS]]
    parts: list[str] = [element("ul", *items)]
    if len(warnings) > MOST_WARNINGS:
        parts.append(paragraph(f"{len(warnings) - MOST_WARNINGS:,} more are in run.json."))
    return section("warnings", "Warnings", *parts)


def files_section(facts: Facts) -> Html:
    """Links to the outputs, relative to the page."""
    rows = [[element("a", name, href=quote(name)), size(taken)] for name, taken in facts.outputs()]
    if not rows:
        return section("files", "Files", paragraph("Outputs are written when the run finishes."))
    rows.append([element("a", "run.json", href="run.json"), "all that is known of the run"])
    note = "Links work as long as this page lies in the run directory."
    return section(
        "files", "Files", table(["Output", "Size"], [list(row) for row in rows], numbers={1}), note=note
    )


def reproduce_section(facts: Facts) -> Html:
    """Command line, versions and identities."""
    manifest = facts.manifest
    rows = [
        ["Command", element("code", command_line(facts))],
        *(["Then", element("code", line)] for line in later_commands(facts)),
        ["da3stream", manifest["da3stream"]],
        ["Model", manifest["model"]],
        ["Weights", _identity(manifest.get("weights"))],
        ["Places", manifest.get("place", "none")],
        ["Weights of places", _identity(manifest.get("place_weights"))],
        ["Input", element("code", manifest["source"])],
        *(
            [[name, version] for name, version in manifest["measured"]["environment"].items()]
            if "environment" in manifest.get("measured", {})
            else []
        ),
    ]
    options = [[name, _value(value)] for name, value in sorted(manifest["config"].items())]
    config = element(
        "details", element("summary", "All options"), table(["Option", "Value"], options, class_="pairs")
    )
    note = "The same input, options and weights give the same result; random numbers have fixed seeds. "
    note += "Commands are those of the folder that the run directory lies in."
    return section("reproduce", "How to do it again", table([], rows, class_="pairs"), config, note=note)


def command_line(facts: Facts) -> str:
    """What gives the same result, input and run by name alone; for a source object a line of Python."""
    defaults = load_config().model_dump(mode="json")
    changed = {
        name: value
        for name, value in facts.manifest["config"].items()
        if value is not None and value != defaults.get(name)
    }
    if facts.manifest["input"] is None:
        return (
            f"da3stream.reconstruct(source, {facts.name!r}, config=da3stream.load_config(None, {changed!r}))"
        )
    options = [_option(name, value) for name, value in changed.items()]
    return " ".join([errors.command_line("run", facts.input_name, "-o", facts.name), *options])


def later_commands(facts: Facts) -> list[str]:
    """What was done to the finished run: its world, and outputs that were made with options of their own."""
    lines = [] if facts.chosen_world is None else [_align_command(facts)]
    formats: dict[str, list[str]] = {}
    for name, own in facts.manifest.get("output_options", {}).items():
        options = " ".join(_option(option, value) for option, value in own.items())
        formats.setdefault(options, []).append(name)
    return lines + [
        f"{errors.command_line('export', facts.name, '--to', ','.join(names))} {options}"
        for options, names in formats.items()
    ]


def _align_command(facts: Facts) -> str:
    """A distance that was known is the scale that it gave."""
    alignment = facts.run.alignment
    assert alignment is not None
    words: list[object] = ["align", facts.name]
    if alignment.up is not None:
        words += ["--up", alignment.up]
    if alignment.is_metric:
        words += ["--scale", float(alignment.world_from_run.scale)]
    return errors.command_line(*words)


def _option(name: str, value: Any) -> str:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag} {shlex.quote(_value(value))}"


def _value(value: Any) -> str:
    """As one would type it; of a path its name, since folders are nobody's business."""
    if isinstance(value, str) and PurePath(value).is_absolute():
        return PurePath(value).name
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.10g}"
    return "" if value is None else "yes" if value is True else "no" if value is False else str(value)


def _identity(weights: Any) -> str:
    if not weights:
        return "none"
    return ", ".join(f"{name} {value}" for name, value in weights.items())
