"""Computations take turns, and a reader who waits is told what comes first."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest

from app.panels import progress
from app.turns import Turns

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
