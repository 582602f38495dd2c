"""What the panel says of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from da3stream.viewing.map_state import MapState


def describe_run(manifest: Mapping[str, Any], state: MapState, *, is_metric: bool) -> str:
    """Markdown of a few lines: model, size, length and warnings.

    Args:
        manifest: run.json.
        state: the map.
        is_metric: whether lengths are in metres.
    """
    unit = "m" if is_metric else "units"
    seconds = float(state.timestamp_s[-1] - state.timestamp_s[0])
    times = "frame numbers" if manifest.get("timestamps_are_synthetic") else "the input"
    lines = [
        f"**Model** {escaped(str(manifest['model']))}",
        f"**Frames** {len(state)}, {seconds:.1f} s by {times}",
        f"**Path** {state.length:.4g} {unit}" + ("" if is_metric else " (the scale is arbitrary)"),
    ]
    if manifest["status"] == "finished":
        lines += [
            f"**Chunks** {manifest['chunks']}, and {manifest['coarse_chunks']} coarse ones",
            f"**Loops** {manifest['loops']} closed, {manifest['loops_rejected']} rejected",
            f"**Warnings** {len(manifest['warnings'])}",
            *(f"- {escaped(warning)}" for warning in manifest["warnings"][:5]),
            "More is in report.html and run.json of the run directory.",
        ]
    return "\n\n".join(lines)


def escaped(text: str) -> str:
    """Text without what markdown would take for a mark or for HTML."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|" else letter for letter in text)
