"""fusionlens audit verify | head | show | init | key."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from app.commands.base import (
    JsonFlag,
    cli,
    err_console,
    in_one_sentence,
    out_console,
    print_json,
    print_line,
)

if TYPE_CHECKING:
    from app.audit.log import AuditLog

audit = typer.Typer(
    help="Look at an audit log: who opened which patient, when, and whether it was tampered with.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
cli.add_typer(audit, name="audit")

Log = Annotated[
    str,
    typer.Argument(
        envvar="FUSIONLENS_AUDIT",
        help="SQLite file or postgresql+psycopg://...; a URL with a password belongs into the "
        "environment.",
    ),
]
Key = Annotated[
    Path | None,
    typer.Option(
        "--key", envvar="FUSIONLENS_AUDIT_KEY", help="File of the key it is chained under."
    ),
]
_WIDE = 240
_SHOWN = ("seq", "at", "account", "role", "action", "page", "part", "cohort", "subject", "run")


def _log(where: str, key: Path | None) -> AuditLog:
    from app.audit.log import AuditLog, read_key

    return AuditLog(where, None if key is None else read_key(key), read_only=True)


@audit.command("verify")
def verify(
    log: Log,
    key: Key = None,
    expect: Annotated[
        str | None,
        typer.Option(help="SEQ:HASH, a head noted earlier: finds rows cut off since the end."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check that no row was changed, removed or put in; exit code 2 where one was."""
    with in_one_sentence():
        from app.audit.chain import Head

        opened = _log(log, key)
        noted = None if expect is None else Head.parse(expect)
        verdict = opened.verify(noted)
        guarded = opened.guarded()
    if as_json:
        print_json(
            {
                "log": opened.title,
                "intact": verdict.intact,
                "rows": verdict.rows,
                "head": str(verdict.head),
                "findings": list(verdict.findings),
                "n_findings": verdict.n_findings,
                "guarded": guarded,
            }
        )
    else:
        for words in verdict.findings:
            print_line(f"{opened.title}: {words}")
        if verdict.n_findings > len(verdict.findings):
            print_line(f"... and {verdict.n_findings - len(verdict.findings):,} more.")
        if verdict.intact:
            print_line(f"{opened.title}: intact, {verdict.rows:,} rows, head {verdict.head}")
        elif key is None and verdict.n_findings >= verdict.rows:
            print_line("No row has the hash of its contents: was it written under a --key?")
    if not guarded:
        err_console.print(
            "The triggers that refuse changes are not in place; who owns the database took them "
            "away, or the table was copied without them.",
            style="yellow",
            soft_wrap=True,
        )
    if not verdict.intact:
        raise typer.Exit(2)


@audit.command("head")
def head(log: Log, as_json: JsonFlag = False) -> None:
    """Print the last row as SEQ:HASH; kept elsewhere, it proves later that no end was cut off."""
    with in_one_sentence():
        found = _log(log, None).head()
    if as_json:
        print_json({"seq": found.seq, "hash": found.hash})
    else:
        print_line(str(found))


@audit.command("show")
def show(
    log: Log,
    patient: Annotated[str, typer.Option(help="Only rows of this patient.")] = "",
    user: Annotated[str, typer.Option(help="Only rows of this account.")] = "",
    since: Annotated[str, typer.Option(help="Only rows from this date or time on (UTC).")] = "",
    as_json: JsonFlag = False,
) -> None:
    """List who opened what, and when. A patient's rows do not include lists of all patients (*)."""
    with in_one_sentence():
        rows = list(
            _log(log, None).show(subject=patient, account=user, since=_time(since) if since else "")
        )
    if as_json:
        print_json(rows)
        return
    # Into a file or a pipe nothing is cut; a terminal folds.
    out_console.print(_table(rows), width=None if out_console.is_terminal else _WIDE)


@audit.command("init")
def init(log: Log, key: Key = None) -> None:
    """Make an empty log; on PostgreSQL as the owner, so that the app needs no right to do it."""
    with in_one_sentence():
        from app.audit.log import AuditLog, read_key

        opened = AuditLog(log, None if key is None else read_key(key))
        print_line(f"{opened.title}: head {opened.open()}")


@audit.command("key")
def make_key(
    out: Annotated[Path, typer.Argument(help="File to write, which must be new.")],
) -> None:
    """Make a key for --audit-key. Keep a copy where the database's owner cannot read it."""
    with in_one_sentence():
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32) + "\n")
        print_line(f"{out}: a new key, readable by its owner only.")


def _time(text: str) -> str:
    """A date or time as the log writes it. Raises ValueError."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(
            f"'{text[:40]}' is no date: write 2026-03-31 or 2026-03-31T14:00."
        ) from error
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    return found.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _table(rows: Iterable[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in _SHOWN:
        table.add_column(name, no_wrap=name in ("seq", "at", "subject"), overflow="fold")
    for row in rows:
        cells = {**row, "at": str(row["at"])[:19] + "Z"}
        table.add_row(*(_plain(str(cells[name])) for name in _SHOWN))
    return table


def _plain(text: str) -> str:
    """Without control characters, which a terminal would obey, and without Rich's own markup."""
    from rich.markup import escape

    return escape("".join(c if c.isprintable() else "\ufffd" for c in text))
