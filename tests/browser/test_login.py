"""Logging in at a real provider (tests/browser/oidc.py), and what each role sees and leaves."""

from __future__ import annotations

import importlib.util
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.access import BUILT_IN, PAGES
from app.audit.log import AuditLog
from tests.app.toy import train, write_cohort
from tests.browser.driver import Reader
from tests.browser.oidc import CLIENT, SECRET, Provider
from tests.browser.served import free, serve

pytestmark = pytest.mark.browser

ACCESS = """
contact: the data office, extension 1234
login_hours: 2
roles:
  clinician: {accounts: [Anna@hospital.example]}
  researcher: {claims: {realm.groups: [fusion]}}
  reviewer: {accounts: [subject-of-rita]}
"""
ACCOUNTS: dict[str, dict[str, Any]] = {
    "clinician": {"sub": "a1", "email": "anna@hospital.example", "email_verified": True},
    "researcher": {"sub": "r1", "email": "rob@uni.example", "realm": {"groups": ["x", "fusion"]}},
    "reviewer": {"sub": "subject-of-rita", "email": "rita@journal.example"},
    "unverified": {"sub": "e1", "email": "anna@hospital.example", "email_verified": False},
    "unknown": {"sub": "u1", "email": "eve@elsewhere.example", "name": "<b>Eve</b>"},
}


@dataclass
class Served:
    """The app behind a login."""

    address: str
    provider: Provider
    log: Path

    def rows(self, **wanted: str) -> list[dict[str, Any]]:
        rows = AuditLog(self.log, read_only=True).show()
        return [r for r in rows if all(r[k] == v for k, v in wanted.items())]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of one cohort and two runs: pages answer at once."""
    folder = tmp_path_factory.mktemp("login") / "workspace"
    cohort = write_cohort(folder / "cohorts" / "pe", "pe", seed=0)
    for run in ("late", "contrastive"):
        train(cohort, folder, run, f"pe-{run}")
    return folder


@pytest.fixture(scope="module")
def served(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    if not any(importlib.util.find_spec(name) for name in ("httpx2", "httpx")):
        pytest.skip("httpx is not installed, which a login needs")
    home = tmp_path_factory.mktemp("login")
    provider = Provider()
    port = free()
    # Streamlit takes a name and an address for two origins, so the name is used throughout.
    address = f"http://localhost:{port}"
    (home / "secrets.toml").write_text(
        f'[auth]\nredirect_uri = "{address}/oauth2callback"\n'
        f'cookie_secret = "{secrets.token_hex(32)}"\nclient_id = "{CLIENT}"\n'
        f'client_secret = "{SECRET}"\nserver_metadata_url = "{provider.metadata_url}"\n'
    )
    (home / "secrets.toml").chmod(0o600)
    (home / "access.yaml").write_text(ACCESS)
    options = ["--audit", str(home / "audit.sqlite"), "--secrets", str(home / "secrets.toml")]
    with serve(small, home, port, *options, "--access", str(home / "access.yaml")):
        yield Served(address, provider, home / "audit.sqlite")
    provider.close()


@pytest.fixture
def enter(browser: Any, served: Served) -> Iterator[Any]:
    """Logs an account in, in a browser of its own."""
    contexts = []

    def logged_in(name: str, page: str = "") -> Reader:
        served.provider.account = ACCOUNTS[name]
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        contexts.append(context)
        tab = context.new_page()
        tab.goto(f"{served.address}/{page}")
        tab.get_by_role("button", name="Log in").click(timeout=60_000)
        return Reader(tab, served.address)

    yield logged_in
    for context in contexts:
        context.close()


def menu(reader: Reader) -> list[str]:
    links = reader.tab.locator('[data-testid="stTopNavLink"]')
    links.first.wait_for(timeout=60_000)
    return [text.strip() for text in links.all_inner_texts()]


def titles(role: str) -> list[str]:
    return [PAGES[page] for page in BUILT_IN[role]]


def test_a_clinician_opens_a_patient_and_every_look_is_written_down(
    served: Served, enter: Any
) -> None:
    reader = enter("clinician", "patient?patient=222")
    assert menu(reader) == titles("clinician")
    # The login comes back to the first page; what was asked for is opened all the same.
    reader.tab.wait_for_url("**/patient?*patient=222*", timeout=60_000)
    reader.settle()
    who = "anna@hospital.example"
    (login, *_) = served.rows(account=who, action="login")
    assert login["role"] == "clinician"
    opened = served.rows(account=who, action="open")
    assert [row["part"] for row in opened][:1] == ["prediction"]
    assert len(opened) == 2  # the prediction, and the first section
    assert opened[0]["workspace"] == "workspace"
    assert f"patient={opened[0]['subject']}" in reader.tab.url
    # The same page again is one more row only where something else is shown.
    reader.press("What if", "What if")
    parts = [row["part"] for row in served.rows(account=who, action="open")]
    assert parts[2:] == ["what-if"]
    reader.tab.get_by_text("Show what happened", exact=True).first.click()
    reader.settle()
    assert served.rows(account=who, part="outcome")[0]["subject"] == opened[0]["subject"]

    reader.open("retrieval", f"patient={opened[0]['subject']}")
    assert "The role clinician does not have the page Retrieval" in reader.text()
    assert served.rows(account=who, action="refused")[0]["part"] == "retrieval"

    reader.tab.get_by_role("button", name="anna@").click()
    assert "clinician" in reader.tab.locator('[data-testid="stPopoverBody"]').inner_text()
    reader.tab.get_by_role("button", name="Log out").click()
    reader.tab.get_by_role("button", name="Log in").wait_for(timeout=60_000)
    assert served.provider.logouts[-1]["client_id"] == CLIENT
    assert served.rows(account=who, action="logout")
    reader.tab.goto(f"{served.address}/patient?patient={opened[0]['subject']}")
    reader.tab.get_by_role("button", name="Log in").wait_for(timeout=60_000)
    assert reader.tab.locator('[data-testid="stSelectbox"]').count() == 0
    assert AuditLog(served.log, read_only=True).verify().intact


def test_a_reviewer_sees_cohorts_and_no_patient(served: Served, enter: Any) -> None:
    reader = enter("reviewer")
    assert menu(reader) == titles("reviewer")
    for page in ("patient", "retrieval"):
        reader.open(page)
        assert f"does not have the page {page.capitalize()}" in reader.text()
        assert reader.tab.locator('[data-testid="stSelectbox"]').count() == 0
    reader.open("modalities", "section=patient")
    assert "the role reviewer sees cohorts, no single patients" in reader.text()
    assert reader.tab.locator('[data-testid="stSelectbox"]').filter(has_text="Patient").count() == 0
    reader.open("representation")
    assert "The picture, in which every point is a patient, is not shown" in reader.text()
    assert "The same in numbers" in reader.text()
    assert reader.tab.locator("[class*=scatter]").count() == 0
    rows = served.rows(account="rita@journal.example")
    assert {row["action"] for row in rows} == {"login", "refused"}
    assert {row["subject"] for row in rows} == {""}


def test_a_researcher_by_a_group_sees_every_page(enter: Any) -> None:
    assert menu(enter("researcher")) == list(PAGES.values())


@pytest.mark.parametrize("name", ["unknown", "unverified"])
def test_an_account_without_a_role_is_told_whom_to_ask(
    name: str, served: Served, enter: Any
) -> None:
    reader = enter(name, "patient")
    account = {"unknown": "eve@elsewhere.example", "unverified": "e1"}[name]
    reader.tab.get_by_text("has no role in this workspace").wait_for(timeout=60_000)
    assert account in reader.text()
    assert "the data office, extension 1234" in reader.text()
    assert reader.tab.locator('[data-testid="stTopNavLink"]').count() == 0
    assert served.rows(account=account, action="refused")
    assert not served.rows(account=account, action="open")


def test_an_old_login_is_asked_for_again(served: Served, enter: Any) -> None:
    served.provider.age_seconds = 3 * 3600
    try:
        reader = enter("clinician")
        reader.tab.get_by_text("A login holds for 2 hours, and yours is older").wait_for(
            timeout=60_000
        )
    finally:
        served.provider.age_seconds = 0
