"""Who does the jobs: this process, processes beside it, or the machines of a Ray cluster.

All give the same results to the last bit, in any order.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from itertools import cycle, islice
from multiprocessing import get_context, parent_process
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from analysis.precompute.plan import CPU, Job, Setting
from analysis.precompute.work import Done, Worker

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

# Jobs that are handed out before somebody is free: a worker never waits, and however many
# patients there are, no more than these are held.
AHEAD = 2
_worker: Worker | None = None


class PoolError(ValueError):
    """Workers ended or cannot be had; the message says what, where and the remedy."""


class Pool(Protocol):
    """Does jobs. A context manager: what it started ends with it."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def do(self, jobs: Iterable[Job]) -> Iterator[Done]:
        """What became of each job, as they are done; `jobs` is read no faster than that."""
        ...


class Serial:
    """Does all jobs here, one after the other."""

    def __init__(self, setting: Setting) -> None:
        self._worker = Worker(setting, device=setting.devices[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def do(self, jobs: Iterable[Job]) -> Iterator[Done]:
        """In order."""
        return map(self._worker.do, jobs)


class Processes:
    """Does jobs in `n` processes, which share nothing but the workspace.

    They take the setting's devices in turn, and store what they make themselves. They end with
    this process, however it ends.
    """

    def __init__(self, setting: Setting, n: int) -> None:
        self._n = n
        context = get_context("spawn")
        devices = context.SimpleQueue()
        for _, device in zip(range(n), cycle(setting.devices), strict=False):
            devices.put(device)
        self._pool = ProcessPoolExecutor(
            n, mp_context=context, initializer=_begin, initargs=(setting, devices)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            # Stopped: what is half done is not waited for; it is done again next time.
            for process in list((getattr(self._pool, "_processes", None) or {}).values()):
                process.kill()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def do(self, jobs: Iterable[Job]) -> Iterator[Done]:
        """As they are done."""
        waiting = iter(jobs)
        running: set[Future[Done]] = set()
        try:
            while True:
                for job in islice(waiting, AHEAD * self._n - len(running)):
                    running.add(self._pool.submit(_do, job))
                if not running:
                    return
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
        except BrokenProcessPool as error:
            raise PoolError(
                "a worker process was ended from outside, most likely for want of memory; give "
                "the command again with fewer --jobs, it goes on from here."
            ) from error


def _begin(setting: Setting, devices: SimpleQueue[str]) -> None:
    """In a new process: opens the cohort, and sees to it that it does not outlive its parent."""
    global _worker
    # Ctrl+C reaches every process of the terminal; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    prepare(setting)
    _worker = Worker(setting, device=devices.get())


def prepare(setting: Setting) -> None:
    """Process-wide settings of a worker, and the networks of the operator's own."""
    import torch

    from models.importing.adapter import load_adapter
    from models.runtime import keep_large_blocks, quiet_transformers

    torch.set_num_threads(1)
    keep_large_blocks()
    quiet_transformers()
    for name in setting.adapters:
        load_adapter(name)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(job: Job) -> Done:
    assert _worker is not None
    return _worker.do(job)


class RayCluster:
    """Does jobs on a Ray cluster, one worker a CPU (or `n`), and gets their results sent.

    Where the setting's device is no CPU, every worker gets a GPU of the cluster for itself. The
    workspace must be readable under the same path from every machine (for cohorts, runs and
    encoders); results need no shared folder, they are stored here. address: as `ray.init` takes
    it; 'local' starts a cluster on this machine. Raises PoolError without the extra `ray` and
    where the cluster does not answer.
    """

    def __init__(self, setting: Setting, address: str, n: int | None = None) -> None:
        try:
            ray: Any = import_module("ray")
        except ImportError as error:
            raise PoolError(
                "computing on a Ray cluster needs the extra 'ray'; install it with "
                "pip install 'fusionlens[ray]'."
            ) from error
        self._ray = ray
        options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
        if address == "local":
            options |= {"num_cpus": n, "include_dashboard": False}
        try:
            ray.init(address=address, **options)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            raise PoolError(
                f"no Ray cluster at '{address}' ({' '.join(str(error).split())[:200]}); start one "
                "with 'ray start --head' or name another address."
            ) from error
        on_gpu = setting.devices[0] != CPU
        there = int(ray.cluster_resources().get("GPU" if on_gpu else "CPU", 0))
        if on_gpu and not there:
            ray.shutdown()
            raise PoolError(
                f"the Ray cluster at '{address}' has no GPU; leave --devices out, and it computes "
                "on its CPUs."
            )
        remote = ray.remote(num_cpus=1, num_gpus=int(on_gpu))(_RayWorker)
        self._workers: list[Any] = [
            remote.remote(setting) for _ in range(max(min(n or there, there), 1))
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()

    def do(self, jobs: Iterable[Job]) -> Iterator[Done]:
        """As they are done."""
        waiting = iter(jobs)
        running: dict[Any, Any] = {}
        idle = [worker for worker in self._workers for _ in range(AHEAD)]
        try:
            while True:
                while idle and (job := next(waiting, None)) is not None:
                    worker = idle.pop()
                    running[worker.do.remote(job)] = worker
                if not running:
                    return
                finished, _ = self._ray.wait(list(running), num_returns=1)
                for reference in finished:
                    idle.append(running.pop(reference))
                    yield self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            raise PoolError(
                f"a worker of the Ray cluster ended ({' '.join(str(error).split())[:300]}); give "
                "the command again, it goes on from here."
            ) from error


class _RayWorker:
    """A worker on some machine of the cluster; it sends what it makes."""

    def __init__(self, setting: Setting) -> None:
        prepare(setting)
        # Ray shows a worker its own GPU only, so that it is the first one.
        self._worker = Worker(setting, device=setting.devices[0], ship=True)

    def do(self, job: Job) -> Done:
        return self._worker.do(job)
