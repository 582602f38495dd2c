"""What the run took: seconds by stage, memory and disk over time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from da3stream.config import load_config
from da3stream.disk import DiskBudget
from da3stream.report.charts import Bar, bars, curve
from da3stream.report.facts import Facts
from da3stream.report.html import Html, element, paragraph, section
from da3stream.report.numbers import duration, size


def speed_section(facts: Facts) -> Html:
    """Seconds by stage."""
    measured = facts.manifest.get("measured", {})
    seconds = sorted(measured.get("seconds", {}).items(), key=lambda item: -item[1])
    if not seconds:
        return section("speed", "Speed by stage", paragraph("Known once the run has finished."))
    total = measured["seconds_total"]
    since = " since the run was resumed" if facts.is_resumed else ""
    rows = [Bar(name=name, value=value, cells=_time_cells(value, facts)) for name, value in seconds]
    note = f"{duration(total)} in all{since}. Stages overlap: their sum may be more."
    return section("speed", "Speed by stage", bars(rows), note=note)


def _time_cells(seconds: float, facts: Facts) -> tuple[str, ...]:
    """How many frames the last process of a resumed run had is not known."""
    if facts.is_resumed:
        return (duration(seconds),)
    return duration(seconds), f"{1000 * seconds / facts.frames:,.1f} ms/frame"


def resources_section(facts: Facts) -> Html:
    """Memory and disk over time, against their budgets."""
    samples = facts.samples
    if not samples:
        return section("resources", "Memory and disk over time", paragraph("This run has not recorded them."))
    time_s = _active_seconds([(sample.began_s, sample.time_s) for sample in samples])
    charts = []
    for title, values, budget, name in (
        ("Memory of the process", [sample.rss_bytes for sample in samples], None, ""),
        ("GPU memory", [sample.gpu_bytes for sample in samples], _gpu_budget(facts), "--vram"),
        ("Run directory", [sample.disk_bytes for sample in samples], *_disk_budget(facts)),
    ):
        known = [(x, y) for x, y in zip(time_s, values, strict=True) if y is not None]
        if known:
            x, y = np.array(known, dtype=np.float64).T
            charts.append(curve(title, x, y, x_text=duration, y_text=size, budget=budget, budget_name=name))
    has_gpu = any(sample.gpu_bytes is not None for sample in samples)
    missing = "" if has_gpu else " No GPU was used by this process."
    note = (
        "A sample whenever a chunk was stored and one at the end, without the time in which the run was "
        f"interrupted. Memory is that of the process without its children.{missing}"
    )
    return section(
        "resources", "Memory and disk over time", element("div", *charts, class_="charts"), note=note
    )


def _active_seconds(moments: Sequence[tuple[float, float]]) -> list[float]:
    """Seconds that processes have spent until each (beginning of the process, moment), in order of time."""
    active, before, spent = [], (float("nan"), 0.0), 0.0
    for began, moment in moments:
        spent += moment - (before[1] if began == before[0] else began)
        before = (began, moment)
        active.append(max(spent, 0.0))
    return active


def _gpu_budget(facts: Facts) -> float | None:
    budgets = [plan.budget_bytes for plan in facts.run.plans if plan.budget_bytes is not None]
    return float(budgets[-1]) if budgets else None


def _disk_budget(facts: Facts) -> tuple[float | None, str]:
    config = load_config(None, facts.manifest["config"])
    if config.disk_bytes is not None:
        return float(config.disk_bytes), "--disk"
    return float(DiskBudget(facts.run.root, config).planned_bytes(facts.frames)), "planned for this run"
