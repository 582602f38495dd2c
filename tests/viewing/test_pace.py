"""The budget that follows browsers, by browsers whose time is a law."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from da3stream.viewing import pace as pace_module
from da3stream.viewing.pace import FEWEST, MOST, UNMEASURED, Pace, budget_for

POINTS = 200_000


class Browser:
    """Draws by a law: a time for each point. None: it does not answer."""

    def __init__(self, client_id: int, seconds_per_point: float | None) -> None:
        self.client_id, self.seconds_per_point = client_id, seconds_per_point
        self.may_answer = threading.Event()
        self.may_answer.set()


FAST, SLOW, HIDDEN = Browser(1, 1e-8), Browser(2, 3e-6), Browser(3, None)


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> tuple[Pace, list[int]]:
    """And the clients that it has asked."""
    asked: list[int] = []

    def draw(browser: Browser) -> float | None:
        asked.append(browser.client_id)
        assert browser.may_answer.wait(20)
        each = browser.seconds_per_point
        return None if each is None else 0.05 + each * POINTS

    monkeypatch.setattr(pace_module, "seconds_to_draw", draw)
    return Pace(), asked


def ask(pace: Pace, *browsers: Browser, points: int = POINTS) -> int:
    """The budget once all have answered."""
    clients: Any = browsers
    pace.ask(clients, points)
    pace.wait(20, lambda: False)
    return pace.budget()


def test_the_slowest_browser_that_looks_counts(pace: tuple[Pace, list[int]]) -> None:
    assert pace[0].budget() == UNMEASURED
    assert ask(pace[0], FAST) == 8 * POINTS
    assert ask(pace[0], FAST, SLOW) == pytest.approx(0.3 / 3e-6)
    assert ask(pace[0], FAST) == 8 * POINTS  # it has left
    assert ask(pace[0]) == UNMEASURED


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


def test_who_has_answered_is_asked_again_only_at_other_numbers(pace: tuple[Pace, list[int]]) -> None:
    budget, asked = pace
    ask(budget, FAST)
    ask(budget, FAST, SLOW, points=round(1.2 * POINTS))
    assert asked == [1, 2]
    ask(budget, FAST, points=2 * POINTS)
    ask(budget, FAST, points=POINTS // 2)
    assert asked == [1, 2, 1, 1]


def test_until_a_browser_has_answered_it_gets_no_more_points(pace: tuple[Pace, list[int]]) -> None:
    late = Browser(4, 1e-8)
    late.may_answer.clear()
    clients: Any = [late]
    pace[0].ask(clients, POINTS)
    assert pace[0].budget() == POINTS
    pace[0].wait(0.05, lambda: False)
    pace[0].wait(20, lambda: True)
    assert pace[0].budget() == POINTS
    late.may_answer.set()
    pace[0].wait(20, lambda: False)
    assert pace[0].budget() == 8 * POINTS


def test_silence_is_slowness_once_and_then_a_page_in_the_background(
    pace: tuple[Pace, list[int]], passing: Callable[[float], None]
) -> None:
    budget, asked = pace
    assert ask(budget, FAST, HIDDEN) == FEWEST
    assert ask(budget, FAST, HIDDEN) == 8 * POINTS
    assert ask(budget, FAST, HIDDEN) == 8 * POINTS
    assert asked.count(3) == 2
    passing(31.0)
    ask(budget, FAST, HIDDEN)
    assert (asked.count(1), asked.count(3)) == (1, 3)


def test_what_a_browser_has_said_holds_when_it_goes_to_the_background(pace: tuple[Pace, list[int]]) -> None:
    browser = Browser(5, 3e-6)
    known = ask(pace[0], browser)
    browser.seconds_per_point = None
    assert ask(pace[0], browser, points=4 * POINTS) == known


def test_one_that_has_gone_before_it_answers_is_forgotten(pace: tuple[Pace, list[int]]) -> None:
    gone = Browser(6, 3e-6)
    gone.may_answer.clear()
    clients: Any = [gone]
    pace[0].ask(clients, POINTS)
    assert ask(pace[0], FAST) == 8 * POINTS
    gone.may_answer.set()
    assert ask(pace[0], FAST) == 8 * POINTS


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets so many seconds pass at once for the pace."""
    real = pace_module.time

    def wait(seconds: float) -> None:
        class Later:
            sleep = staticmethod(real.sleep)

            @staticmethod
            def monotonic() -> float:
                return real.monotonic() + seconds

        monkeypatch.setattr(pace_module, "time", Later)

    return wait
