"""Pictures of embeddings made in a process of their own, with progress that a page can ask for."""

from __future__ import annotations

import json
import logging
import queue
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from analysis.representation.projection import Method
from analysis.store import ResultStore, result_key
from app.workers import start_worker

IDLE_SECONDS = 600.0
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """How far a picture is. share: in [0, 1]; words: what is being done; error: why it failed."""

    share: float = 0.0
    words: str = "waiting for another picture to be finished"
    error: str | None = None


class Projector:
    """Asks one background process for pictures, one at a time; safe to share between sessions.

    The process starts with the first picture and ends after ten idle minutes. Finished pictures
    are in the store; what is asked for twice is made once.
    """

    def __init__(self, store: ResultStore, idle_seconds: float = IDLE_SECONDS) -> None:
        self._store = store
        self._idle = idle_seconds
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._waiting: queue.Queue[tuple[str, dict[str, Any], dict[str, Any]]] = queue.Queue()
        self._thread: threading.Thread | None = None

    def ask(
        self,
        parameters: Mapping[str, Any],
        stages: Mapping[str, npt.NDArray[np.float64]],
        method: Method,
        seed: int,
    ) -> None:
        """Have the picture of `parameters` made of {stage: points}; at once, without waiting.

        A picture that failed is tried again.
        """
        key = result_key(parameters)
        request = {
            "id": key,
            "store": str(self._store.folder.absolute()),
            "parameters": dict(parameters),
            "method": str(method),
            "seed": seed,
        }
        points = {f"{i} {n}": np.ascontiguousarray(p) for i, (n, p) in enumerate(stages.items())}
        with self._lock:
            job = self._jobs.get(key)
            if job is not None and job.error is None:
                return
            self._jobs[key] = Job()
            self._waiting.put((key, request, points))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="projector", daemon=True)
                self._thread.start()

    def job(self, parameters: Mapping[str, Any]) -> Job | None:
        """How far a picture is; None when it is finished or was never asked for."""
        with self._lock:
            return self._jobs.get(result_key(parameters))

    def _work(self) -> None:
        """Serve what waits; the thread and its process end together when nothing does."""
        process: subprocess.Popen[str] | None = None
        try:
            while True:
                try:
                    key, request, points = self._waiting.get(timeout=self._idle)
                except queue.Empty:
                    with self._lock:
                        if self._waiting.empty():
                            self._thread = None
                            return
                    continue
                if process is None or process.poll() is not None:
                    process = start_worker("analysis.representation.worker")
                self._serve(process, key, request, points)
        finally:
            if process is not None and process.stdin is not None:
                process.stdin.close()

    def _serve(
        self,
        process: subprocess.Popen[str],
        key: str,
        request: dict[str, Any],
        points: dict[str, Any],
    ) -> None:
        with tempfile.TemporaryDirectory(prefix="fusionlens-") as folder:
            path = Path(folder) / "points.safetensors"
            try:
                save_file(points, path)
                self._exchange(process, key, {**request, "points": str(path)})
            except OSError as error:
                self._set(key, Job(error=str(error)))

    def _exchange(
        self, process: subprocess.Popen[str], key: str, request: Mapping[str, Any]
    ) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._set(key, Job(words="starting"))
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            told = json.loads(line)
            if told.get("finished"):
                self._set(key, None)
                return
            if "error" in told:
                log.error("a picture failed: %s", told["error"])
                self._set(key, Job(error=told["error"]))
                return
            self._set(key, Job(told["done"] / told["total"], told["what"]))
        self._set(key, Job(error="the process that makes pictures ended; ask for it again."))

    def _set(self, key: str, job: Job | None) -> None:
        with self._lock:
            if job is None:
                self._jobs.pop(key, None)
            else:
                self._jobs[key] = job
