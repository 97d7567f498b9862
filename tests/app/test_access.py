"""Roles, logins, and what the command refuses to serve."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from typing import Any

import pytest

from app.access import BUILT_IN, FILES, PAGES, AccessError, AccessFile, read_access
from app.audit.log import AuditError, AuditLog
from app.login import LoginError, is_loopback, need_client, read_login
from app.serving import Guard, prepare

ACCESS = """
contact: the data office
login_hours: 12
roles:
  clinician: {accounts: [Anna@Hospital.example, sub-7]}
  researcher: {claims: {groups: [fusion], realm.roles: [fusion]}}
  reviewer: {accounts: [rita@journal.example]}
"""


def access(folder: Path, text: str = ACCESS) -> Any:
    (folder / "access.yaml").write_text(text, encoding="utf-8")
    return read_access(folder / "access.yaml")


# ---------------------------------------------------------------- roles


@pytest.mark.parametrize(
    ("claims", "roles"),
    [
        ({"email": "anna@hospital.EXAMPLE"}, ("clinician",)),
        ({"email": "other@hospital.example", "sub": "sub-7"}, ("clinician",)),
        ({"email": "anna@hospital.example", "email_verified": False, "sub": "x"}, None),
        ({"email": "anna@hospital.example", "email_verified": "false", "sub": "x"}, None),
        ({"sub": "x", "groups": ["fusion", "other"]}, ("researcher",)),
        ({"sub": "x", "groups": "fusion"}, ("researcher",)),
        ({"sub": "x", "groups": ["fusion-other"]}, None),
        ({"sub": "x", "realm": {"roles": ["fusion"]}}, ("researcher",)),
        ({"email": "rita@journal.example", "groups": ["fusion"]}, ("researcher", "reviewer")),
        ({"name": "anna@hospital.example", "sub": "x"}, None),
        ({"sub": ["sub-7"]}, None),
        ({}, None),
    ],
)
def test_a_role_comes_from_account_or_claim(
    claims: dict[str, Any], roles: tuple[str, ...] | None, tmp_path: Path
) -> None:
    who = access(tmp_path).admit(claims)
    assert (None if who is None else who.roles) == roles


def test_what_the_built_in_roles_see(tmp_path: Path) -> None:
    allowed = access(tmp_path)
    clinician = allowed.admit({"sub": "sub-7"})
    reviewer = allowed.admit({"email": "rita@journal.example"})
    both = allowed.admit({"email": "rita@journal.example", "groups": ["fusion"]})
    assert clinician.patients
    assert "patient" in clinician.pages
    assert not {"representation", "retrieval"} & set(clinician.pages)
    assert not reviewer.patients
    assert not {"patient", "retrieval"} & set(reviewer.pages)
    assert both.pages == tuple(PAGES)
    assert both.patients
    assert reviewer.account == "rita@journal.example"
    assert allowed.admit({"sub": "sub-7"}).account == "sub-7"


def test_every_page_has_a_file() -> None:
    views = Path(__file__).resolve().parents[2] / "app" / "views"
    assert {p.stem for p in views.glob("*.py")} == {FILES.get(name, name) for name in PAGES}
    assert set(BUILT_IN["researcher"]) == set(PAGES)


def test_everybody_is_for_those_without_another_role(tmp_path: Path) -> None:
    allowed = access(tmp_path, ACCESS + "everybody: reviewer\n")
    assert allowed.admit({"sub": "anyone"}).roles == ("reviewer",)
    assert allowed.admit({"sub": "sub-7"}).roles == ("clinician",)


def test_a_login_grows_old(tmp_path: Path) -> None:
    allowed = access(tmp_path)
    assert not allowed.expired({"iat": 1_000}, 1_000 + 12 * 3600)
    assert allowed.expired({"iat": 1_000}, 1_001 + 12 * 3600)
    for claims in ({}, {"iat": "1000"}, {"iat": True}):
        assert allowed.expired(claims, 1_000)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("roles: {}\n", "contact"),
        ("contact: a\nroles: {}\n", "name at least one role"),
        ("contact: a\nroles: {nurse: {accounts: [a]}}\n", "'nurse' is none of clinician"),
        ("contact: a\nroles: {clinician: {acounts: [a]}}\n", "acounts"),
        ("contact: a\nroles: {clinician: {pages: [patients]}}\n", "no page 'patients'"),
        ("contact: a\nroles: {clinician: {pages: []}}\n", "at least one page"),
        ("contact: a\nroles: {clinician: {patients: false}}\n", "which shows nothing else"),
        ("contact: a\nroles: {clinician: {}}\neverybody: guest\n", "'guest' is none of"),
        (
            "contact: a\nroles: {clinician: {}, clinician: {accounts: [b]}}\n",
            "names 'clinician' twice",
        ),
        ("contact: [\n", "not readable as a file of roles"),
        ("- a\n", "expected named fields"),
        (
            "contact: a\nroles: !!python/object/apply:os.getcwd []\n",
            "not readable as a file of roles",
        ),
    ],
)
def test_a_wrong_file_of_roles_is_told(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(AccessError, match=words) as raised:
        access(tmp_path, text)
    assert str(tmp_path / "access.yaml") in str(raised.value)


def test_a_role_taken_away_is_gone_at_once(tmp_path: Path) -> None:
    path = tmp_path / "access.yaml"
    path.write_text(ACCESS)
    file = AccessFile(path)
    assert file.read().admit({"sub": "sub-7"}) is not None
    path.write_text(ACCESS.replace(", sub-7", ""))
    assert file.read().admit({"sub": "sub-7"}) is None
    path.write_text("roles: [")
    with pytest.raises(AccessError):
        file.read()
    path.unlink()
    with pytest.raises(AccessError, match="cannot be read"):
        file.read()


# ---------------------------------------------------------------- login

SECRETS = {
    "redirect_uri": "https://fusion.hospital.example/oauth2callback",
    "cookie_secret": secrets.token_hex(32),
    "client_id": "c",
    "client_secret": "s3",
    "server_metadata_url": "https://id.example/.well-known/openid-configuration",
}


def written(folder: Path, part: str = "", **changed: str | None) -> Path:
    values = {k: v for k, v in {**SECRETS, **changed}.items() if v is not None}
    path = folder / "secrets.toml"
    path.write_text("[auth]\n" + "".join(f'{k} = "{v}"\n' for k, v in values.items()) + part)
    path.chmod(0o600)
    return path


def test_a_good_login(tmp_path: Path) -> None:
    found = read_login(written(tmp_path))
    assert (found.host, found.providers, found.warnings) == ("fusion.hospital.example", ("",), ())


def test_secrets_that_others_can_read_are_warned_of(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.chmod(0o644)
    (words,) = read_login(path).warnings
    assert "chmod 600" in words


def test_a_login_without_its_client_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "authlib" or None)
    with pytest.raises(LoginError, match="needs the package httpx"):
        need_client()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name != "httpx2" or None)
    need_client()


def test_several_providers(tmp_path: Path) -> None:
    keys = ("client_id", "client_secret", "server_metadata_url")
    part = "[auth.clinic]\n" + "".join(f'{k} = "{SECRETS[k]}"\n' for k in keys)
    path = written(tmp_path, part, **dict.fromkeys(keys))
    assert read_login(path).providers == ("clinic",)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"cookie_secret": None}, "32 or more random"),
        ({"cookie_secret": "short"}, "32 or more random"),
        ({"cookie_secret": "x" * 64}, "32 or more random"),
        ({"cookie_secret": "please-change-me-0123456789-abcdefgh"}, "32 or more random"),
        ({"redirect_uri": None}, "redirect_uri has to be"),
        ({"redirect_uri": "https://a.example/"}, "redirect_uri has to be"),
        ({"redirect_uri": "http://a.example/oauth2callback"}, "in the clear"),
        ({"client_secret": ""}, "lacks client_secret"),
        ({"server_metadata_url": "http://id.example/x"}, "an https address"),
        ({"server_metadata_url": "javascript:alert(1)"}, "an https address"),
    ],
)
def test_a_weak_login_is_refused(
    changed: dict[str, str | None], words: str, tmp_path: Path
) -> None:
    with pytest.raises(LoginError, match=words) as raised:
        read_login(written(tmp_path, **changed))
    assert SECRETS["cookie_secret"] not in str(raised.value)


def test_an_unreadable_file_of_secrets_quotes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "secrets.toml"
    path.write_text('[auth]\ncookie_secret = "abc" hunter2\n')
    with pytest.raises(LoginError, match="not readable as TOML") as raised:
        read_login(path)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True),
        ("127.8.0.9", True),
        ("::1", True),
        ("[::1]", True),
        ("LocalHost", True),
        ("0.0.0.0", False),
        ("10.0.0.5", False),
        ("localhost.evil.example", False),
    ],
)
def test_loopback(host: str, own: bool) -> None:
    assert is_loopback(host) is own


# ---------------------------------------------------------------- the command


def test_other_machines_need_a_login_or_a_word(tmp_path: Path) -> None:
    with pytest.raises(LoginError, match="without a login"):
        prepare(Guard(), tmp_path, "0.0.0.0")
    assert not list(tmp_path.iterdir())
    made = prepare(Guard(open_to_all=True), tmp_path, "0.0.0.0")
    assert any("sees every patient" in words for words in made.said)
    made = prepare(Guard(), tmp_path, "127.0.0.1")
    assert made.environment["STREAMLIT_SERVER_ALLOWED_HOSTS"] == "127.0.0.1 localhost ::1"


def test_a_login_without_roles_lets_nobody_in_by_chance(tmp_path: Path) -> None:
    with pytest.raises(LoginError, match="needs both files"):
        prepare(Guard(secrets=written(tmp_path)), tmp_path, "127.0.0.1")
    access(tmp_path)
    with pytest.raises(LoginError, match="needs both files"):
        prepare(Guard(access=tmp_path / "access.yaml"), tmp_path, "127.0.0.1")


def test_a_login_is_served_with_its_log(tmp_path: Path) -> None:
    access(tmp_path)
    guard = Guard(secrets=written(tmp_path), access=tmp_path / "access.yaml")
    made = prepare(guard, tmp_path, "0.0.0.0")
    assert made.flags == [f"--secrets.files={tmp_path / 'secrets.toml'}"]
    assert made.environment["FUSIONLENS_LOGIN"] == "required"
    assert "fusion.hospital.example" in made.environment["STREAMLIT_SERVER_ALLOWED_HOSTS"]
    assert AuditLog(made.environment["FUSIONLENS_AUDIT"], read_only=True).head().seq == 0
    assert not any(SECRETS["cookie_secret"] in v for v in (*made.environment.values(), *made.said))
    with pytest.raises(AuditError, match="with a login there is an audit log"):
        prepare(
            Guard(secrets=guard.secrets, access=guard.access, audit="none"), tmp_path, "127.0.0.1"
        )


def test_a_workspace_that_cannot_be_written_is_shown_without_a_log(tmp_path: Path) -> None:
    (tmp_path / "audit.sqlite").mkdir()  # even root cannot open that as a file
    made = prepare(Guard(), tmp_path, "127.0.0.1")
    assert made.environment["FUSIONLENS_AUDIT"] == "none"
    assert any("No audit log is kept" in words for words in made.said)
    with pytest.raises(AuditError, match="cannot be opened"):
        prepare(Guard(audit=str(tmp_path / "audit.sqlite")), tmp_path, "127.0.0.1")
    access(tmp_path)
    guard = Guard(secrets=written(tmp_path), access=tmp_path / "access.yaml")
    with pytest.raises(AuditError, match="cannot be opened"):
        prepare(guard, tmp_path, "127.0.0.1")


def test_the_file_of_roles_is_read_again_by_its_time(tmp_path: Path) -> None:
    path = tmp_path / "access.yaml"
    path.write_text(ACCESS)
    file = AccessFile(path)
    first = file.read()
    assert file.read() is first
    os.utime(path, (time.time() + 5, time.time() + 5))
    assert file.read() is not first
