"""A process that looks into what was brought: `python -m app.bring.worker`.

It lives apart from the app, so that pages stay responsive, so that it can be stopped, and so that
no file, whatever it holds, can take more memory than is set here. Each line of standard input is a
request as JSON, {"id", "do", ...}; each line of standard output says how it goes:
{"id", "what", "done", "total"}, then {"id", "finished": answer} or {"id", "error": sentence}.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TextIO

Asked = Mapping[str, Any]
Say = Callable[[str, int, int], None]
_SHARE_OF_MEMORY = 0.5


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer requests until there are no more."""
    for line in requests:
        asked = json.loads(line)
        say = partial(_tell, answers, asked["id"])
        try:
            found = DO[asked["do"]](asked, lambda w, d, t, s=say: s(what=w, done=d, total=t))
            say(finished=found)
        except (ValueError, KeyError, OSError) as error:
            whole = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
            say(error=" ".join(whole.split()) or type(error).__name__)
        except MemoryError:
            say(error="It needs more memory than is allowed here; use the command.")
        except Exception:
            traceback.print_exc()
            say(error="This failed because of an error in the program; the terminal says more.")


def _look(asked: Asked, say: Say) -> dict[str, Any]:
    """What lies in a checkpoint."""
    from analysis.importing.summary import contents
    from models.importing.layouts import looks_like
    from models.importing.source import open_checkpoint

    checkpoint = open_checkpoint(asked["source"], asked["within"])
    public = looks_like(checkpoint.entries)
    return contents(checkpoint, f"{public.title}; {public.advice}" if public else "")


def _compare(asked: Asked, say: Say) -> dict[str, Any]:
    """What `fusionlens import checkpoint --dry-run --json` says."""
    from analysis.importing.checkpoint import examine_checkpoint
    from analysis.importing.summary import summary

    say("comparing every tensor with the model", 0, 1)
    return summary(examine_checkpoint(asked["source"], asked["config"], _places(asked)))


def _import(asked: Asked, say: Say) -> dict[str, Any]:
    """The run that was written."""
    from analysis.importing.checkpoint import examine_checkpoint, import_checkpoint

    places = _places(asked)
    say("comparing every tensor with the model", 0, 1)
    examined = examine_checkpoint(asked["source"], asked["config"], places)
    say("writing the run", 0, 1)
    run = import_checkpoint(
        examined,
        asked["out"],
        allow_missing=asked["allow_missing"],
        encoder_places=places,
        command=f"imported on the page from {asked['name']}",
        source=asked["name"],
        progress=partial(say, "predicting the cohort's patients"),
    )
    imported = run.config.imported
    return {
        "run": run.config.name,
        "title": run.config.title,
        "fitted": list(imported.fitted) if imported else [],
        "fresh": len(imported.fresh) if imported else 0,
        "tuning_score": run.config.training.tuning_score,
    }


def _check(asked: Asked, say: Say) -> dict[str, Any]:
    """What `fusionlens check --json` says."""
    from analysis.cohort.check import check_cohort

    say("reading the cohort", 0, 1)
    problems = check_cohort(Path(asked["cohort"]), deep=asked["deep"])
    return {
        "ok": not any(p.severity == "error" for p in problems),
        "problems": [asdict(p) for p in problems],
    }


DO: Mapping[str, Callable[[Asked, Say], dict[str, Any]]] = {
    "look": _look,
    "compare": _compare,
    "import": _import,
    "check": _check,
}


def _places(asked: Asked) -> list[Path]:
    """The encoders of the workspace, and those that ship."""
    from sample_data.workspace import ENCODERS

    return [Path(asked["encoders"]), ENCODERS]


def _tell(answers: TextIO, name: str, **words: Any) -> None:
    try:
        answers.write(json.dumps({"id": name, **words}) + "\n")
        answers.flush()
    except OSError:
        # Whoever asked has gone.
        return


def limit_memory() -> None:
    """Let this process have most of the machine's memory and no more, where that can be said."""
    try:
        import resource

        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        most = int(_SHARE_OF_MEMORY * there)
        # Memory of one's own only: a mapped checkpoint may be larger.
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    except (ImportError, ValueError, OSError):
        return


def main() -> None:
    """Get ready, then serve standard input."""
    # What libraries print must not come between the answers.
    out, sys.stdout = sys.stdout, sys.stderr
    limit_memory()

    # What every request needs sooner or later; whoever comes first should not wait for it.
    import analysis.importing.checkpoint  # noqa: F401
    from app.adapters import use_given_adapters
    from app.commands.base import start_engine

    start_engine()
    use_given_adapters()
    serve(sys.stdin, out)


if __name__ == "__main__":
    main()
