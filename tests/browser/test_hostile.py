"""Names, descriptions and addresses that would be markup, scripts or paths are text and no more."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pandas as pd
import pytest
import yaml

from app.access import PAGES
from app.audit.log import AuditLog
from tests.app.toy import rename_run, train, write_cohort
from tests.browser.driver import Reader
from tests.browser.served import free, serve

pytestmark = pytest.mark.browser

PAYLOADS = {
    "cohort": "<img src=x onerror=owned=1>C",
    "task": "[T](javascript:owned=1)",
    "event": "**bold7** <b>bold7</b>",
    "modality": "</script><script>owned=1</script>M :red[r]",
    "column": "$\\frac{1}{2}$ `code7`",
    "code": "<svg onload=owned=1>D ![x](https://evil7.example/p.png)",
    "site": "<iframe srcdoc='<script>owned=1</script>'>S",
    "run": "# R <a href=javascript:owned=1>bold7</a> www.evil7.example",
    "description": "<style>*{display:none}</style> > quote7\n\n# head7",
}
LOOK = """() => {
  const found = [];
  const all = (root) => [...root.querySelectorAll('*')].flatMap(
    (e) => [e, ...(e.shadowRoot ? all(e.shadowRoot) : [])]);
  for (const e of all(document)) {
    const own = [...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data).join('');
    const tag = e.tagName.toLowerCase();
    if (tag === 'img' && /(^|\\/)x$|evil7/.test(e.getAttribute('src') || '')) found.push('image');
    if (tag === 'a' && /javascript:|evil7/i.test(e.getAttribute('href') || '')) found.push('link');
    if (tag === 'script' && /owned/.test(own)) found.push('script');
    if (tag === 'iframe' && e.srcdoc) found.push('iframe');
    if (tag === 'style' && own.includes('*{display:none}')) found.push('style');
    if (/^(b|strong|em|code|blockquote|h1|h2|h3)$/.test(tag) &&
        /^(bold7|code7|quote7|head7)$/.test(e.textContent.trim())) found.push(tag);
    if (e.classList && e.classList.contains('katex')) found.push('formula');
  }
  if (window.owned) found.push('a script ran');
  return found;
}"""
SECTIONS = {
    "patient": ("ehr", "attention", "what-if"),
    "modalities": ("patient",),
}


def hostile_workspace(folder: Path) -> Path:
    """A toy workspace in which every text from a file is a payload."""
    cohort = write_cohort(folder / "cohorts" / "pe", "pe", seed=0)
    path = cohort / "cohort.yaml"
    spec = yaml.safe_load(path.read_text(encoding="utf-8"))
    spec["title"], spec["description"] = PAYLOADS["cohort"], PAYLOADS["description"]
    spec["index_event"] = spec["provenance"]["source"] = PAYLOADS["description"]
    spec["provenance"]["licence"] = PAYLOADS["event"]
    for task in spec["tasks"].values():
        task["title"], task["event_title"] = PAYLOADS["task"], PAYLOADS["event"]
    for name, modality in spec["modalities"].items():
        modality["title"] = f"{PAYLOADS['modality']} {name}"
        for column in (modality.get("columns") or {}).values():
            column["title"] = column["unit"] = PAYLOADS["column"]
    path.write_text(yaml.safe_dump(spec), encoding="utf-8")
    subjects = pd.read_parquet(cohort / "subjects.parquet")
    subjects["site"] = PAYLOADS["site"]
    subjects.to_parquet(cohort / "subjects.parquet")
    codes = pd.DataFrame(
        {"code": ["DX//CANCER", "DX//FLU", "LAB//NA"], "description": PAYLOADS["code"]}
    )
    codes.to_parquet(cohort / "ehr" / "metadata" / "codes.parquet")
    for run in ("ct", "late", "co_attention"):
        rename_run(train(cohort, folder, run, f"pe-{run}"), title=f"{PAYLOADS['run']} {run}")
    # One that cannot be read, so that its reason is shown, too.
    broken = folder / "runs" / "broken <img src=x onerror=owned=1>"
    shutil.copytree(folder / "runs" / "pe-ct", broken)
    (broken / "config.json").write_text(json.dumps({"title": PAYLOADS["run"]}))
    return folder


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile_workspace(tmp_path_factory.mktemp("hostile") / "workspace")


@pytest.fixture(scope="module")
def reader(browser: Any, workspace: Path) -> Iterator[Reader]:
    port = free()
    with serve(workspace, workspace.parent, port):
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        tab = context.new_page()
        tab.on("dialog", lambda dialog: pytest.fail(f"a dialog opened: {dialog.message}"))
        yield Reader(tab, f"http://127.0.0.1:{port}")
        context.close()


def check(reader: Reader, where: str, *shown: str) -> None:
    assert reader.tab.evaluate(LOOK) == [], where
    text = " ".join(reader.text().split())
    for name in shown:
        assert PAYLOADS[name] in text, (where, name)


def test_every_page_shows_names_as_text(reader: Reader) -> None:
    for page in PAGES:
        reader.open("" if page == "overview" else page)
        expected = ("cohort", "task") if page == "overview" else ()
        check(reader, page, *expected)
        for section in SECTIONS.get(page, ()):
            reader.open(page, urlencode({"section": section, "strategy": "pe-late"}))
            check(reader, f"{page} {section}", *(("modality",) if page == "patient" else ()))


def test_addresses_are_answered_in_words_and_touch_no_file(reader: Reader) -> None:
    for asked in (
        "../../../../etc/passwd",
        "/etc/passwd",
        "pe/../../runs",
        "a\x00b",
        "\u00b2",  # a digit to Python, but no number
        "9" * 5000,
        "x" * 3000,
        PAYLOADS["cohort"],
        PAYLOADS["task"],
    ):
        names = ("workspace", "task", "strategy", "compare", "patient", "section", "split")
        query = urlencode(dict.fromkeys(names, asked))
        # One page reads the address like the other; both get what is most like an attack.
        for page in ("patient", "modalities") if "/" in asked else ("patient",):
            reader.open(page, query)
            check(reader, f"{page} {asked[:20]}")
            text = reader.text()
            assert "which is not" in text, (page, asked[:20])
            assert "root:" not in text
            assert asked[:70] in text.replace("\ufffd", "\0") or "\n" in asked
            assert "9" * 100 not in text


def test_what_streamlit_answers_outside_the_app(reader: Reader) -> None:
    """Other origins and other names for this machine get no session; files stay where they are."""
    request = reader.tab.request
    for path in (
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "media/..%2f..%2fetc%2fpasswd",
    ):
        answer = request.get(f"{reader.address}/{path}")
        assert "root:" not in answer.text()
    answer = request.get(
        f"{reader.address}/_stcore/health", headers={"Origin": "http://evil7.example"}
    )
    assert answer.headers.get("access-control-allow-origin") in (None, "")
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw==",
    }
    stream = f"{reader.address}/_stcore/stream"
    refused = request.get(stream, headers={**handshake, "Origin": "http://evil7.example"})
    assert refused.status == 403
    refused = request.get(stream, headers={**handshake, "Host": "evil7.example"})
    assert refused.status == 403
    assert request.get(f"{reader.address}/_stcore/agent/interact").status in (403, 404, 405)


def test_without_its_log_no_patient_is_shown(reader: Reader, workspace: Path) -> None:
    """Without a login, too, looks are logged; where they cannot be, the page says so instead."""
    reader.open("patient", "patient=3")
    log = AuditLog(workspace / "audit.sqlite", read_only=True)
    rows = [row for row in log.show(subject="3") if row["action"] == "open"]
    assert (rows[-2]["account"], rows[-2]["part"], rows[-1]["page"]) == (
        "local",
        "prediction",
        "patient",
    )
    assert log.verify().intact
    database = sqlite3.connect(workspace / "audit.sqlite", isolation_level=None)
    database.execute(
        "CREATE TRIGGER full BEFORE INSERT ON fusionlens_audit "
        "BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
    )
    before = log.head()
    reader.open("patient", "patient=4")
    text = reader.text()
    assert "cannot be written (the disk is full). Without it no patient is shown" in text
    assert "What in each modality?" not in text
    assert "risk above" not in text
    assert log.head() == before
    database.execute("DROP TRIGGER full")
    reader.open("patient", "patient=4")
    assert "What in each modality?" in reader.text()
