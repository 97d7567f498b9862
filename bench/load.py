"""Many people in the app at once: errors, copies of models, and memory by clicks.

    python bench/load.py WORKSPACE [--sessions 20] [--clicks 60] [--minutes 15]

Every session is a browser context of its own in one Chromium. Each walks at random (seeds are
fixed) over pages, tasks, strategies, patients and sections, and waits until the page rests before
it clicks again. A click that ends in an error on the page, and every line of the server's log that
tells of one, is counted and printed. The server is the real app; it runs under this script only to
be asked how many models are alive and how much memory it holds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scipy.stats import linregress
from scipy.stats import t as student

MAIN = Path(__file__).resolve().parents[1] / "app" / "main.py"
CHROMIUM = "/usr/bin/chromium"
IDLE = """() => {
  const app = document.querySelector('[data-testid=stApp]');
  return app && app.dataset.testScriptState === 'notRunning'
    && !document.querySelector('[data-stale=true]');
}"""
BEGUN = """() =>
  document.querySelector('[data-testid=stApp]')?.dataset.testScriptState !== 'notRunning'"""
STATE = """() => {
  const stale = [...document.querySelectorAll('[data-stale=true]')];
  const words = stale.slice(0, 2).map((e) => e.innerText.slice(0, 40).replaceAll('\\n', ' '));
  const spins = [...document.querySelectorAll('[data-testid=stSpinner]')].map((e) => e.innerText);
  const script = document.querySelector('[data-testid=stApp]')?.dataset.testScriptState;
  return `${script}; ${stale.length} stale ${words}; ${spins}; ${location.search}`;
}"""
ERRORS = "[data-testid=stException], [data-testid=stAlertContentError]"
BUTTONS = "[data-testid=stButtonGroup] button:visible"
BOXES = "[data-testid=stSelectbox]:visible input"
PAGES = ("Overview", "Compare", "Survival", "Patient", "Modalities", "Representation",
         "Retrieval", "Trust")  # fmt: skip
# How often each thing is done; a page stays open for some clicks, as a reader's would.
MOVES = {"page": 2, "button": 5, "select": 3, "next": 4}
BAD_LOG = ("Traceback", "a page failed", "Error:", "MediaFileStorageError")
# Milliseconds: a machine with other work may be slow, and slow is no error.
PATIENCE = 300_000
TRIES = 5
SIZE = {"width": 1280, "height": 900}


# ---------------------------------------------------------------- the server


def serve(port: int, probe: int) -> None:
    """The app, with a second port that tells what is in memory."""
    from app.patients import PatientDesk
    from models.network import FusionModel

    alive, desks = _watched(FusionModel), _watched(PatientDesk)
    threading.Thread(target=_answer, args=(probe, alive, desks), daemon=True).start()
    from streamlit.web import bootstrap

    options = {
        "server.address": "127.0.0.1",
        "server.port": port,
        "server.headless": True,
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": False,
    }
    bootstrap.load_config_options(options)
    bootstrap.run(str(MAIN), False, [], options)


def _watched(kind: type) -> weakref.WeakSet[Any]:
    """All objects of a class that are alive."""
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    make = kind.__init__

    def counted(self: Any, *args: Any, **more: Any) -> None:
        make(self, *args, **more)
        alive.add(self)

    kind.__init__ = counted
    return alive


def _answer(port: int, alive: weakref.WeakSet[Any], desks: weakref.WeakSet[Any]) -> None:
    from models.encoders.base import weights_hash

    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            asked, _ = server.accept()
            with asked:
                models = list(alive)
                cases = [case for desk in list(desks) for case in list(desk._cases.values())]
                told = {
                    "models": len(models),
                    "different": len({weights_hash(m.state_dict()) for m in models}),
                    "mib": resident_mib(os.getpid()),
                    "cases": len(cases),
                    "cases_mib": sum(case.held_bytes for case in cases) / 2**20,
                }
                asked.sendall(json.dumps(told).encode())


def ask(probe: int) -> dict[str, Any]:
    """What is in the server's memory."""
    with socket.create_connection(("127.0.0.1", probe), timeout=120) as link:
        parts = []
        while got := link.recv(65536):
            parts.append(got)
    return json.loads(b"".join(parts))


def resident_mib(process: int) -> float:
    """Resident memory of a process."""
    fields = Path(f"/proc/{process}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


# ---------------------------------------------------------------- people


@dataclass
class Seen:
    """What the sessions saw. memory: (clicks so far, MiB)."""

    clicks: int = 0
    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    visits: dict[str, int] = field(default_factory=dict)
    memory: list[tuple[int, float]] = field(default_factory=list)


async def rest(tab: Any) -> None:
    """Wait until the page rests. A busy server begins to answer a click after a while only."""
    with contextlib.suppress(Exception):
        await tab.wait_for_function(BEGUN, timeout=1500, polling="raf")
    await tab.wait_for_function(IDLE, timeout=PATIENCE, polling=100)


async def person(browser: Any, address: str, seed: int, n: int, until: float, seen: Seen) -> None:
    """One session: `n` clicks, or until the time is over."""
    draw = random.Random(seed)
    context = await browser.new_context(viewport=SIZE)
    tab = await context.new_page()
    await tab.goto(address, timeout=PATIENCE)
    await rest(tab)
    where = "Overview"
    for _ in range(n):
        if time.perf_counter() > until:
            break
        move = draw.choices(list(MOVES), list(MOVES.values()))[0]
        begun = time.perf_counter()
        try:
            where = await _move(tab, move, where, draw)
            await rest(tab)
            wrong = [(await e.inner_text())[:300] for e in await tab.locator(ERRORS).all()]
        except Exception as error:  # a page that never rests is an error of the app, too
            wrong = [f"{str(error).splitlines()[0][:120]} ({await _state(tab)})"]
        seen.seconds.append(time.perf_counter() - begun)
        seen.clicks += 1
        seen.visits[where] = seen.visits.get(where, 0) + 1
        seen.errors += [f"{where} after '{move}': {words}" for words in wrong]
        await tab.wait_for_timeout(draw.uniform(100, 1500))
    await context.close()


async def _state(tab: Any) -> str:
    """What keeps a page from resting."""
    with contextlib.suppress(Exception):
        return str(await asyncio.wait_for(tab.evaluate(STATE), 20))
    return "it does not answer"


async def _move(tab: Any, move: str, where: str, draw: random.Random) -> str:
    """One click of a kind, or another page where this one has nothing of the kind."""
    if move == "next" and where == "Patient":
        after = tab.locator(".st-key-patient-after button")
        if await after.count() and await after.first.is_enabled():
            await after.first.click(timeout=PATIENCE)
            return where
    if move == "button" and await _click_one(tab, BUTTONS, draw):
        return where
    if move == "select" and await _click_one(tab, BOXES, draw):
        for _ in range(draw.randrange(1, 4)):
            await tab.keyboard.press("ArrowDown")
        await tab.keyboard.press("Enter")
        return where
    page = draw.choice([p for p in PAGES if p != where])
    await tab.get_by_role("link", name=page, exact=True).first.click(timeout=PATIENCE)
    path = "/" if page == "Overview" else f"/{page.lower()}"
    await tab.wait_for_url(lambda url: urlsplit(url).path == path, timeout=PATIENCE)
    return page


async def _click_one(tab: Any, selector: str, draw: random.Random) -> bool:
    """Click one of the elements; whether there is any.

    Parts of a page that make themselves anew may take it away before it is clicked: then another.
    """
    for _ in range(TRIES):
        found = await tab.query_selector_all(selector)
        if not found:
            return False
        with contextlib.suppress(Exception):
            await draw.choice(found).click(timeout=PATIENCE / TRIES)
            return True
    raise TimeoutError(f"nothing of '{selector}' can be clicked")


async def crowd(address: str, probe: int, process: int, arguments: argparse.Namespace) -> Seen:
    """All sessions at once; memory is read every second."""
    from playwright.async_api import async_playwright

    seen = Seen()

    async def watch() -> None:
        begun = told = time.perf_counter()
        while True:
            now = time.perf_counter()
            seen.memory.append((seen.clicks, resident_mib(process)))
            if now - told > 30:
                told = now
                words = f"{now - begun:.0f} s: {seen.clicks} clicks, {len(seen.errors)} errors"
                print(f"{words}, {seen.memory[-1][1]:,.0f} MiB", file=sys.stderr, flush=True)
            await asyncio.sleep(1)

    until = time.perf_counter() + 60 * arguments.minutes
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        watching = asyncio.create_task(watch())
        people = (
            person(browser, address, seed, arguments.clicks, until, seen)
            for seed in range(arguments.sessions)
        )
        await asyncio.gather(*people)
        watching.cancel()
        await browser.close()
    return seen


# ---------------------------------------------------------------- the table


def slope(memory: list[tuple[int, float]], bins: int = 20) -> tuple[float, float, float]:
    """MiB a 1,000 clicks with its 95% interval, over the later half of the clicks.

    Neighbouring readings are alike, so the line goes through the means of `bins` stretches.
    """
    last = memory[-1][0]
    later = [(c, m) for c, m in memory if c >= last / 2]
    width = max((last - last / 2) / bins, 1)
    groups: dict[int, list[tuple[int, float]]] = {}
    for click, mib in later:
        groups.setdefault(int((click - last / 2) // width), []).append((click, mib))
    x = [statistics.mean(c for c, _ in g) for g in groups.values()]
    y = [statistics.mean(m for _, m in g) for g in groups.values()]
    if len(x) < 3:
        return float("nan"), float("nan"), float("nan")
    line = linregress(x, y)
    reach = student.ppf(0.975, len(x) - 2) * line.stderr
    return tuple(1000 * v for v in (line.slope, line.slope - reach, line.slope + reach))


def _print(seen: Seen, told: dict[str, Any], wrong: list[str], arguments: Any, wall: float) -> None:
    begun = seen.memory[0][1]
    half = statistics.median(m for c, m in seen.memory if c >= seen.clicks / 2)
    middle, low, high = slope(seen.memory)
    ordered = sorted(seen.seconds)
    rows = {
        "sessions at once": arguments.sessions,
        "clicks": f"{seen.clicks:,} in {wall / 60:.1f} minutes",
        "one click, median and 95th percentile (s)": f"{statistics.median(ordered):.1f}, "
        f"{ordered[int(0.95 * (len(ordered) - 1))]:.1f}",
        "errors on pages": len(seen.errors),
        "errors in the log": len(wrong),
        "models in memory": f"{told['models']} ({told['different']} different)",
        "memory: start, later half, end (MiB)": f"{begun:,.0f}, {half:,.0f}, {told['mib']:,.0f}",
        "memory, MiB a 1,000 clicks, later half": f"{middle:.0f} ({low:.0f} to {high:.0f})",
        "patients kept at the end": f"{told['cases']}, {told['cases_mib']:,.0f} MiB",
        "load average": f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores",
    }
    print("| what | measured |\n|---|---|")
    for name, value in rows.items():
        print(f"| {name} | {value} |")
    print("clicks by page:", ", ".join(f"{n} {c}" for n, c in sorted(seen.visits.items())))
    for words in [*dict.fromkeys(seen.errors), *dict.fromkeys(wrong)][:40]:
        print("ERROR", words)


def _ports() -> tuple[int, int]:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        return one.getsockname()[1], two.getsockname()[1]


def main() -> None:
    """Print the table; exit code 1 where there was an error or a second copy of a model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--clicks", type=int, default=60, help="of each session")
    parser.add_argument("--minutes", type=float, default=15, help="no click is begun after that")
    parser.add_argument("--serve", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(*arguments.serve)
        return
    port, probe = _ports()
    with tempfile.TemporaryDirectory(prefix="fusionlens-load-") as home:
        log = Path(home) / "server.log"
        command = [sys.executable, __file__, str(arguments.workspace), "--serve"]
        with log.open("w") as out:
            server = subprocess.Popen(
                [*command, str(port), str(probe)],
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=home,
                env={
                    **os.environ,
                    "PYTHONPATH": str(MAIN.parents[1]),
                    "FUSIONLENS_WORKSPACE": str(arguments.workspace.absolute()),
                },
            )
        try:
            _wait(port, server, log)
            begun = time.perf_counter()
            seen = asyncio.run(crowd(f"http://127.0.0.1:{port}", probe, server.pid, arguments))
            wall = time.perf_counter() - begun
            told = ask(probe)
        finally:
            server.terminate()
            server.wait(30)
        lines = log.read_text(errors="replace").splitlines()
        wrong = [line[:300] for line in lines if any(mark in line for mark in BAD_LOG)]
        if wrong:
            print("\n".join(lines[-80:]))
    _print(seen, told, wrong, arguments, wall)
    sys.exit(bool(seen.errors or wrong or told["models"] != told["different"]))


def _wait(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        if server.poll() is not None:
            break
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2):
                return
        except OSError:
            time.sleep(0.25)
    raise RuntimeError(f"the app did not start:\n{log.read_text()}")


if __name__ == "__main__":
    main()
