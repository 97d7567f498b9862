"""Patients simulated in fixed chunks, by as many processes as one likes, in one order."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from typing import TypeVar

J, S, C = TypeVar("J"), TypeVar("S"), TypeVar("C")


def in_chunks(
    simulate: Callable[[J, range], C],
    job: J,
    total: int,
    size: int,
    start_worker: Callable[[S], None],
    sink: S,
    processes: int,
) -> Iterator[C]:
    """simulate(job, numbers) for patients 0 to total, `size` at a time, in order.

    From worker processes, each begun with start_worker(sink), or for one process from this one.
    """
    numbers = [range(first, min(first + size, total)) for first in range(0, total, size)]
    if processes <= 1:
        start_worker(sink)
        yield from map(simulate, repeat(job), numbers)
        return
    # spawn: a forked child would inherit locks of torch's and numba's thread pools
    with ProcessPoolExecutor(
        max_workers=min(processes, len(numbers)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=start_worker,
        initargs=(sink,),
    ) as pool:
        yield from pool.map(simulate, repeat(job), numbers)
