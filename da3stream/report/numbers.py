"""Numbers as people read them, with their units."""

from __future__ import annotations


def count(number: int, thing: str = "") -> str:
    """`1 loop`, `36,000 frames`."""
    return f"{number:,}" + (f" {thing}{'' if number == 1 else 's'}" if thing else "")


def size(number: float) -> str:
    """Bytes in decimal units."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= factor:
            return (
                f"{number / factor:.3g} {unit}"
                if number < 999.5 * factor
                else f"{number / factor:,.0f} {unit}"
            )
    return f"{number:.0f} bytes"


def duration(seconds: float) -> str:
    """`0.42 s`, `12.3 s`, `3 min 05 s`, `1 h 02 min`."""
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def length(number: float, is_metric: bool) -> str:
    """A length in the unit of the run."""
    digits = f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"
    return f"{digits} {'m' if is_metric else 'units'}"


def percent(share: float) -> str:
    """A share of 1; two digits, more below 1 %."""
    if 0 < abs(share) < 5e-5:
        return "less than 0.01%"
    return f"{share:.2%}" if abs(share) < 0.01 else f"{share:.1%}" if abs(share) < 0.1 else f"{share:.0%}"
