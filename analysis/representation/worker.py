"""A process that makes pictures one after the other: `python -m analysis.representation.worker`.

It lives apart from the app, so that pages stay responsive, and on, so that UMAP is compiled once.
Each line of standard input is a request as JSON:
    {"id", "store": folder, "parameters": key of the result, "method", "seed", "points": a
     safetensors file with one array a stage, earliest first by name "0 before", "1 after"}
and each line of standard output says how it goes: {"id", "what", "done", "total"}, then
{"id", "finished": true} or {"id", "error": sentence}. It ends with its standard input. A picture
that was begun is finished and stored, also when nobody listens any more.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from safetensors.numpy import load_file

from analysis.representation.projection import Method, find_projection, make_projection
from analysis.store import ResultStore


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer requests until there are no more."""
    for line in requests:
        asked = json.loads(line)
        try:
            _answer(asked, answers)
        except Exception as error:  # the page says it; the next request is another picture
            _tell(answers, id=asked["id"], error=str(error) or type(error).__name__)


def _answer(asked: Mapping[str, Any], answers: TextIO) -> None:
    def say(what: str, done: int, total: int) -> None:
        _tell(answers, id=asked["id"], what=what, done=done, total=total)

    store, parameters = ResultStore(Path(asked["store"])), asked["parameters"]
    if find_projection(store, parameters) is None:
        arrays = load_file(asked["points"])
        stages = {name.split(" ", 1)[1]: arrays[name] for name in sorted(arrays)}
        make_projection(store, parameters, stages, Method(asked["method"]), asked["seed"], say)
    _tell(answers, id=asked["id"], finished=True)


def _tell(answers: TextIO, **words: Any) -> None:
    try:
        answers.write(json.dumps(words) + "\n")
        answers.flush()
    except OSError:
        # Whoever asked has gone; the picture is stored for the next one.
        return


if __name__ == "__main__":
    # What libraries print must not come between the answers.
    out, sys.stdout = sys.stdout, sys.stderr
    serve(sys.stdin, out)
