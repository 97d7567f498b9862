"""The audit log in a real PostgreSQL, with a role that may add and read and nothing else."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from app.audit.chain import HASHED
from app.audit.log import AuditError, AuditLog, Entry
from app.cli import cli
from tests.app.postgresql import PORT, server

PASSWORD = "hunter2-of-the-app"


@pytest.fixture(scope="module")
def sockets() -> Iterator[Path]:
    # Not below pytest's folder, which only its owner may enter, and short: a socket's path is.
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    folder.chmod(0o755)
    try:
        with server(folder) as ready:
            yield ready
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def owner(sockets: Path, database: str) -> psycopg.Connection:
    return psycopg.connect(
        host=str(sockets), port=PORT, user="owner", dbname=database, autocommit=True
    )


@pytest.fixture
def database(sockets: Path, request: pytest.FixtureRequest) -> str:
    """An empty database, and a role for the app that owns nothing in it."""
    name = "d" + "".join(c for c in request.node.name if c.isalnum())[:40].lower()
    with owner(sockets, "postgres") as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'app'").fetchone():
            connection.execute(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")  # type: ignore[call-overload]
    return name


def url(sockets: Path, database: str, user: str = "owner") -> str:
    host = str(sockets).replace("/", "%2F")
    return f"postgresql+psycopg://{user}:{PASSWORD}@/{database}?host={host}&port={PORT}"


def restricted(sockets: Path, database: str) -> AuditLog:
    """What README.md recommends: the owner makes the log, the app adds to it."""
    AuditLog(url(sockets, database)).open()
    with owner(sockets, database) as connection:
        connection.execute("GRANT INSERT, SELECT ON fusionlens_audit TO app")
    log = AuditLog(url(sockets, database, "app"))
    log.open()
    return log


def test_the_apps_role_adds_and_reads_and_nothing_else(sockets: Path, database: str) -> None:
    log = restricted(sockets, database)
    for i in range(3):
        log.append([Entry("anna", "open", subject=str(i), detail={"text": "a\x00b 'quoted' é"})])
    assert log.verify(log.head()).intact
    assert log.guarded()
    assert json.loads(next(log.show(subject="2"))["detail"])["text"].endswith("'quoted' é")
    with psycopg.connect(
        host=str(sockets), port=PORT, user="app", dbname=database, autocommit=True
    ) as connection:
        for statement in (
            "UPDATE fusionlens_audit SET account = 'eve'",
            "DELETE FROM fusionlens_audit",
            "TRUNCATE fusionlens_audit",
            "DROP TABLE fusionlens_audit",
            "ALTER TABLE fusionlens_audit DISABLE TRIGGER ALL",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
        columns = ", ".join((*HASHED[1:], "hash"))
        with pytest.raises(psycopg.errors.RaiseException, match="follows the last one"):
            connection.execute(  # type: ignore[call-overload]
                f"INSERT INTO fusionlens_audit (seq, {columns}) "
                f"SELECT 99, {columns} FROM fusionlens_audit WHERE seq = 1"
            )
    assert log.verify().rows == 3


def test_the_owner_is_stopped_by_triggers_and_seen_by_the_chain(
    sockets: Path, database: str
) -> None:
    log = restricted(sockets, database)
    log.append([Entry("anna", "open", subject=str(i)) for i in range(5)])
    with owner(sockets, database) as connection:
        for statement in (
            "UPDATE fusionlens_audit SET account = 'eve'",
            "DELETE FROM fusionlens_audit",
            "TRUNCATE fusionlens_audit",
        ):
            with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
                connection.execute(statement)  # type: ignore[call-overload]
        connection.execute("ALTER TABLE fusionlens_audit DISABLE TRIGGER USER")
        connection.execute("UPDATE fusionlens_audit SET subject = '9' WHERE seq = 2")
        connection.execute("DELETE FROM fusionlens_audit WHERE seq = 4")
    assert not log.guarded()
    assert log.verify().findings == (
        "row 2 does not have the hash of its contents: it was changed.",
        "row 4 is missing.",
    )
    answer = CliRunner().invoke(
        cli, ["audit", "verify"], env={"FUSIONLENS_AUDIT": url(sockets, database, "app")}
    )
    assert answer.exit_code == 2
    assert "row 4 is missing." in answer.output
    assert PASSWORD not in answer.output


def test_many_write_at_once(sockets: Path, database: str) -> None:
    """Each with an engine of its own, as processes have."""
    restricted(sockets, database)

    def fill(who: str) -> None:
        log = AuditLog(url(sockets, database, "app"))
        for i in range(10):
            log.append([Entry(who, "open", subject=str(i))])
        log.close()

    threads = [threading.Thread(target=fill, args=(f"user {i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    log = AuditLog(url(sockets, database))
    assert log.verify().intact
    assert log.verify().rows == 60


def test_a_database_that_is_not_there_is_told_without_a_password(sockets: Path) -> None:
    with pytest.raises(AuditError, match="cannot be opened") as raised:
        AuditLog(url(sockets, "nowhere")).open()
    assert PASSWORD not in str(raised.value)
