"""How many points the browsers that look at a page draw quickly enough."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from da3stream.viewing.library import seconds_to_draw

if TYPE_CHECKING:
    from da3stream.viewing.library import ClientHandle

FEWEST, MOST = 50_000, 4_000_000
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


class Pace:
    """A budget of points that follows the slowest browser.

    How long a browser draws grows in proportion to the points: with a graphics card by some nanoseconds each,
    without one by 3 microseconds (Chromium on two cores).
    """

    def __init__(self) -> None:
        self.budget = UNMEASURED
        """How many points there may be."""
        self._measured_points = 0
        self._again_s: dict[int, float] = {}
        """By client that was measured: when it is to be asked again, on the monotonic clock."""

    def is_outdated(self, clients: Collection[ClientHandle], points: int) -> bool:
        """Whether somebody looks who was not measured, or at far more or fewer points than measured."""
        now = time.monotonic()
        if any(self._again_s.get(client.client_id, 0.0) <= now for client in clients):
            return True
        more = max(points, 1) / max(self._measured_points, 1)
        return bool(clients) and not 1 / _CHANGED < more < _CHANGED

    def measure(self, clients: Sequence[ClientHandle], points: int) -> None:
        """Set the budget by how long the slowest browser draws what is there: so many points.

        A page in the background does not draw; it is left out, and asked again later.
        """
        times = {client.client_id: seconds_to_draw(client) for client in clients}
        later = time.monotonic() + _SILENT_S
        self._measured_points = points
        self._again_s = {client: later if seconds is None else math.inf for client, seconds in times.items()}
        if known := [seconds for seconds in times.values() if seconds is not None]:
            self.budget = budget_for(points, max(known))


def budget_for(points: int, seconds: float) -> int:
    """How many points a browser draws quickly enough that takes some seconds for so many."""
    growth = min(_MOST_GROWTH, (_TARGET_S - _CONSTANT_S) / max(seconds - _CONSTANT_S, 1e-3))
    wanted = points * (1.0 if _KEPT < growth < 1 else growth)
    return round(min(max(wanted, FEWEST), MOST))
