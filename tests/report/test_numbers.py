"""Numbers as people read them."""

from __future__ import annotations

import pytest

from da3stream.report.numbers import count, duration, length, percent, size


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (46e6, "46 MB"), (2e12, "2,000 GB")],
)
def test_sizes(number: float, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4217, "0.422 s"), (59.94, "59.9 s"), (65, "1 min 05 s"), (3725, "1 h 02 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_no_duration_has_sixty_of_a_unit() -> None:
    assert not any("60 " in duration(tenth / 10) for tenth in range(80_000))


def test_counts_lengths_and_shares() -> None:
    assert (count(1, "loop"), count(36000, "frame"), count(0)) == ("1 loop", "36,000 frames", "0")
    assert (length(1234.5, True), length(0.01234, False)) == ("1,234 m", "0.0123 units")
    assert (percent(0.00149), percent(0.0567), percent(0.987), percent(1.0)) == (
        "0.15%",
        "5.7%",
        "99%",
        "100%",
    )
