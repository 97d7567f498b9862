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
    address: Annotated[str, typer.Option(help="Only this machine can reach 127.0.0.1.")] = (
        "127.0.0.1"
    ),
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
        from app.serving import serve_workspace

        name_inbox(inbox)
        serve_workspace(workspace, address, port)
