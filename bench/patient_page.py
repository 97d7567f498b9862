"""How long the patient page takes, beside bare Streamlit pages with the same kind of picture.

    python bench/patient_page.py WORKSPACE

All apps run in this run's Chromium, in turns. One bare page draws 5,000 new points on a canvas a
click; the other holds what the patient page holds (its two figures, as many select boxes, a
canvas) with nothing behind it. Explanations are made in an empty results folder, so that a cold
page really computes.
"""

from __future__ import annotations

import argparse
import json
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

from playwright.sync_api import Browser, Page, sync_playwright

from app.figures import outlook as figures
from app.panels import patient_header, patient_ledger
from app.panels.patient_header import Shown
from app.patients import PatientDesk
from app.workspace import Workspace

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
PATIENT_BOX = 3
SIZE = {"width": 1440, "height": 900}
MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "OMP_WAIT_POLICY": "PASSIVE",
}
ADDS, SHARE = "what it adds to the other modalities", "its share in the ledger"
FIRST = "first visit of the workspace (predicts for all patients)"
CANVAS, TWIN = "click on the canvas page", "click on the page with the same figures"
ROWS = (
    FIRST,
    *(f"new tab, {what}, {state}" for what in ("CT", "EHR") for state in ("cold", "stored")),
    "new tab, bare page, same figures",
    CANVAS,
    TWIN,
    "next patient with CT, cold",
    "patient seen before, CT",
    "to the CT section",
    "to the EHR section",
    "a choice inside the EHR section",
)
# The same kinds of picture with nothing behind them: a canvas; or a canvas, the two figures that
# the patient page draws and as many widgets, read from a file.
BARE = '''
import json, os
import numpy as np, plotly.graph_objects as go, streamlit as st
n = st.session_state.setdefault("n", 0)
if st.button("next", key="next"):
    st.session_state["n"] = n = n + 1
rng = np.random.default_rng(n)
if os.environ["BENCH_FIGURES"]:
    st.set_page_config(layout="wide")
    for at, figure in enumerate(json.load(open(os.environ["BENCH_FIGURES"]))):
        figure["data"][0]["customdata"] = None
        figure["layout"]["title"] = {"text": str(n)}
        st.plotly_chart(go.Figure(figure), key=f"figure {at} {n}")
    for at in range(6):
        st.selectbox(f"choice {at}", range(50), key=f"choice {at}")
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


def bare_click(tab: Page) -> float:
    """The next picture of the bare page."""
    number = int(tab.locator("canvas[data-n]").first.get_attribute("data-n") or 0)
    return timed(
        lambda: tab.get_by_role("button", name="next").click(),
        tab,
        f"canvas[data-n='{number + 1}']",
    )


def step(tab: Page, way: str) -> float:
    """The patient before or after, until the picker names another one and the page rests."""
    box = tab.locator("[data-testid=stSelectbox] input").nth(PATIENT_BOX)
    before = box.input_value()
    begun = time.perf_counter()
    tab.locator(f".st-key-patient-{way} button").first.click()
    while box.input_value() == before:
        tab.wait_for_timeout(10)
    tab.locator(VIEWER).first.wait_for(timeout=120_000, state="attached")
    tab.wait_for_function(IDLE, timeout=120_000, polling=20)
    return time.perf_counter() - begun


def press(tab: Page, text: str, *until: str) -> float:
    """A click on an option of a segmented control."""
    buttons = tab.locator("[data-testid=stButtonGroup] button").filter(has_text=text).last
    return timed(lambda: buttons.click(), tab, *until)


def two_figures(workspace: Path, task: str, run: str, subject: int) -> str:
    """The figures of one patient as JSON: the survival curve and the ledger."""
    opened = Workspace(workspace)
    desk = PatientDesk(opened)
    found = next(t for t in opened.tasks() if t.key == task)
    case = desk.case(found, opened.run(run), subject)
    shown = [Shown(case, desk.outlook(case), found)]
    curve = figures.survival_outlook(
        [patient_header.curve(shown[0])],
        shown[0].outlook.horizon_days,  # type: ignore[union-attr]
        time_title="Days",
        event_title="death",
    )
    ledger = patient_ledger.drawn(desk, shown, [desk.target(case.run, "log_risk")])
    return json.dumps([json.loads(figure.to_json()) for figure in (curve, ledger)])


def fresh(browser: Browser) -> Page:
    """A tab that has nothing in its cache."""
    return browser.new_context(viewport=SIZE).new_page()  # type: ignore[arg-type]


def measure(
    browser: Browser, address: str, bare: str, same: str, patients: list[int], rounds: int
) -> dict[str, list[float]]:
    """Seconds of every row, in the order of the table."""
    rows: dict[str, list[float]] = {name: [] for name in ROWS}
    # The first visit predicts for everybody; that is the list's work, not the patient's.
    tab = fresh(browser)
    rows[FIRST].append(timed(lambda: tab.goto(f"{address}&section=similar"), tab, FOOTER))
    tab.context.close()
    for patient in patients:
        for section, until in (("ct", VIEWER), ("ehr", TIMELINE)):
            for state in ("cold", "stored"):
                tab = fresh(browser)
                where = f"{address}&patient={patient}&section={section}"
                took = timed(lambda t=tab, w=where: t.goto(w), tab, FOOTER, until)  # type: ignore[misc]
                rows[f"new tab, {section.upper()}, {state}"].append(took)
                tab.context.close()
        tab = fresh(browser)
        rows["new tab, bare page, same figures"].append(
            timed(lambda t=tab: t.goto(same), tab, "canvas[data-n]", ".main-svg")  # type: ignore[misc]
        )
        tab.context.close()
    tab, canvas, twin = fresh(browser), fresh(browser), fresh(browser)
    for page, where in ((canvas, bare), (twin, same)):
        page.goto(where)
        page.locator("canvas[data-n]").first.wait_for(state="attached")
    tab.goto(f"{address}&patient={patients[0] + 20}&section=ct")
    tab.locator(VIEWER).first.wait_for(timeout=120_000, state="attached")
    tab.wait_for_function(IDLE, timeout=120_000)
    tab.wait_for_timeout(2000)
    for _ in range(rounds):
        rows["next patient with CT, cold"].append(step(tab, "after"))
    for _ in range(rounds):
        rows["patient seen before, CT"].append(step(tab, "before"))
        rows[CANVAS].append(bare_click(canvas))
        rows[TWIN].append(bare_click(twin))
    press(tab, "EHR", TIMELINE)
    for _ in range(rounds):
        rows["to the CT section"].append(press(tab, "CT", VIEWER))
        rows["to the EHR section"].append(press(tab, "EHR", TIMELINE))
        rows["a choice inside the EHR section"].append(press(tab, ADDS, TIMELINE))
        press(tab, SHARE, TIMELINE)
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--task", default="pe/mortality")
    parser.add_argument("--strategy", default="pe-late-onehot")
    parser.add_argument("--patients", type=int, nargs="+", default=[11103, 11105, 11107, 11109])
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="fusionlens-bench-"))
    workspace = home / "workspace"
    workspace.mkdir()
    for name in ("cohorts", "runs", "encoders"):
        (workspace / name).symlink_to((arguments.workspace / name).resolve())
    drawn = home / "figures.json"
    drawn.write_text(
        two_figures(workspace, arguments.task, arguments.strategy, arguments.patients[0])
    )
    shutil.rmtree(workspace / "results", ignore_errors=True)
    script = home / "bare.py"
    script.write_text(BARE, encoding="utf-8")
    servers = [
        serve(MAIN, {"FUSIONLENS_WORKSPACE": str(workspace), **MALLOC}),
        serve(script, {"BENCH_FIGURES": "", **MALLOC}),
        serve(script, {"BENCH_FIGURES": str(drawn), **MALLOC}),
    ]
    address = f"{servers[0][1]}/patient?task={arguments.task}&strategy={arguments.strategy}"
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
            )
            rows = measure(
                browser,
                address,
                servers[1][1],
                servers[2][1],
                arguments.patients,
                arguments.rounds,
            )
            browser.close()
    finally:
        for server, _ in servers:
            server.terminate()
        shutil.rmtree(home, ignore_errors=True)
    units = [statistics.median(rows[name]) for name in (CANVAS, TWIN)]
    print("| what | median s | of the canvas page | of the page with the same figures |")
    print("|---|---|---|---|")
    for name, times in rows.items():
        middle = statistics.median(times)
        print(f"| {name} | {middle:.2f} | {middle / units[0]:.1f} | {middle / units[1]:.2f} |")


if __name__ == "__main__":
    main()
