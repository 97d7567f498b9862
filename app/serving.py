"""Starts Streamlit on a free port with settings that keep data on this machine."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from analysis.store import ResultStore
from app.access import read_access
from app.audit.log import FILE, AuditError, AuditLog, read_key
from app.login import LoginError, is_loopback, need_client, read_login
from app.workspace import RESULTS, Workspace

OFF = "none"  # instead of the address of an audit log
MAIN = Path(__file__).parent / "main.py"


def free_port(address: str, first: int) -> int:
    """The first port from `first` on that nobody listens on. Raises ValueError after 50."""
    for port in range(first, min(first + 50, 65536)):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return port
    raise ValueError(f"no free port from {first} on at {address}; name another with --port.")


def streamlit_flags(address: str, port: int) -> list[str]:
    """Options that `streamlit run` gets."""
    return [
        f"--server.address={address}",
        f"--server.port={port}",
        "--server.headless=true",
        "--browser.gatherUsageStats=false",
        "--server.fileWatcherType=none",
        "--client.toolbarMode=minimal",
        "--client.showErrorDetails=none",
        "--server.enableXsrfProtection=true",
        "--server.enableCORS=true",
    ]


@dataclass(frozen=True)
class Guard:
    """How a served workspace is guarded.

    secrets, access: the files of the login and of roles; both or neither. open_to_all: serve other
    machines without a login. hosts: names that the app is called by in the address bar, more than
    those it knows. audit: path or URL of the log, 'none', or None for WORKSPACE/audit.sqlite.
    """

    secrets: Path | None = None
    access: Path | None = None
    open_to_all: bool = False
    hosts: Sequence[str] = ()
    audit: str | None = None
    audit_key: Path | None = None


@dataclass(frozen=True)
class Prepared:
    """environment and flags of the server; said: what the terminal tells."""

    environment: dict[str, str] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


def prepare(guard: Guard, workspace: Path, address: str) -> Prepared:
    """What the server needs for this guard.

    Opens the audit log. Raises ValueError (LoginError, AccessError, AuditError) with a sentence.
    """
    made = Prepared()
    hosts = ["127.0.0.1", "localhost", "::1", address, *guard.hosts]
    if (guard.secrets is None) != (guard.access is None):
        raise LoginError(
            "a login needs both files: --secrets says who the provider of logins is, --access who "
            "of them may see what; without roles everybody with an account there would come in."
        )
    if guard.secrets is not None and guard.access is not None:
        login = read_login(guard.secrets)
        read_access(guard.access)
        made.said.extend(login.warnings)
        hosts.append(login.host)
        made.environment["FUSIONLENS_LOGIN"] = "required"
        made.environment["FUSIONLENS_ACCESS"] = str(guard.access.absolute())
        made.flags.append(f"--secrets.files={guard.secrets.absolute()}")
    elif not is_loopback(address):
        if not guard.open_to_all:
            raise LoginError(
                f"at {address} other machines could open every patient without a login; configure "
                "one with --secrets and --access, or say --no-login."
            )
        made.said.append(f"No login: whoever reaches {address} sees every patient.")
    # Without a list, a page elsewhere could point its own name at this machine and read the app.
    known = guard.secrets is not None or guard.hosts or is_loopback(address)
    names = " ".join(dict.fromkeys(hosts)) if known else "*"
    made.environment["STREAMLIT_SERVER_ALLOWED_HOSTS"] = names
    _prepare_audit(guard, workspace, made)
    results = ResultStore(workspace / RESULTS)
    if results.home != results.folder:
        made.said.append(
            f"{workspace} may only be read; what is computed of it is kept in "
            f"{results.home.parents[1]}."
        )
    return made


def _prepare_audit(guard: Guard, workspace: Path, made: Prepared) -> None:
    where = guard.audit or str(workspace.absolute() / FILE)
    if "://" not in where and where != OFF:
        where = str(Path(where).absolute())
    made.environment.update(FUSIONLENS_AUDIT=where, FUSIONLENS_AUDIT_KEY="")
    if where == OFF:
        if guard.secrets is not None:
            raise AuditError("with a login there is an audit log, too: name one with --audit.")
        return
    key = None if guard.audit_key is None else read_key(guard.audit_key)
    try:
        log = AuditLog(where, key)
        head = log.open()
    except AuditError as error:
        if guard.audit is not None or guard.secrets is not None:
            raise
        made.said.append(f"No audit log is kept. {error}")
        made.environment["FUSIONLENS_AUDIT"] = OFF
        return
    log.close()
    if guard.audit_key is not None:
        made.environment["FUSIONLENS_AUDIT_KEY"] = str(guard.audit_key.absolute())
    made.said.append(f"Audit log: {log.title}, head {head}")


def serve_workspace(workspace: Path, address: str, port: int, guard: Guard | None = None) -> None:
    """Replace this process by the server of a workspace, and say where it is.

    Raises ValueError where it cannot be served as asked.
    """
    Workspace(workspace)
    guard = guard or Guard()
    if guard.secrets is not None:
        need_client()
    made = prepare(guard, workspace, address)
    port = free_port(address, port)
    console = Console()
    for words in made.said:
        console.print(words, markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"FusionLens shows {workspace} at http://{address}:{port} (stop with Ctrl+C)",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    sys.stdout.flush()
    environment = {
        **os.environ,
        **made.environment,
        "FUSIONLENS_WORKSPACE": str(workspace.absolute()),
        # Keeps large activations of 3-D networks instead of giving them back after every layer.
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
        # Threads that wait do not burn the core that another session computes on.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    os.chdir(MAIN.parent)
    arguments = [sys.executable, "-m", "streamlit", "run", str(MAIN)]
    os.execve(
        sys.executable, [*arguments, *streamlit_flags(address, port), *made.flags], environment
    )
