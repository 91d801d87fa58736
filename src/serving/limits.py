"""Limits of what one client may ask for."""

from collections import OrderedDict
from time import monotonic

MOST_CLIENTS = 10_000  # that are remembered


class Buckets:
    """A bucket of images for each client, which fills up evenly within a minute."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self.levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # and when it was

    def wait(self, client: str, n: int, *, now: float | None = None) -> float:
        """Take ``n`` images of a client; or return in how many seconds there will be as many.

        More than a whole bucket is given to a full one, which then fills up for as long.
        """
        now = monotonic() if now is None else now
        level, since = self.levels.pop(client, (float(self.per_minute), now))
        level = min(self.per_minute, level + (now - since) * self.per_minute / 60)
        missing = min(n, self.per_minute) - level
        self.levels[client] = (level if missing > 0 else level - n, now)
        if len(self.levels) > MOST_CLIENTS:
            self.levels.popitem(last=False)
        return max(0.0, missing * 60 / self.per_minute)
