"""How many points the browsers that look at a page draw quickly enough."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from da3stream.viewing.library import DRAWING_TIMEOUT_S, seconds_to_draw

if TYPE_CHECKING:
    from da3stream.viewing.library import ClientHandle

FEWEST, MOST = 100_000, 4_000_000
UNMEASURED = 1_000_000
"""As long as nobody looks."""
_TARGET_S, _CONSTANT_S = 0.35, 0.05
"""What an answer may take, and what it takes without any points. A browser draws two pictures for it: 7 a
second are left to a user who turns the scene."""
_MOST_GROWTH = 8.0
"""What one measurement may promise: a few points say little of many."""
_SILENT_S = 30.0
"""How long a browser that does not answer is left alone."""
_KEPT, _CHANGED = 0.6, 1.5
"""Points stay if a browser draws this share of them quickly; they are measured again if so many times more or
fewer."""
_POLL_S = 1 / 60


@dataclass(slots=True)
class _Browser:
    """What is known of one that looks."""

    points: int
    """How many were there when it was asked, or when it answered last."""
    seconds: float | None = None
    """How long it took to draw them; None: it has never answered."""
    is_asked: bool = True
    silences: int = 0
    """How often it did not answer since it was asked first or answered last."""
    again_s: float = 0.0
    """When it may be asked again, on the monotonic clock."""

    def is_due(self, points: int) -> bool:
        if self.is_asked or time.monotonic() < self.again_s:
            return False
        more = max(points, 1) / max(self.points, 1)
        return self.seconds is None or not 1 / _CHANGED < more < _CHANGED

    def budget(self) -> int | None:
        """How many points it bears; None if that is not known and it seems not to look.

        Until its first answer, as many as there are. The first time that it does not answer it may be too
        slow for so many; after that its page is in the background, where nothing is drawn.
        """
        if self.seconds is not None:
            return budget_for(self.points, self.seconds)
        if self.silences == 0:
            return max(self.points, FEWEST)
        return budget_for(self.points, DRAWING_TIMEOUT_S) if self.silences == 1 else None


class Pace:
    """A budget of points that follows the slowest browser.

    How long a browser draws grows in proportion to the points: with a graphics card by very little each,
    without one by 3 microseconds (Chromium on two cores). Each is asked in a thread of its own: one may take
    seconds, or never answer.
    """

    def __init__(self) -> None:
        self._browsers: dict[int, _Browser] = {}
        """Of those who look, by client."""
        self._lock = threading.Lock()

    def budget(self) -> int:
        """How many points there may be, by what is known of those who look."""
        with self._lock:
            budgets = [browser.budget() for browser in self._browsers.values()]
        return min((budget for budget in budgets if budget is not None), default=UNMEASURED)

    def ask(self, clients: Sequence[ClientHandle], points: int) -> None:
        """Ask all who have not said how long they draw about so many points. Returns at once."""
        looking = {client.client_id for client in clients}
        with self._lock:
            self._browsers = {key: value for key, value in self._browsers.items() if key in looking}
            for client in clients:
                browser = self._browsers.setdefault(client.client_id, _Browser(points, is_asked=False))
                if browser.is_due(points):
                    browser.is_asked = True
                    threading.Thread(target=self._ask, args=(client, points), daemon=True).start()

    def wait(self, seconds: float, is_stale: Callable[[], bool]) -> None:
        """Until all who were asked have answered, so many seconds have gone by, or it is stale."""
        deadline = time.monotonic() + seconds
        while self._is_asking() and time.monotonic() < deadline and not is_stale():
            time.sleep(_POLL_S)

    def _is_asking(self) -> bool:
        with self._lock:
            return any(browser.is_asked for browser in self._browsers.values())

    def _ask(self, client: ClientHandle, points: int) -> None:
        seconds = seconds_to_draw(client)
        with self._lock:
            browser = self._browsers.get(client.client_id)
            if browser is None:  # it has gone meanwhile
                return
            browser.is_asked = False
            if seconds is None:
                browser.silences += 1
                browser.again_s = time.monotonic() + (_SILENT_S if browser.silences > 1 else 0.0)
            else:
                browser.points, browser.seconds, browser.silences = points, seconds, 0


def budget_for(points: int, seconds: float) -> int:
    """How many points a browser draws quickly enough that takes some seconds for so many."""
    growth = min(_MOST_GROWTH, (_TARGET_S - _CONSTANT_S) / max(seconds - _CONSTANT_S, 1e-3))
    wanted = points * (1.0 if _KEPT < growth < 1 else growth)
    return round(min(max(wanted, FEWEST), MOST))
