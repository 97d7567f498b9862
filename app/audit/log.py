"""The audit log itself: a table in SQLite or PostgreSQL that takes rows and gives none up.

Rows are only ever added. Triggers refuse to change or delete one, and to add one that does not
follow the last; who owns the database can take the triggers away, which the chain then shows. On
PostgreSQL let the app log in as a role that may INSERT and SELECT and nothing else.

One writer at a time: SQLite by BEGIN IMMEDIATE, PostgreSQL by an advisory lock, so any number of
threads and processes may write to the same log. SQLite keeps its rollback journal: the write-ahead
log would be quicker by some milliseconds, but leaves the newest rows in a second file that a copy
forgets, and needs shared memory that network drives do not have.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from app.audit.chain import EMPTY, HASHED, Head, Verdict, digest, verify
from app.audit.guards import POSTGRESQL_GUARDS, SQLITE_GUARDS, count_guards

FILE = "audit.sqlite"
LONGEST = 2_000  # characters of one field
WAIT_SECONDS = 10
SMALLEST_KEY = 32  # bytes
_LOCK = 0x46_75_73_4C_65_6E_73  # any number that no other program of the database takes
_PAGE = 1_000

_metadata = sa.MetaData()
TABLE = sa.Table(
    "fusionlens_audit",
    _metadata,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True,
              autoincrement=False),
    *(sa.Column(name, sa.Text, nullable=False) for name in (*HASHED[1:], "hash")),
)  # fmt: skip


class AuditError(ValueError):
    """The log cannot be opened, read or written; the message says why."""


@dataclass(frozen=True)
class Entry:
    """One thing that happened. detail: anything more, as JSON. Empty: does not apply."""

    account: str
    action: str
    role: str = ""
    page: str = ""
    part: str = ""
    workspace: str = ""
    cohort: str = ""
    task: str = ""
    subject: str = ""
    run: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    session: str = ""

    def values(self) -> dict[str, str]:
        """Text of every field, as it is stored."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        found["detail"] = json.dumps(self.detail, sort_keys=True) if self.detail else ""
        return {name: _clean(str(value)) for name, value in found.items()}


class AuditLog:
    """A log by the path of a SQLite file or the URL of a database; safe to share by threads.

    key: makes the chain one of HMACs. Raises AuditError where the address is none.
    """

    def __init__(self, where: str | Path, key: bytes | None = None, *, read_only: bool = False):
        self._url = address(where)
        self._key = key
        self._read_only = read_only
        self._engine = _engine(self._url, read_only)
        self._one_at_a_time = threading.Lock()

    @property
    def title(self) -> str:
        """Where it is, without a password."""
        return title(self._url)

    def open(self) -> Head:
        """Make the table where there is none, and give the head.

        Raises AuditError where that is not possible, and where the last row was not written under
        this key: to go on from there would make two chains of one.
        """
        with self._told("opened"):
            if self._is_file:
                _make_file(Path(str(self._url.database)))
            with self._locked() as connection:
                if not sa.inspect(connection).has_table(TABLE.name):
                    TABLE.create(connection)
                    for statement in self._guards:
                        connection.exec_driver_sql(statement)
                last = _last(connection)
        if last is not None and digest(last, self._key) != last["hash"]:
            raise AuditError(
                f"The audit log {self.title} does not end with a row written under "
                f"{'this key' if self._key else 'no key'}: name the file of its key with "
                "--audit-key, or look with 'fusionlens audit verify' whether it was changed, keep "
                "it, and start another log with --audit."
            )
        return _head(last)

    def append(self, entries: Sequence[Entry]) -> Head:
        """Add rows, all or none, and give the head. Raises AuditError."""
        with self._told("written"), self._one_at_a_time, self._locked() as connection:
            head = _head(_last(connection))
            for entry in entries:
                row = {
                    **entry.values(),
                    "seq": head.seq + 1,
                    "at": _now(),
                    "previous": head.hash,
                }
                row["hash"] = digest(row, self._key)
                connection.execute(TABLE.insert(), row)
                head = Head(head.seq + 1, row["hash"])
            return head

    def head(self) -> Head:
        """The last row's number and hash. Raises AuditError."""
        with self._told("read"), self._engine.connect() as connection:
            return _head(_last(connection))

    def verify(self, expect: Head | None = None) -> Verdict:
        """Check every row. Raises AuditError where the log cannot be read."""
        with self._told("read"):
            return verify(self._rows(sa.select(TABLE)), self._key, expect)

    def guarded(self) -> bool:
        """Whether the triggers that refuse changes are in place. Raises AuditError."""
        with self._told("read"), self._engine.connect() as connection:
            return count_guards(connection, TABLE.name) == len(self._named_guards)

    def show(
        self, *, subject: str = "", account: str = "", since: str = ""
    ) -> Iterator[dict[str, Any]]:
        """Rows in order, those of a patient, of an account, from a time (ISO, UTC) on."""
        query = sa.select(TABLE)
        if subject:
            query = query.where(TABLE.c.subject == subject)
        if account:
            query = query.where(sa.func.lower(TABLE.c.account) == account.lower())
        if since:
            query = query.where(TABLE.c.at >= since)
        with self._told("read"):
            yield from self._rows(query)

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    # ------------------------------------------------------------ how

    @property
    def _is_file(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    @property
    def _guards(self) -> Sequence[str]:
        return SQLITE_GUARDS if self._is_file else POSTGRESQL_GUARDS

    @property
    def _named_guards(self) -> Sequence[str]:
        return [s for s in self._guards if s.lstrip().startswith("CREATE TRIGGER")]

    def _rows(self, query: sa.Select[Any]) -> Iterator[dict[str, Any]]:
        """A page at a time, each in a transaction of its own: nobody waits for a long read."""
        after = -1
        while True:
            page = query.where(TABLE.c.seq > after).order_by(TABLE.c.seq).limit(_PAGE)
            with self._engine.connect() as connection:
                rows = [dict(row) for row in connection.execute(page).mappings()]
            yield from rows
            if len(rows) < _PAGE:
                return
            after = rows[-1]["seq"]

    @contextmanager
    def _locked(self) -> Iterator[sa.Connection]:
        """A transaction that nobody else writes beside."""
        with self._engine.connect() as connection:
            alone = connection.execution_options(fusionlens_alone=True)
            with alone.begin():
                if not self._is_file:
                    alone.exec_driver_sql(f"SET LOCAL lock_timeout = '{WAIT_SECONDS}s'")
                    alone.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
                yield alone

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, OSError) as error:
            cause = getattr(error, "orig", None) or error
            reason = (str(cause).strip() or type(cause).__name__).splitlines()[0].rstrip(".")
            words = f"The audit log {self.title} cannot be {what} ({reason})."
            if what == "written":
                words += (
                    " Without it no patient is shown; whoever runs FusionLens can see to it, and "
                    "the page goes on when it is loaded again."
                )
            raise AuditError(words) from error


def address(where: str | Path) -> sa.URL:
    """The database meant by a path or URL. Raises AuditError; no message holds a password."""
    if "://" not in str(where):
        return sa.URL.create("sqlite", database=str(Path(where).absolute()))
    scheme = str(where).partition("://")[0]
    if scheme not in ("sqlite", "postgresql", "postgresql+psycopg"):
        raise AuditError(
            f"'{scheme[:30]}' is no database that an audit log can be kept in: give the path of a "
            "SQLite file, or postgresql+psycopg://USER@HOST/DATABASE."
        )
    try:
        url = sa.make_url(str(where))
    except (SQLAlchemyError, ValueError):
        raise AuditError(
            "The address of the audit log cannot be read: write "
            "postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE, special characters of the "
            "password as %XX."
        ) from None
    if scheme == "sqlite":
        if not url.database or url.query:
            raise AuditError("An audit log in SQLite needs a file: write its path.")
        return address(url.database)
    return url.set(drivername="postgresql+psycopg")


def title(url: sa.URL) -> str:
    """A path, or a URL without password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    hidden = {k: v for k, v in url.query.items() if "pass" not in k.lower()}
    return url.set(query=hidden).render_as_string(hide_password=True)


def read_key(path: Path) -> bytes:
    """The key in a file, without white space around it. Raises AuditError when it is too short."""
    try:
        key = Path(path).read_bytes().strip()
    except OSError as error:
        raise AuditError(f"{path}: the key cannot be read ({error.strerror}).") from error
    if len(key) < SMALLEST_KEY:
        raise AuditError(
            f"{path}: a key needs at least {SMALLEST_KEY} bytes, this one has {len(key)}; "
            "'fusionlens audit key FILE' makes one."
        )
    return key


def _engine(url: sa.URL, read_only: bool) -> sa.Engine:
    if url.get_backend_name() != "sqlite":
        options = {"connect_timeout": WAIT_SECONDS, "client_encoding": "utf8"}
        return sa.create_engine(url, pool_pre_ping=True, connect_args=options)
    if read_only:
        if not Path(str(url.database)).is_file():
            raise AuditError(f"{url.database}: there is no such audit log.")
        name = Path(str(url.database)).as_uri() + "?mode=ro"
        engine = sa.create_engine(
            "sqlite://",
            creator=lambda: sqlite3.connect(
                name, uri=True, timeout=WAIT_SECONDS, check_same_thread=False
            ),
            poolclass=sa.NullPool,
        )
    else:
        engine = sa.create_engine(url, connect_args={"timeout": WAIT_SECONDS})

    @sa.event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin as written below

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        alone = connection.get_execution_options().get("fusionlens_alone")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if alone else "BEGIN")

    return engine


def _make_file(path: Path) -> None:
    """An empty file that only its owner reads, where there is none; SQLite takes it over."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def _last(connection: sa.Connection) -> dict[str, Any] | None:
    query = sa.select(TABLE).order_by(TABLE.c.seq.desc()).limit(1)
    row = connection.execute(query).mappings().first()
    return None if row is None else dict(row)


def _head(row: Mapping[str, Any] | None) -> Head:
    return EMPTY if row is None else Head(int(row["seq"]), str(row["hash"]))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _clean(text: str) -> str:
    """What every database stores and gives back as it was: no NUL, no lone surrogate."""
    text = text[:LONGEST].replace("\0", "\ufffd")
    return text.encode("utf-8", "replace").decode()
