"""Whose turn it is to compute: one computation at a time for all readers of the app."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

POLL_SECONDS = 0.5
SLICE_SECONDS = 1.0
"""A computation that has lasted so long gives way to those who wait, where it can be left."""
MEMORY_SECONDS = 30.0
"""After so long, what a reader has computed counts half."""
SWITCH_SECONDS = 0.0005


def share_the_interpreter() -> None:
    """Let whoever computes have the interpreter back sooner; for the process of the app.

    A network leaves it at every operation and then waits until a script that draws a page gives it
    up: 5 ms by Python's default, for an operation that takes a tenth of that.
    """
    sys.setswitchinterval(SWITCH_SECONDS)


def _at_once() -> bool:
    return True


@dataclass(frozen=True)
class _Asked:
    """Who waits in a thread: a reader's session, or a thread of none; ready: not before this."""

    thread: int
    reader: str
    ready: Callable[[], bool] = _at_once


class Turns:
    """A lock for computations: who has computed least of late goes first, then who asked first.

    Two that compute at once only delay each other. Re-entrant: a result may be made of others. A
    reader who has gone on to something else while waiting leaves the queue. A long computation
    gives way between two of its steps, and one of many small results does between any two, so
    that nobody waits for the end of either.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[_Asked] = []
        self._owner: _Asked | None = None
        self._depth = 0
        self._since = 0.0
        # {reader: seconds computed}, the less the longer ago, as they counted at the last release.
        self._used: dict[str, float] = {}
        self._released = 0.0

    def __enter__(self) -> None:
        me = _me()
        with self._changed:
            if self._is_mine():
                self._depth += 1
                return
            self._waiting.append(me)
        self._wait(me)

    def _wait(self, me: _Asked) -> None:
        """Until the turn comes of one who is in the queue."""
        try:
            while not self._taken(me):
                _leave_if_asked()
        except BaseException:
            with self._changed:
                self._waiting.remove(me)
                self._changed.notify_all()
            raise

    def _taken(self, me: _Asked) -> bool:
        """Whether this one's turn came within a moment."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._may_begin(me), POLL_SECONDS):
                return False
            self._waiting.remove(me)
            self._owner, self._depth, self._since = me, 1, time.monotonic()
            return True

    def _may_begin(self, me: _Asked) -> bool:
        if self._owner is not None:
            return False
        # Everybody's seconds fade alike, so their order holds from one release to the next.
        ready = [one for one in self._waiting if one.ready()]
        return bool(ready) and min(ready, key=lambda one: self._used.get(one.reader, 0.0)) is me

    def give_way(self) -> None:
        """Pass the turn on if it has lasted long; for the steps of a computation, which call it
        where nothing is half done.
        """
        if self._is_mine() and time.monotonic() - self._since > SLICE_SECONDS:
            self.pass_on()

    def pass_on(self, ready: Callable[[], bool] = _at_once) -> None:
        """Let those go first who wait, and come back when the turn does, not before `ready`.

        Nothing happens without a turn. Raises what Streamlit raises where the reader has clicked
        on meanwhile.
        """
        if not self._is_mine():
            return
        _leave_if_asked()
        me = _me(ready)
        with self._changed:
            depth = self._depth
            self._waiting.append(me)
            self._release()
        self._wait(me)
        self._depth = depth

    def __exit__(self, *_: object) -> None:
        with self._changed:
            if not self._is_mine():
                return  # left while others had been let through
            self._depth -= 1
            if not self._depth:
                self._release()

    def _release(self) -> None:
        assert self._owner is not None
        now, reader = time.monotonic(), self._owner.reader
        faded = 2.0 ** ((self._released - now) / MEMORY_SECONDS)
        self._used = {r: s * faded for r, s in self._used.items() if s * faded > 1e-3}
        self._used[reader] = self._used.get(reader, 0.0) + now - self._since
        self._released, self._owner = now, None
        self._changed.notify_all()

    def _is_mine(self) -> bool:
        owner = self._owner  # read once: another thread may release it meanwhile
        return owner is not None and owner.thread == threading.get_ident()

    @property
    def others(self) -> int:
        """Threads other than this one that compute or wait."""
        with self._changed:
            busy = {one.thread for one in [*self._waiting, self._owner] if one is not None}
            return len(busy - {threading.get_ident()})


def _me(ready: Callable[[], bool] = _at_once) -> _Asked:
    context = get_script_run_ctx(suppress_warning=True)
    thread = threading.get_ident()
    return _Asked(thread, f"thread {thread}" if context is None else context.session_id, ready)


def _leave_if_asked() -> None:
    """Raise what Streamlit raises where the reader has clicked on: asking for the state does."""
    if get_script_run_ctx(suppress_warning=True) is not None:
        st.session_state.get("turn")


TURNS = Turns()
"""Of this process, which serves one workspace."""
