"""How long the patient page takes, beside a bare Streamlit page with the same kind of picture.

    python bench/patient_page.py WORKSPACE

Both apps run in this run's Chromium, in turns. The bare page holds one selectbox and a canvas of
the same size that draws 5,000 new points a click; its click is the unit. Explanations are made in
a copy of the workspace's results, so a cold page really computes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

MAIN = Path(__file__).resolve().parents[1] / "app" / "main.py"
CHROMIUM = "/usr/bin/chromium"
IDLE = """() => {
  const app = document.querySelector('[data-testid=stApp]');
  return app && app.dataset.testScriptState === 'notRunning'
    && !document.querySelector('[data-stale=true]');
}"""
# Selectors: components live in shadow roots, which only a locator looks into.
VIEWER = ".ct[data-ready=true]"
TIMELINE = ".timeline"
FOOTER = "text=FusionLens. Research use only"
BARE = '''
import numpy as np, streamlit as st
n = st.selectbox("Patient", range(1000), key="n")
rng = np.random.default_rng(n)
draw = st.components.v2.component("bench_canvas", html="<canvas width=1300 height=540></canvas>",
js="""export default function({data, parentElement}) {
  const c = parentElement.querySelector("canvas"), g = c.getContext("2d");
  g.clearRect(0, 0, c.width, c.height);
  for (const [x, y] of data.points) g.fillRect(x * c.width, y * c.height, 3, 3);
  c.dataset.n = data.n;
}""")
draw(key="canvas", data={"n": n, "points": rng.random((5000, 2)).round(3).tolist()})
'''


def serve(script: Path, environment: dict[str, str]) -> tuple[subprocess.Popen[bytes], str]:
    """Start a Streamlit app on a free port and wait until it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--server.headless=true", "--server.address=127.0.0.1", f"--server.port={port}",
               "--server.fileWatcherType=none", "--browser.gatherUsageStats=false"]  # fmt: skip
    server = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", str(script), *options],
        cwd=script.parent,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    for _ in range(400):
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=2):
                return server, address
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"{script} did not start")


def timed(act: Callable[[], Any], tab: Page, *until: str) -> float:
    """Seconds from an action until all selectors are there and the app rests."""
    begun = time.perf_counter()
    act()
    tab.wait_for_timeout(30)
    for selector in until:
        tab.locator(selector).first.wait_for(timeout=120_000, state="attached")
    tab.wait_for_function(IDLE, timeout=120_000, polling=20)
    return time.perf_counter() - begun


def bare_click(tab: Page, number: int) -> float:
    """Choose the next option of the bare page."""

    def act() -> None:
        tab.get_by_role("combobox").first.click()
        tab.get_by_role("option").nth(number + 1).click()

    return timed(act, tab, f"canvas[data-n='{number + 1}']")


def press(tab: Page, group: str, option: str, until: str) -> float:
    """Press an option of a segmented control of the patient page."""
    buttons = tab.locator('[data-testid="stButtonGroup"]').filter(has_text=group).first
    return timed(lambda: buttons.get_by_text(option, exact=True).click(), tab, until)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--task", default="pe/mortality")
    parser.add_argument("--strategy", default="pe-late-onehot")
    parser.add_argument("--patients", type=int, nargs="+", default=[11103, 11105, 11107, 11109])
    arguments = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="fusionlens-bench-"))
    workspace = home / "workspace"
    workspace.mkdir()
    for name in ("cohorts", "runs", "encoders"):
        (workspace / name).symlink_to((arguments.workspace / name).resolve())
    bare = home / "bare.py"
    bare.write_text(BARE, encoding="utf-8")
    malloc = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0",
              "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}  # fmt: skip
    servers = [
        serve(MAIN, {"FUSIONLENS_WORKSPACE": str(workspace), **malloc}), serve(bare, malloc)
    ]  # fmt: skip
    rows: dict[str, list[float]] = {}
    try:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
            )
            size = {"width": 1440, "height": 900}
            tab, other = (chromium.new_context(viewport=size).new_page() for _ in range(2))  # type: ignore[arg-type]
            other.goto(servers[1][1])
            other.wait_for_selector("canvas")
            query = f"task={arguments.task}&strategy={arguments.strategy}"
            address = f"{servers[0][1]}/patient?{query}"
            # The first visit predicts for everybody; that is the list's work, not the patient's.
            rows["first visit of the workspace (predictions of all patients)"] = [
                timed(lambda: tab.goto(f"{address}&section=similar"), tab, FOOTER)
            ]
            for round_, patient in enumerate(arguments.patients):
                for section, until in (("ct", VIEWER), ("ehr", TIMELINE)):
                    for state in ("cold", "from the store"):
                        # A new tab each time: nothing is kept in the browser.
                        fresh = chromium.new_context(viewport=size).new_page()  # type: ignore[arg-type]
                        where = f"{address}&patient={patient}&section={section}"
                        took = timed(
                            lambda f=fresh, w=where: f.goto(w),  # type: ignore[misc]
                            fresh,
                            FOOTER,
                            until,
                        )
                        rows.setdefault(f"page with {section.upper()}, {state}", []).append(took)
                        fresh.context.close()
                tab.goto(f"{address}&patient={patient}&section=ct")
                tab.locator(VIEWER).first.wait_for(timeout=120_000, state="attached")
                tab.wait_for_function(IDLE, timeout=120_000)
                for k in range(2):
                    unit = bare_click(other, 2 * round_ + k)
                    rows.setdefault("click on the bare page", []).append(unit)
                    what, until = (("EHR", TIMELINE), ("CT", VIEWER))[k]
                    rows.setdefault(f"click to {what}, stored", []).append(
                        press(tab, "Similar patients", what, until)
                    )
            chromium.close()
    finally:
        for server, _ in servers:
            server.terminate()
        shutil.rmtree(home, ignore_errors=True)
    unit = statistics.median(rows["click on the bare page"])
    print("| what | median s | of the bare click |\n|---|---|---|")
    for name, times in rows.items():
        middle = statistics.median(times)
        print(f"| {name} | {middle:.2f} | {middle / unit:.2f} |")


if __name__ == "__main__":
    main()
