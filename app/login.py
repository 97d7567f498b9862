"""The settings of Streamlit's own login (OIDC), checked before the app is started.

A TOML file with [auth]: redirect_uri, cookie_secret, and client_id, client_secret and
server_metadata_url there or in a part [auth.NAME] for each of several providers.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import stat
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

NEEDED = ("client_id", "client_secret", "server_metadata_url")
SHORTEST_SECRET = 32
_CALLBACK = "/oauth2callback"
_PLACEHOLDERS = ("change", "secret", "example", "your", "todo", "<", "...")
_DISTINCT = 8  # characters; 32 of random hexadecimal digits have 13 to 15


class LoginError(ValueError):
    """The login cannot be used as configured; the message says what, where and the remedy."""


@dataclass(frozen=True)
class Login:
    """host: what the app is called in the address bar. providers: '' is the only one."""

    host: str
    providers: tuple[str, ...]
    warnings: tuple[str, ...]


def read_login(path: Path) -> Login:
    """Check a file of secrets. Raises LoginError; no message holds a secret."""
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        mode = path.stat().st_mode
    except OSError as error:
        raise LoginError(f"{path}: secrets cannot be read ({error.strerror}).") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        # The parser's own words may quote a line with a secret.
        raise LoginError(f"{path}: not readable as TOML.") from None
    auth = content.get("auth")
    if not isinstance(auth, dict):
        raise LoginError(f"{path}: has no part [auth]; README.md shows an example.")
    host = _checked_redirect(path, auth)
    _check_cookie(path, auth)
    providers = providers_of(auth)
    if not providers:
        raise LoginError(f"{path}: [auth] needs {', '.join(NEEDED)}.")
    for name in providers:
        _check_provider(path, name, auth[name] if name else auth)
    return Login(host, providers, _warnings(path, mode))


def providers_of(auth: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the providers of [auth]; '' for one that is written there itself."""
    own = ("",) if any(k in auth for k in NEEDED) else ()
    return own + tuple(name for name, part in auth.items() if _is_provider(name, part))


def need_client() -> None:
    """Raise LoginError where a package is missing that Streamlit asks for with the first login."""
    for package, modules in {"authlib": ("authlib",), "httpx": ("httpx2", "httpx")}.items():
        if not any(importlib.util.find_spec(module) for module in modules):
            raise LoginError(
                f"a login needs the package {package}, which is not installed; "
                f"'pip install {package}' adds it."
            )


def is_loopback(host: str) -> bool:
    """Whether an address or name means this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_provider(name: str, part: Any) -> bool:
    return isinstance(part, Mapping) and name != "client_kwargs"


def _checked_redirect(path: Path, auth: Mapping[str, Any]) -> str:
    redirect = str(auth.get("redirect_uri", ""))
    try:
        parts = urlsplit(redirect.replace("{port}", "80"))
        host = parts.hostname or ""
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme not in ("http", "https") or not host or parts.path[-15:] != _CALLBACK:
        raise LoginError(
            f"{path}: [auth] redirect_uri has to be the address of the app followed by "
            f"{_CALLBACK}, such as https://fusionlens.hospital.example{_CALLBACK}."
        )
    if parts.scheme == "http" and not is_loopback(host):
        raise LoginError(
            f"{path}: [auth] redirect_uri is http, so logins and patients would cross the network "
            "in the clear; put a proxy with a certificate before the app and write https."
        )
    return host


def _check_cookie(path: Path, auth: Mapping[str, Any]) -> None:
    secret = str(auth.get("cookie_secret", ""))
    weak = len(secret) < SHORTEST_SECRET or len(set(secret)) < _DISTINCT
    if weak or any(word in secret.lower() for word in _PLACEHOLDERS):
        raise LoginError(
            f"{path}: [auth] cookie_secret has to be {SHORTEST_SECRET} or more random characters, "
            "or logins could be forged; python -c 'import secrets; print(secrets.token_hex(32))' "
            "makes one."
        )


def _check_provider(path: Path, name: str, part: Mapping[str, Any]) -> None:
    where = f"[auth.{name}]" if name else "[auth]"
    missing = [key for key in NEEDED if not str(part.get(key, "")).strip()]
    if missing:
        raise LoginError(f"{path}: {where} lacks {missing[0]}.")
    if "_" in name:
        raise LoginError(f"{path}: {where} has an underscore in its name, which Streamlit refuses.")
    try:
        url = urlsplit(str(part["server_metadata_url"]))
        host = url.hostname or ""
    except ValueError:
        url, host = urlsplit(""), ""
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(host)):
        raise LoginError(
            f"{path}: {where} server_metadata_url has to be an https address, that of the "
            "provider's .well-known/openid-configuration."
        )


def _warnings(path: Path, mode: int) -> tuple[str, ...]:
    found: Sequence[str] = ()
    if mode & (stat.S_IRGRP | stat.S_IROTH | stat.S_IWGRP | stat.S_IWOTH):
        found = (f"{path} can be read by others than its owner; chmod 600 mends that.",)
    return tuple(found)
