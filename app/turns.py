"""Whose turn it is to compute: one computation at a time for all readers of the app."""

from __future__ import annotations

import threading
import time
from collections import deque

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

POLL_SECONDS = 0.5
SLICE_SECONDS = 1.0
"""A computation that has lasted so long gives way to those who wait, where it can be left."""


class Turns:
    """A lock for computations, in the order in which they were asked for.

    Two that compute at once only delay each other. Re-entrant: a result may be made of others. A
    reader who has gone on to something else while waiting leaves the queue. A long computation
    gives way between two of its steps, so nobody waits for the end of it.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[int] = deque()
        self._owner: int | None = None
        self._depth = 0
        self._since = 0.0

    def __enter__(self) -> None:
        me = threading.get_ident()
        with self._changed:
            if self._owner == me:
                self._depth += 1
                return
            self._waiting.append(me)
        self._wait(me)

    def _wait(self, me: int) -> None:
        """Until the turn comes of a thread that is in the queue."""
        try:
            while not self._taken(me):
                _leave_if_asked()
        except BaseException:
            with self._changed:
                self._waiting.remove(me)
                self._changed.notify_all()
            raise

    def _taken(self, me: int) -> bool:
        """Whether this thread's turn came while it waited a moment."""
        with self._changed:
            if not self._may_begin(me):
                self._changed.wait_for(lambda: self._may_begin(me), POLL_SECONDS)
            if not self._may_begin(me):
                return False
            self._waiting.popleft()
            self._owner, self._depth, self._since = me, 1, time.monotonic()
            return True

    def _may_begin(self, me: int) -> bool:
        return self._owner is None and self._waiting[0] == me

    def give_way(self) -> None:
        """Pass the turn on if it has lasted long; for the steps of a computation, which call it
        where nothing is half done.
        """
        if time.monotonic() - self._since > SLICE_SECONDS:
            self.pass_on()

    def pass_on(self) -> None:
        """Let all who wait go first, and come back when the turn does; nothing without a turn.

        Raises what Streamlit raises where the reader has clicked on meanwhile.
        """
        me = threading.get_ident()
        with self._changed:
            if self._owner != me or not self._waiting:
                return
        _leave_if_asked()
        with self._changed:
            depth, self._owner = self._depth, None
            self._waiting.append(me)
            self._changed.notify_all()
        self._wait(me)
        self._depth = depth

    def __exit__(self, *_: object) -> None:
        with self._changed:
            if self._owner != threading.get_ident():
                return  # left while others had been let through
            self._depth -= 1
            if not self._depth:
                self._owner = None
                self._changed.notify_all()

    @property
    def others(self) -> int:
        """Threads other than this one that compute or wait."""
        me = threading.get_ident()
        with self._changed:
            return len({*self._waiting, self._owner} - {me, None})


def _leave_if_asked() -> None:
    """Raise what Streamlit raises where the reader has clicked on: asking for the state does."""
    if get_script_run_ctx(suppress_warning=True) is not None:
        st.session_state.get("turn")


TURNS = Turns()
"""Of this process, which serves one workspace."""
