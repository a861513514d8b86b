"""History of one lock as seen by its clients, and the checks over it: intervals, fencing tokens, queue order.

A hold lasts from the arrival of its grant until just before its release is sent, or until its `expires_at` if its
holder died: the service must have kept it for that time. Times are of the wall clock, like `expires_at`;
everything runs on one machine.
"""

import dataclasses
import threading

EXCLUSIVE, SHARED = "exclusive", "shared"


@dataclasses.dataclass(frozen=True)
class Hold:
    mode: str
    token: int
    asked: float
    granted: float
    ended: float
    died: bool = False


class LockHistory:
    """Written by many threads, checked at the end."""

    def __init__(self):
        self._lock = threading.Lock()
        self.holds: list[Hold] = []

    def add(self, hold: Hold) -> None:
        with self._lock:
            self.holds.append(hold)

    def deaths(self) -> int:
        return sum(hold.died for hold in self.holds)

    def overlaps(self) -> list[tuple[Hold, Hold]]:
        """Pairs that held at the same time though one of them was exclusive."""
        return [pair for pair in self._together() if EXCLUSIVE in (pair[0].mode, pair[1].mode)]

    def shared_together(self) -> int:
        """How often two shared holds overlapped: if never, nothing was shared."""
        return sum(pair[0].mode == pair[1].mode == SHARED for pair in self._together())

    def _together(self):
        holds = sorted(self.holds, key=lambda hold: hold.granted)
        for place, first in enumerate(holds):
            for second in holds[place + 1 :]:
                if second.granted < first.ended:
                    yield first, second

    def tokens_out_of_order(self) -> list[tuple[Hold, Hold]]:
        """Pairs where the later hold, granted after the earlier had ended, has no greater token. Two shared ones may
        have been granted together, and the answer to one of them have arrived after the other had ended: of those, only
        what was asked for after the other was granted is later."""
        holds = sorted(self.holds, key=lambda hold: hold.granted)

        def together(first, second):
            return first.mode == second.mode == SHARED and second.asked < first.granted

        return [
            (first, second)
            for place, first in enumerate(holds)
            for second in holds[place + 1 :]
            if first.ended <= second.granted and second.token <= first.token and not together(first, second)
        ]

    def check(self, expected: int) -> None:
        assert len(self.holds) == expected, f"{len(self.holds)} holds of {expected}"
        assert not self.overlaps(), self.overlaps()[:3]
        assert not self.tokens_out_of_order(), self.tokens_out_of_order()[:3]
        exclusive = [hold.token for hold in self.holds if hold.mode == EXCLUSIVE]
        assert len(set(exclusive)) == len(exclusive), "one fencing token for two exclusive holds"


def displacement(history: LockHistory) -> int:
    """How many places the line let anybody move, at most, between arrival and grant."""
    arrivals = sorted(history.holds, key=lambda hold: hold.asked)
    grants = sorted(history.holds, key=lambda hold: hold.token)
    return max(abs(place - grants.index(hold)) for place, hold in enumerate(arrivals))
