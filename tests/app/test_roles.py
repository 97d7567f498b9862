"""What each role is shown by the real router, without a browser; test_login.py has the login."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.audit.log import AuditLog
from app.panels import account, audited, frame
from tests.app.test_pages import MAIN, words

ACCESS = """
contact: the data office
roles:
  clinician: {accounts: [anna@hospital.example]}
  reviewer: {accounts: [rita@journal.example]}
"""
ACCOUNTS = {name: {"email": name, "sub": name} for name in ("anna@hospital.example",)} | {
    "rita@journal.example": {"email": "rita@journal.example", "sub": "r", "iss": "https://id"},
    "eve@elsewhere.example": {"email": "eve@elsewhere.example", "sub": "e"},
}


class Served:
    """The router with a login, roles and a log of its own."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.log = folder / "audit.sqlite"
        self.patch = patch
        (folder / "access.yaml").write_text(ACCESS)
        patch.setenv(account.ACCESS_VARIABLE, str(folder / "access.yaml"))
        patch.setenv(account.LOGIN_VARIABLE, "required")
        patch.setenv(audited.VARIABLE, str(self.log))

    def open(self, who: str | None, page: str = "", **query: str) -> AppTest:
        claims: dict[str, Any] = {"is_logged_in": False}
        if who is not None:
            claims = {"is_logged_in": True, "iat": time.time(), **ACCOUNTS[who]}
        return self.as_claims(claims, page, **query)

    def as_claims(self, claims: dict[str, Any], page: str = "", **query: str) -> AppTest:
        self.patch.setattr(account, "claims_of_login", lambda: claims)
        test = AppTest.from_file(str(MAIN), default_timeout=240)
        test.secrets["auth"] = {"client_id": "c"}
        for name, value in query.items():
            test.query_params[name] = value
        test.run()
        if page:
            test.switch_page(f"views/{page}.py").run()
        assert not test.exception
        return test

    def rows(self, **wanted: str) -> list[dict[str, Any]]:
        rows = AuditLog(self.log, read_only=True).show()
        return [r for r in rows if all(r[k] == v for k, v in wanted.items())]


@pytest.fixture
def served(workspace_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    monkeypatch.setenv(frame.VARIABLE, str(workspace_folder))
    for kept in (frame._open, frame._desk, audited._opened, account._file):
        kept.clear()
    return Served(tmp_path, monkeypatch)


def look_at(test: AppTest, section: str) -> None:
    (control,) = [b for b in test.segmented_control if b.label == "Look at"]
    control.set_value(section).run()


def test_nobody_who_is_not_logged_in_sees_anything(served: Served) -> None:
    test = served.open(None)
    assert [b.label for b in test.button] == ["Log in"]
    assert "Log in to open this workspace" in words(test)
    assert "What is here?" not in words(test)


def test_an_account_without_a_role_is_told_whom_to_ask(served: Served) -> None:
    test = served.open("eve@elsewhere.example")
    assert "the data office" in words(test)
    assert "What is here?" not in words(test)
    test.run()  # a rerun is no second refusal
    assert [r["account"] for r in served.rows(action="refused")] == ["eve@elsewhere.example"]


def test_a_login_that_is_old_or_has_no_age_is_asked_for_again(served: Served) -> None:
    for iat in ({"iat": time.time() - 13 * 3600}, {}):
        claims = {"is_logged_in": True, **ACCOUNTS["anna@hospital.example"], **iat}
        test = served.as_claims(claims)
        assert "A login holds for 12 hours" in words(test)
        assert "What is here?" not in words(test)


@pytest.mark.parametrize("broken", ["no login", "no roles", "roles gone", "roles broken"])
def test_a_login_that_should_be_there_and_is_not_lets_nobody_in(
    broken: str, served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    claims = {"is_logged_in": True, "iat": time.time(), **ACCOUNTS["anna@hospital.example"]}
    if broken == "no login":
        claims = {}
    elif broken == "no roles":
        monkeypatch.delenv(account.ACCESS_VARIABLE)
    elif broken == "roles gone":
        (tmp_path / "access.yaml").unlink()
    else:
        (tmp_path / "access.yaml").write_text("roles: [")
    test = served.as_claims(claims)
    assert "Nobody can log in at present" in test.error[0].value
    assert "What is here?" not in words(test)


def test_a_clinician_reads_a_patient_and_each_look_is_a_row(served: Served) -> None:
    test = served.open("anna@hospital.example", "patient", patient="7")
    assert "Why this risk?" in words(test)
    (login,) = served.rows(action="login")
    assert (login["account"], login["role"]) == ("anna@hospital.example", "clinician")
    opened = served.rows(action="open")
    assert [(r["subject"], r["part"]) for r in opened] == [("7", "prediction"), ("7", "imaging")]
    assert {(r["page"], r["cohort"]) for r in opened} == {("patient", opened[0]["cohort"])}
    assert [r["subject"] for r in served.rows(action="list")] == ["*"]
    test.run()
    assert served.rows(action="open") == opened  # one row a change, not one a rerun
    (box,) = [b for b in test.selectbox if b.label.startswith("Patient (")]
    box.select("8").run()
    assert [r["subject"] for r in served.rows(action="open")] == ["7", "7", "8", "8"]
    next(t for t in test.toggle if t.label == "Show what happened").set_value(True).run()
    assert [r["subject"] for r in served.rows(part="outcome")] == ["8"]
    look_at(test, "similar")
    beside = served.rows(part="similar patients and outcomes")
    assert len(beside) == 8
    assert all('"beside": 8' in r["detail"] for r in beside)
    assert AuditLog(served.log, read_only=True).verify().intact
    path = served.log.with_name("access.yaml")
    path.write_text(ACCESS.replace("anna@", "bob@"))
    look_at(test, "what-if")
    assert "has no role in this workspace" in words(test)
    assert not served.rows(part="what-if")


def test_without_its_log_no_patient_is_shown(served: Served) -> None:
    served.open("anna@hospital.example")
    database = sqlite3.connect(served.log, isolation_level=None)
    database.execute(
        "CREATE TRIGGER full BEFORE INSERT ON fusionlens_audit WHEN NEW.action = 'open' "
        "BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
    )
    test = served.open("anna@hospital.example", "patient", patient="7")
    assert "Without it no patient is shown" in test.error[0].value
    assert not test.metric
    assert "What in each modality?" not in words(test)


def test_a_reviewer_sees_cohorts_and_no_patient(served: Served) -> None:
    who = "rita@journal.example"
    shown = words(served.open(who, "representation"))
    assert "The picture, in which every point is a patient, is not shown" in shown
    assert "The same in numbers" in shown
    test = served.open(who, "modalities", section="patient")
    assert "is not shown: the role reviewer sees cohorts, no single patients" in words(test)
    assert not [b for b in test.selectbox if b.label == "Patient"]
    with pytest.raises(ValueError, match="patient"):
        served.open(who, "patient")
    assert {r["action"] for r in served.rows(account=who)} == {"login"}
