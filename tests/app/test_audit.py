"""The audit log in SQLite: every way to tamper with it shows, and nobody's row is lost."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
import stat
import threading
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.audit.chain import HASHED, Head, digest, verify
from app.audit.guards import SQLITE_GUARDS
from app.audit.log import AuditError, AuditLog, Entry, address, read_key, title
from app.cli import cli

KEY = b"0123456789abcdef0123456789abcdef"
GUARDS = ("no_update", "no_delete", "in_order")
HOSTILE = (
    "</td><script>alert(1)</script>'; DROP TABLE fusionlens_audit; -- \x00 \ud800 =1+1 \x1b[31m"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.sqlite"


def filled(path: Path, n: int = 6, key: bytes | None = None) -> AuditLog:
    log = AuditLog(path, key)
    log.open()
    for i in range(n):
        log.append([Entry("anna", "open", subject=str(i), page="patient", detail={"i": i})])
    return log


def unguarded(path: Path) -> sqlite3.Connection:
    """What somebody can do who owns the file."""
    connection = sqlite3.connect(path, isolation_level=None)
    for name in GUARDS:
        connection.execute(f"DROP TRIGGER fusionlens_audit_{name}")
    return connection


def findings(path: Path, key: bytes | None = None, expect: Head | None = None) -> list[str]:
    return list(AuditLog(path, key, read_only=True).verify(expect).findings)


def test_rows_come_back_as_they_were_written(path: Path) -> None:
    log = filled(path)
    head = log.append(
        [Entry("bob", "export", role="clinician", subject="x", detail={"why": HOSTILE})]
    )
    rows = list(log.show())
    assert [row["seq"] for row in rows] == list(range(1, 8))
    assert rows[0]["previous"] == "0" * 64
    assert all(a["hash"] == b["previous"] for a, b in pairwise(rows))
    assert (rows[-1]["account"], rows[-1]["action"], rows[-1]["role"]) == (
        "bob",
        "export",
        "clinician",
    )
    assert json.loads(rows[-1]["detail"])["why"].startswith("</td><script>")
    assert head == log.head() == Head(7, rows[-1]["hash"])
    verdict = log.verify(head)
    assert (verdict.intact, verdict.rows, verdict.head) == (True, 7, head)
    assert log.guarded()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_hash_is_the_one_described() -> None:
    """SHA-256 by hand: sorted keys, no spaces, ASCII."""
    import hashlib

    row = dict.fromkeys(HASHED, "é") | {"seq": 1}
    by_hand = (
        "{"
        + ",".join(
            f'"{name}":1' if name == "seq" else f'"{name}":"\\u00e9"' for name in sorted(HASHED)
        )
        + "}"
    )
    assert digest(row) == hashlib.sha256(by_hand.encode("ascii")).hexdigest()
    assert digest(row, KEY) != digest(row)


@pytest.mark.parametrize("field", [*HASHED, "hash"])
def test_a_change_of_any_field_shows_and_says_where(field: str, path: Path) -> None:
    filled(path)
    value = 40 if field == "seq" else "f" * 64 if field in ("hash", "previous") else "changed"
    unguarded(path).execute(f"UPDATE fusionlens_audit SET {field} = ? WHERE seq = 3", (value,))
    told = findings(path)
    assert told
    assert "row 3" in told[0]


def test_a_number_stored_instead_of_text_shows(path: Path) -> None:
    filled(path)
    unguarded(path).execute("UPDATE fusionlens_audit SET subject = x'31' WHERE seq = 2")
    assert "row 2" in findings(path)[0]


def test_removed_inserted_and_swapped_rows_show(path: Path) -> None:
    filled(path)
    tampered = unguarded(path)
    tampered.execute("DELETE FROM fusionlens_audit WHERE seq IN (3, 4)")
    assert findings(path) == ["rows 3 to 4 are missing."]
    tampered.execute("DELETE FROM fusionlens_audit WHERE seq = 1")
    assert findings(path)[0] == "row 1 is missing."


def test_a_rewritten_end_shows_only_by_a_key_or_a_noted_head(path: Path, tmp_path: Path) -> None:
    """Who may write the file can compute plain hashes anew; that is what both are for."""

    def rewrite(file: Path, head: Head) -> None:
        connection = unguarded(file)
        connection.row_factory = sqlite3.Row
        row = dict(connection.execute("SELECT * FROM fusionlens_audit WHERE seq = 6").fetchone())
        row["subject"] = "another"
        connection.execute(
            "UPDATE fusionlens_audit SET subject = ?, hash = ? WHERE seq = 6",
            (row["subject"], digest(row)),
        )

    head = filled(path).head()
    rewrite(path, head)
    assert findings(path) == []
    assert findings(path, expect=head) == [
        "row 6 has another hash than expected: it or a row before it was rewritten."
    ]
    keyed = tmp_path / "keyed.sqlite"
    head = filled(keyed, key=KEY).head()
    assert findings(keyed, KEY) == []
    rewrite(keyed, head)
    assert findings(keyed, KEY) == ["row 6 does not have the hash of its contents: it was changed."]


def test_a_cut_end_shows_against_a_noted_head(path: Path) -> None:
    head = filled(path).head()
    unguarded(path).execute("DELETE FROM fusionlens_audit WHERE seq > 4")
    assert findings(path) == []
    (words,) = findings(path, expect=head)
    assert words == "the log ends with row 4, but row 6 was expected: its end was cut off."


def test_triggers_refuse_what_is_not_an_addition(path: Path) -> None:
    filled(path)
    connection = sqlite3.connect(path, isolation_level=None)
    columns = ", ".join((*HASHED, "hash"))
    copied = columns.replace("seq,", "?,", 1)
    for statement, values in (
        ("UPDATE fusionlens_audit SET account = 'eve'", ()),
        ("DELETE FROM fusionlens_audit WHERE seq = 2", ()),
        (f"INSERT OR REPLACE INTO fusionlens_audit SELECT {columns} FROM fusionlens_audit "
         "WHERE seq = 2", ()),
        (f"INSERT INTO fusionlens_audit SELECT {copied} FROM fusionlens_audit WHERE seq = 2",
         (99,)),
    ):  # fmt: skip
        with pytest.raises(sqlite3.IntegrityError, match="audit log"):
            connection.execute(statement, values)
    assert findings(path) == []
    assert len(SQLITE_GUARDS) == len(GUARDS)
    unguarded(path)
    assert not AuditLog(path, read_only=True).guarded()


def test_threads_and_processes_append_at_once(path: Path) -> None:
    log = filled(path, 0)
    threads = [threading.Thread(target=_fill, args=(log, f"thread {i}", 8)) for i in range(4)]
    context = multiprocessing.get_context("fork")
    others = [context.Process(target=_fill_anew, args=(path, f"process {i}", 8)) for i in range(2)]
    for worker in (*others, *threads):
        worker.start()
    for worker in (*threads, *others):
        worker.join(120)
    rows = list(log.show())
    assert len(rows) == 6 * 8
    assert log.verify().intact
    for who in {row["account"] for row in rows}:
        assert [r["subject"] for r in rows if r["account"] == who] == [str(i) for i in range(8)]


def _fill(log: AuditLog, who: str, n: int) -> None:
    for i in range(n):
        log.append([Entry(who, "open", subject=str(i))])


def _fill_anew(path: Path, who: str, n: int) -> None:
    _fill(AuditLog(path), who, n)


def test_a_log_goes_on_under_its_own_key_only(path: Path) -> None:
    filled(path, key=KEY)
    for key in (None, KEY[::-1]):
        with pytest.raises(AuditError, match="does not end with a row written under"):
            AuditLog(path, key).open()
    assert AuditLog(path, KEY).open().seq == 6


def test_what_cannot_be_written_is_an_error_and_half_a_batch_is_none(path: Path) -> None:
    log = filled(path)
    unguarded(path).execute(
        "CREATE TRIGGER full BEFORE INSERT ON fusionlens_audit WHEN NEW.subject = 'b' "
        "BEGIN SELECT RAISE(ABORT, 'disk full'); END"
    )
    with pytest.raises(AuditError, match=r"cannot be written \(disk full\).*no patient is shown"):
        log.append([Entry("anna", "open", subject=s) for s in ("a", "b")])
    assert log.head().seq == 6
    sqlite3.connect(path).execute("DROP TABLE fusionlens_audit")
    with pytest.raises(AuditError, match="cannot be written"):
        log.append([Entry("anna", "open")])


@pytest.mark.parametrize(
    "where",
    [
        "mysql://u:hunter2@h/d",
        "postgresql+psycopg://u:hunter2@h:no/d",
        "sqlite://",
        "sqlite:////tmp/x?uri=true",
        "file:///etc/passwd",
    ],
)
def test_a_wrong_address_is_refused_without_its_password(where: str) -> None:
    with pytest.raises(AuditError) as raised:
        AuditLog(where)
    assert "hunter2" not in str(raised.value)


def test_a_title_holds_no_password() -> None:
    url = address("postgresql://u:hunter2@h/d?password=hunter2&sslmode=require")
    assert "hunter2" not in title(url)
    assert "sslmode=require" in title(url)
    assert title(address("a.sqlite")) == str(Path("a.sqlite").absolute())


def test_rows_in_any_order_or_with_gaps_are_told_once() -> None:
    verdict = verify([], expect=Head(3, "a" * 64))
    assert verdict.findings == ("the log is empty, but row 3 was expected: its end was cut off.",)
    with pytest.raises(ValueError, match="is no head"):
        Head.parse("12:xyz")


# ---------------------------------------------------------------- the command


def run(*arguments: str, **environment: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["audit", *arguments], env=environment)
    return result.exit_code, result.output


def test_the_command_verifies(path: Path) -> None:
    head = filled(path).head()
    code, out = run("verify", str(path), "--json")
    answer = json.loads(out)
    assert (code, answer["intact"], answer["rows"], answer["head"]) == (0, True, 6, str(head))
    assert run("head", str(path)) == (0, f"{head}\n")
    assert run("verify", FUSIONLENS_AUDIT=str(path))[0] == 0
    unguarded(path).execute("UPDATE fusionlens_audit SET account = 'x' WHERE seq = 5")
    code, out = run("verify", str(path))
    assert code == 2
    assert "row 5 does not have the hash of its contents" in out
    assert "triggers that refuse changes are not in place" in " ".join(out.split())
    code, out = run("verify", str(path), "--expect", "7:" + "a" * 64, "--json")
    assert code == 2
    assert json.loads(out[out.index("{") : out.rindex("}") + 1])["n_findings"] == 2


def test_the_command_keeps_a_key_and_its_log(path: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    assert run("key", str(key))[0] == 0
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert run("key", str(key))[0] == 2  # never over another
    assert run("init", str(path), "--key", str(key))[0] == 0
    AuditLog(path, read_key(key)).append([Entry("anna", "open")])
    assert run("verify", str(path), "--key", str(key))[0] == 0
    code, out = run("verify", str(path))
    assert code == 2
    assert "was it written under a --key?" in out
    key.write_text("short")
    assert run("verify", str(path), "--key", str(key))[0] == 2


def test_the_command_shows_what_is_asked_for(path: Path) -> None:
    log = filled(path)
    log.append([Entry("Bob", "open", subject="3", part=HOSTILE + "[red]")])
    code, out = run("show", str(path), "--patient", "3", "--json")
    assert code == 0
    assert [(r["account"], r["subject"]) for r in json.loads(out)] == [("anna", "3"), ("Bob", "3")]
    assert len(json.loads(run("show", str(path), "--user", "bob", "--json")[1])) == 1
    at = next(log.show(account="bob"))["at"]
    assert len(json.loads(run("show", str(path), "--since", at, "--json")[1])) == 1
    assert json.loads(run("show", str(path), "--since", "2999-01-01", "--json")[1]) == []
    code, out = run("show", str(path))
    assert code == 0
    assert "\x1b[31m" not in out
    assert "anna" in out
    assert "\u2026" not in out
    assert run("show", str(path), "--since", "yesterday")[0] == 2
    code, out = run("verify", str(path.with_name("none.sqlite")))
    assert code == 2
    assert "there is no such audit log" in out
    assert not path.with_name("none.sqlite").exists()
