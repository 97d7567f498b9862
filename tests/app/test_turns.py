"""Computations take turns, and a reader who waits is told what comes first."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from analysis.store import ResultStore
from app.panels import progress
from app.turns import SWITCH_SECONDS, Turns, share_the_interpreter

PATIENCE = 10  # seconds


def test_others_are_counted_and_oneself_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns()
    inside, leave = threading.Event(), threading.Event()

    def compute() -> None:
        with turns, turns:  # a result that is made of another one
            inside.set()
            assert leave.wait(PATIENCE)

    first = threading.Thread(target=compute)
    assert turns.others == 0
    first.start()
    assert inside.wait(PATIENCE)
    assert turns.others == 1
    second = threading.Thread(target=compute)
    second.start()
    while turns.others < 2:
        pass
    said: list[str] = []

    @contextmanager
    def spinner(words: str, **_: object):
        said.append(words)
        yield

    monkeypatch.setattr(progress, "TURNS", turns)
    monkeypatch.setattr(progress.st, "spinner", spinner)
    with progress.spinner("Explaining"):
        pass
    assert said == ["Explaining; first 2 computations that others asked for"]
    leave.set()
    first.join(PATIENCE)
    second.join(PATIENCE)
    assert turns.others == 0
    with turns:
        assert turns.others == 0
    with progress.spinner("Explaining"):
        pass
    assert said[1] == "Explaining"


def test_a_failed_computation_gives_its_turn_back() -> None:
    turns = Turns()
    with pytest.raises(ValueError), turns:
        raise ValueError
    seen: list[int] = []
    other = threading.Thread(target=lambda: (turns.__enter__(), seen.append(turns.others)))
    other.start()
    other.join(PATIENCE)
    assert seen == [0]


def test_turns_come_in_the_order_of_asking_and_a_reader_who_left_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone: set[int] = set()

    def leave() -> None:
        if threading.get_ident() in gone:
            raise KeyboardInterrupt  # as Streamlit's own: no Exception

    monkeypatch.setattr("app.turns._leave_if_asked", leave)
    monkeypatch.setattr("app.turns.POLL_SECONDS", 0.02)
    turns, made, left = Turns(), [], []

    def compute(number: int) -> None:
        try:
            with turns:
                made.append(number)
        except KeyboardInterrupt:
            left.append(number)

    threads = []
    with turns:
        for number in range(5):
            thread = threading.Thread(target=compute, args=(number,))
            thread.start()
            threads.append(thread)
            while turns.others <= number:
                pass
        assert threads[2].ident is not None
        gone.add(threads[2].ident)
        threads[2].join(PATIENCE)
        assert left == [2]
        assert turns.others == 4
    for thread in threads:
        thread.join(PATIENCE)
    assert made == [0, 1, 3, 4]
    assert turns.others == 0


def _ask(
    store: ResultStore, name: str, steps: int, turns: Turns, made: list[str]
) -> threading.Thread:
    """A reader who asks for a result that takes so many steps, each with its number in `made`."""

    def make() -> tuple[dict[str, str], dict]:
        for step in range(steps):
            made.append(f"{name}{step}")
            turns.give_way()
        return {"name": name}, {}

    thread = threading.Thread(target=lambda: store.compute({"method": name}, make))
    thread.start()
    return thread


def _wait_for(turns: Turns, others: int) -> None:
    while turns.others < others:
        pass


def test_a_long_computation_lets_those_who_wait_go_first_and_ends_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.turns.SLICE_SECONDS", -1.0)
    turns, made = Turns(), []
    store = ResultStore(tmp_path, turns)
    readers = []
    with turns:
        # Two ask for the long one, which is made once, in the company of two short ones.
        for n, (name, steps) in enumerate([("long", 3), ("long", 3), ("short", 1), ("brief", 1)]):
            readers.append(_ask(store, name, steps, turns, made))
            _wait_for(turns, n + 1)
    for reader in readers:
        reader.join(PATIENCE)
        assert not reader.is_alive()
    assert [m for m in made if m.startswith("long")] == ["long0", "long1", "long2"]
    assert made[0] == "long0"
    assert max(made.index("short0"), made.index("brief0")) < made.index("long2")
    assert turns.others == 0
    assert len(store.keys()) == 3


def test_many_small_results_are_not_behind_every_long_one_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.turns.SLICE_SECONDS", -1.0)
    turns, steps, ready = Turns(), [], threading.Event()
    store = ResultStore(tmp_path, turns)

    def long(n: int) -> tuple[dict[str, int], dict]:
        while not ready.is_set():
            time.sleep(0.01)
            steps.append(n)
            turns.give_way()
        return {"n": n}, {}

    def small() -> None:
        for n in range(8):
            store.compute({"method": f"small {n}"}, lambda: ({"n": 0}, {}))

    readers = []
    with turns:
        for n in range(4):
            parameters, make = {"method": f"long {n}"}, partial(long, n)
            readers.append(threading.Thread(target=store.compute, args=(parameters, make)))
            readers[-1].start()
            _wait_for(turns, n + 1)
    while len(steps) < 8:
        pass
    before = len(steps)
    small()
    between = len(steps) - before
    ready.set()
    for reader in readers:
        reader.join(PATIENCE)
        assert not reader.is_alive()
    assert between <= 16, "two steps of one of the four before each of the eight"
    assert set(steps) == {0, 1, 2, 3}, "the four take turns"


def test_without_others_or_before_its_time_nobody_gives_way(tmp_path: Path) -> None:
    turns, made = Turns(), []
    turns.pass_on()  # without a turn
    with turns:
        turns.pass_on()  # nobody waits
        assert turns.others == 0
    store = ResultStore(tmp_path, turns)
    with turns:
        readers = [_ask(store, "first", 2, turns, made)]
        _wait_for(turns, 1)
        readers.append(_ask(store, "second", 1, turns, made))
        _wait_for(turns, 2)
    for reader in readers:
        reader.join(PATIENCE)
    assert made == ["first0", "first1", "second0"]


@pytest.mark.parametrize("when", ["before others are let through", "meanwhile"])
def test_a_reader_who_leaves_in_the_midst_takes_nothing_along(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waited for the same result makes it; the turn is free afterwards."""
    monkeypatch.setattr("app.turns.SLICE_SECONDS", -1.0)
    monkeypatch.setattr("app.turns.POLL_SECONDS", 0.02)
    gone: set[int] = set()

    def leave() -> None:
        if threading.get_ident() in gone:
            raise SystemExit  # ends a thread without a word, as Streamlit's own

    monkeypatch.setattr("app.turns._leave_if_asked", leave)
    turns, made = Turns(), []
    store = ResultStore(tmp_path, turns)
    first = threading.Event(), threading.Event()
    between = threading.Event(), threading.Event()

    def stop(here: threading.Event, go_on: threading.Event) -> None:
        here.set()
        assert go_on.wait(PATIENCE)

    def make(name: str) -> tuple[dict[str, str], dict]:
        with turns:  # a result that is made of another one
            made.append(f"{name} begins")
            if name == "first":
                stop(*first)
            if name == "between":
                stop(*between)
            turns.give_way()
        made.append(f"{name} ends")
        return {"by": name}, {}

    def ask(name: str, method: str) -> threading.Thread:
        told = threading.Thread(
            target=lambda: store.compute({"method": method}, lambda: make(name))
        )
        told.start()
        return told

    readers = [ask("first", "x")]
    assert first[0].wait(PATIENCE)
    assert readers[0].ident is not None
    readers.append(ask("between", "y"))
    _wait_for(turns, 2)
    readers.append(ask("second", "x"))
    _wait_for(turns, 3)
    if when != "meanwhile":
        gone.add(readers[0].ident)
    first[1].set()
    assert between[0].wait(PATIENCE)
    gone.add(readers[0].ident)
    readers[0].join(PATIENCE)
    between[1].set()
    for reader in readers:
        reader.join(PATIENCE)
        assert not reader.is_alive()
    assert "first ends" not in made
    assert [m for m in made if "second" in m] == ["second begins", "second ends"]
    found = store.get({"method": "x"})
    assert found is not None
    assert found.content == {"by": "second"}
    assert turns.others == 0
    with turns:
        pass


def test_the_interpreter_changes_hands_sooner() -> None:
    before = sys.getswitchinterval()
    try:
        share_the_interpreter()
        assert sys.getswitchinterval() == pytest.approx(SWITCH_SECONDS)
    finally:
        sys.setswitchinterval(before)
