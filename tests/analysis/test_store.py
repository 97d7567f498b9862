"""A store that several threads share: one result is made at a time, and reading waits for none."""

from __future__ import annotations

import threading
from pathlib import Path

from analysis.store import ResultStore

PATIENCE = 10  # seconds


def shared(folder: Path) -> ResultStore:
    return ResultStore(folder, turn=threading.RLock())


def test_what_is_stored_is_read_while_something_is_made(tmp_path: Path) -> None:
    store = shared(tmp_path)
    store.put({"method": "quick"}, {"n": 1})
    begun, go_on = threading.Event(), threading.Event()

    def slow():
        begun.set()
        assert go_on.wait(PATIENCE)
        return {"n": 2}, {}

    maker = threading.Thread(target=store.compute, args=({"method": "slow"}, slow))
    maker.start()
    assert begun.wait(PATIENCE)
    found: list[object] = []

    def read() -> None:
        found.append(store.compute({"method": "quick"}, lambda: ({"n": -1}, {})).content["n"])

    reader = threading.Thread(target=read)
    reader.start()
    reader.join(PATIENCE)
    assert found == [1]
    assert maker.is_alive()
    go_on.set()
    maker.join(PATIENCE)
    assert store.get({"method": "slow"}) is not None


def test_one_after_the_other_and_the_same_only_once(tmp_path: Path) -> None:
    store = shared(tmp_path)
    made: list[int] = []
    at_once: list[int] = []
    together = threading.Barrier(8)

    def make(number: int):
        at_once.append(1)
        assert sum(at_once) == 1
        # A result that is made of another one asks for it in its own turn.
        part = store.compute({"method": "part"}, lambda: ({"n": len(made)}, {}))
        made.append(number)
        at_once.append(-1)
        return {"n": number, "part": part.content["n"]}, {}

    def ask(number: int) -> None:
        together.wait(PATIENCE)
        store.compute({"method": "whole", "n": number}, lambda: make(number))

    threads = [threading.Thread(target=ask, args=(i % 2,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(made) == [0, 1]
    assert len(store.keys()) == 3


def test_a_result_that_does_not_fit_is_made_again(tmp_path: Path) -> None:
    store = shared(tmp_path)
    store.put({"method": "m"}, {"n": 1})
    found = store.compute({"method": "m"}, lambda: ({"n": 2}, {}), lambda r: r.content["n"] == 2)
    assert found.content["n"] == 2
    stored = store.get({"method": "m"})
    assert stored is not None
    assert stored.content["n"] == 2
