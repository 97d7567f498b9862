"""Asks processes of their own to look into what was brought, with progress a page can ask for."""

from __future__ import annotations

import json
import logging
import queue
import subprocess
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.workers import start_worker

IDLE_SECONDS = 600.0
LONGEST_SECONDS = 600.0
STOPPED = "It was stopped."
_LANES = {"look": "short", "compare": "short", "check": "check", "import": "import"}
_MOST_KEPT = 200
log = logging.getLogger(__name__)
Ended = Callable[[], None]


@dataclass(frozen=True)
class Job:
    """How far a request is. share: in [0, 1]; words: what is being done.

    answer: what came of it; error: why nothing did, in a sentence.
    """

    share: float = 0.0
    words: str = "waiting for another one to be finished"
    answer: Mapping[str, Any] | None = None
    error: str | None = None

    @property
    def over(self) -> bool:
        """Whether there is an answer or an error."""
        return self.answer is not None or self.error is not None


@dataclass(frozen=True)
class _Request:
    name: str
    content: Mapping[str, Any]
    ended: Ended | None


class Importer:
    """Has requests answered one at a time in a lane; safe to share between sessions.

    Looking and comparing take seconds, an import may take many minutes of predictions: each has a
    lane, so that nobody who only looks waits for it. A lane's process starts with its first request
    and ends after ten idle minutes.
    """

    def __init__(self, idle_seconds: float = IDLE_SECONDS) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._lock = threading.Lock()
        self._lanes = {
            name: _Lane(name, self._tell, self._is_over, idle_seconds)
            for name in set(_LANES.values())
        }

    def ask(self, do: str, ended: Ended | None = None, **content: Any) -> str:
        """Have something done, without waiting; the name under which `job` tells how far it is.

        do: what the worker knows (look, compare, import, check). ended: called when it is over.
        """
        name = uuid.uuid4().hex
        self._tell(name, Job())
        self._lanes[_LANES[do]].put(_Request(name, {"id": name, "do": do, **content}, ended))
        return name

    def get_ready(self, do: str) -> None:
        """Start the process that will do this, so that the request finds it there."""
        self._lanes[_LANES[do]].put(None)

    def job(self, name: str) -> Job | None:
        """How far a request is; None for one that is not known any more."""
        with self._lock:
            return self._jobs.get(name)

    def forget(self, name: str) -> None:
        """Nobody waits for a request any more: it is left out if it has not begun."""
        self._tell(name, Job(error=STOPPED))

    def stop(self, name: str) -> None:
        """End a request; its process goes with it when it is the one being answered."""
        self.forget(name)
        for lane in self._lanes.values():
            lane.kill(name)

    def _tell(self, name: str, job: Job) -> None:
        with self._lock:
            before = self._jobs.get(name)
            if before is not None and before.over:
                return
            self._jobs[name] = job
            while len(self._jobs) > _MOST_KEPT:
                self._jobs.popitem(last=False)

    def _is_over(self, name: str) -> bool:
        job = self.job(name)
        return job is None or job.over


class _Lane:
    """A queue, the thread that serves it, and its process."""

    def __init__(
        self,
        name: str,
        tell: Callable[[str, Job], None],
        is_over: Callable[[str], bool],
        idle_seconds: float,
    ) -> None:
        self._name, self._tell, self._is_over, self._idle = name, tell, is_over, idle_seconds
        self._waiting: queue.Queue[_Request | None] = queue.Queue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[str] | None = None
        self._serving = ""

    def put(self, request: _Request | None) -> None:
        """Serve a request after those that wait; None only starts the process."""
        with self._lock:
            if request is None and self._thread is not None:
                return
            self._waiting.put(request)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()

    def kill(self, name: str) -> None:
        """End the process if it is busy with that request."""
        with self._lock:
            if self._serving == name and self._process is not None:
                self._process.kill()

    def _work(self) -> None:
        while True:
            try:
                request = self._waiting.get(timeout=self._idle)
            except queue.Empty:
                with self._lock:
                    if self._waiting.empty():
                        self._end_process()
                        self._thread = None
                        return
                continue
            try:
                if request is None or not self._is_over(request.name):
                    self._serve(request)
            finally:
                if request is not None and request.ended is not None:
                    request.ended()

    def _serve(self, request: _Request | None) -> None:
        name = request.name if request is not None else ""
        try:
            with self._lock:
                if self._process is None or self._process.poll() is not None:
                    self._end_process()
                    self._process = start_worker("app.bring.worker")
                process, self._serving = self._process, name
            if request is not None:
                self._tell(name, Job(words="starting"))
                self._exchange(process, request)
        except OSError as error:
            self._tell(name, Job(error=f"The process that reads checkpoints failed: {error}."))
        finally:
            with self._lock:
                self._serving = ""
                if request is not None and request.content["do"] == "import":
                    # It keeps the memory of the network it has run.
                    self._end_process()

    def _exchange(self, process: subprocess.Popen[str], request: _Request) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Timer(LONGEST_SECONDS, self._too_long, [request.name, process])
        late.daemon = True
        if request.content["do"] != "import":
            late.start()
        try:
            process.stdin.write(json.dumps(request.content) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                told = json.loads(line)
                if "finished" in told:
                    self._tell(request.name, Job(1.0, "finished", answer=told["finished"]))
                    return
                if "error" in told:
                    self._tell(request.name, Job(error=told["error"]))
                    return
                self._tell(request.name, Job(told["done"] / max(told["total"], 1), told["what"]))
            self._tell(
                request.name, Job(error="The process that reads checkpoints ended; try again.")
            )
        finally:
            late.cancel()

    def _too_long(self, name: str, process: subprocess.Popen[str]) -> None:
        words = "It took longer than ten minutes and was stopped; use the command."
        self._tell(name, Job(error=words))
        process.kill()

    def _end_process(self) -> None:
        """Let the process go; called with the lock."""
        process, self._process = self._process, None
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    log.debug("the process of lane %s was gone", self._name)
