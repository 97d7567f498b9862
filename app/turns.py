"""Whose turn it is to compute: one computation at a time for all readers of the app."""

from __future__ import annotations

import threading
from types import TracebackType


class Turns:
    """A lock for computations that knows how many threads compute or wait.

    Two that compute at once only delay each other. Re-entrant: a result may be made of others.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth: dict[int, int] = {}

    def __enter__(self) -> None:
        me = threading.get_ident()
        self._depth[me] = self._depth.get(me, 0) + 1
        try:
            self._lock.acquire()
        except BaseException:
            self._leave(me)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()
        self._leave(threading.get_ident())

    def _leave(self, me: int) -> None:
        self._depth[me] -= 1
        if not self._depth[me]:
            del self._depth[me]

    @property
    def others(self) -> int:
        """Threads other than this one that compute or wait."""
        return len(self._depth) - (threading.get_ident() in self._depth)


TURNS = Turns()
"""Of this process, which serves one workspace."""
