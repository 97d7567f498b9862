"""fusionlens app."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.commands.base import cli, in_one_sentence


@cli.command("app")
def serve(
    workspace: Annotated[Path, typer.Option(help="Workspace folder.")] = Path("workspace"),
    port: Annotated[
        int, typer.Option(min=1024, max=65535, help="The next free port if this one is taken.")
    ] = 8501,
    address: Annotated[
        str, typer.Option(help="Only this machine can reach 127.0.0.1; others need a login.")
    ] = "127.0.0.1",
    secrets: Annotated[
        Path | None, typer.Option(help="TOML file with [auth], the provider of logins (OIDC).")
    ] = None,
    access: Annotated[
        Path | None, typer.Option(help="YAML file of roles: who may see which pages.")
    ] = None,
    no_login: Annotated[
        bool, typer.Option("--no-login", help="Serve other machines without a login.")
    ] = False,
    host: Annotated[
        list[str] | None,
        typer.Option(help="A name by which browsers may call the app; repeatable."),
    ] = None,
    audit: Annotated[
        str | None,
        typer.Option(
            envvar="FUSIONLENS_AUDIT",
            help="Audit log: a SQLite file or postgresql+psycopg://...; by default "
            "WORKSPACE/audit.sqlite; 'none' for none. A URL with a password belongs into the "
            "environment.",
        ),
    ] = None,
    audit_key: Annotated[
        Path | None,
        typer.Option(
            envvar="FUSIONLENS_AUDIT_KEY", help="File of a key under which the log is chained."
        ),
    ] = None,
    inbox: Annotated[
        Path | None,
        typer.Option(
            help="Folder of checkpoints that may be imported on the page; WORKSPACE/inbox if none."
        ),
    ] = None,
) -> None:
    """Open a workspace in the browser."""
    with in_one_sentence():
        from app.bring.inbox import name_inbox
        from app.serving import Guard, serve_workspace

        name_inbox(inbox)
        guard = Guard(
            secrets=secrets,
            access=access,
            open_to_all=no_login,
            hosts=tuple(host or ()),
            audit=audit or None,
            audit_key=audit_key,
        )
        serve_workspace(workspace, address, port, guard)
