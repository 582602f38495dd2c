"""The budget that follows browsers, by browsers whose time is a law."""

from __future__ import annotations

import pytest

from da3stream.viewing import pace as pace_module
from da3stream.viewing.pace import FEWEST, MOST, UNMEASURED, Pace, budget_for


class Browser:
    """Draws by a law: so many seconds, and so many for each point. None: it does not answer."""

    def __init__(self, client_id: int, seconds_per_point: float | None) -> None:
        self.client_id, self.seconds_per_point = client_id, seconds_per_point


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Who was asked to draw; `points` of the test are what they draw."""
    asked: list[int] = []

    def draw(client: Browser) -> float | None:
        asked.append(client.client_id)
        each = client.seconds_per_point
        return None if each is None else 0.05 + each * POINTS

    monkeypatch.setattr(pace_module, "seconds_to_draw", draw)
    return asked


POINTS = 200_000


def measure(pace: Pace, *browsers: Browser) -> int:
    pace.measure(browsers, POINTS)  # type: ignore[arg-type]
    return pace.budget


def test_the_slowest_browser_counts(asked: list[int]) -> None:
    fast, slow = Browser(1, 1e-8), Browser(2, 3e-6)
    assert measure(Pace(), fast) == 8 * POINTS
    assert measure(Pace(), slow) == pytest.approx(0.3 / 3e-6)
    assert measure(Pace(), fast, slow) == measure(Pace(), slow)


@pytest.mark.parametrize("each_s", [3e-6, 1e-6, 3e-7, 1e-7])
def test_measured_again_and_again_it_comes_to_what_is_drawn_in_time(each_s: float) -> None:
    """From below; from above it stops where a little more than that is there."""
    drawn_in_time = min(MOST, 0.3 / each_s)
    few, many = 60_000, MOST
    for _ in range(6):
        few = budget_for(few, 0.05 + each_s * few)
        many = budget_for(many, 0.05 + each_s * many)
    assert few == pytest.approx(drawn_in_time, rel=1e-3)
    assert 0.999 * drawn_in_time <= many <= drawn_in_time / 0.6


def test_it_stays_within_its_bounds_and_takes_no_few_points_away() -> None:
    assert budget_for(60_000, 60.0) == FEWEST
    assert budget_for(MOST, 1e-4) == MOST
    assert budget_for(POINTS, 0.05 + 0.3 / 0.7) == POINTS


def test_it_is_measured_again_when_somebody_comes_or_points_have_changed(asked: list[int]) -> None:
    pace, first, second = Pace(), Browser(1, 1e-7), Browser(2, 1e-7)
    assert not pace.is_outdated([], POINTS)
    assert pace.is_outdated([first], POINTS)  # type: ignore[list-item]
    measure(pace, first)
    assert not pace.is_outdated([first], round(1.2 * POINTS))  # type: ignore[list-item]
    assert pace.is_outdated([first], 2 * POINTS)  # type: ignore[list-item]
    assert pace.is_outdated([first], POINTS // 2)  # type: ignore[list-item]
    assert pace.is_outdated([first, second], POINTS)  # type: ignore[list-item]
    assert not pace.is_outdated([], 2 * POINTS)


def test_a_page_in_the_background_counts_when_it_answers(
    asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pace, hidden = Pace(), Browser(1, None)
    assert measure(pace, hidden) == UNMEASURED
    assert not pace.is_outdated([hidden], POINTS)  # type: ignore[list-item]
    later = pace_module.time.monotonic() + 31
    monkeypatch.setattr(pace_module.time, "monotonic", lambda: later)
    assert pace.is_outdated([hidden], POINTS)  # type: ignore[list-item]
    hidden.seconds_per_point = 3e-6
    assert measure(pace, hidden) == pytest.approx(0.3 / 3e-6)
