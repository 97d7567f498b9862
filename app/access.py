"""Who may see what: roles by account or by a claim of the login, and the pages of each role.

    contact: the data office, extension 1234
    login_hours: 12
    roles:
      clinician:
        accounts: [anna@hospital.example]
      researcher:
        claims: {groups: [fusion-research]}
      reviewer:
        accounts: [guest@journal.example]
    everybody: null            # the role of accounts that no line names; without one: none

An account with several roles has the pages of all of them. The built-in roles see:

- clinician: what helps to read one patient and to judge how far a prediction holds, but not
  Representation and Retrieval, whose distances are easily read as likeness of patients;
- researcher: everything, and alone the Import page, which adds to the workspace;
- reviewer: what is said of a cohort, nothing that is said of one patient. So there is no Patient
  page and no Retrieval, which draws patients' recordings; Modalities has no section "One patient";
  Representation has its verdict and numbers, but not the picture, where every point is a patient
  with number, outcome and risk; and figures of spreads have no data with a row a patient. Report,
  Compare, Survival and Trust speak of groups only.

Other roles may be named, with their own pages; `patients: false` makes any role blind to single
patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from analysis.plain_yaml import read_plain_yaml

PAGES = {
    "overview": "Overview",
    "compare": "Compare",
    "survival": "Survival",
    "patient": "Patient",
    "modalities": "Modalities",
    "representation": "Representation",
    "retrieval": "Retrieval",
    "trust": "Trust",
    "report": "Report",
    "import": "Import",
}
"""Pages by their address, in the order of the menu."""

FILES = {"import": "bring"}
"""Files in views/ of pages whose address is no name of a module."""

OF_SINGLE_PATIENTS = ("patient", "retrieval")
"""Pages that have nothing to show but single patients."""

BUILT_IN = {
    "clinician": tuple(p for p in PAGES if p not in ("representation", "retrieval", "import")),
    "researcher": tuple(PAGES),
    "reviewer": tuple(p for p in PAGES if p not in (*OF_SINGLE_PATIENTS, "import")),
}
_BLIND = ("reviewer",)
_SECONDS = 3600


class AccessError(ValueError):
    """The file of roles cannot be used; the message says what, where and the remedy."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Role(_Strict):
    """Who has a role, and what it sees.

    accounts: e-mail addresses or subjects (`sub`) of the login, whatever their case. claims:
    {claim: values}, one of which the login has to carry; a claim within another is written with
    dots. pages, patients: only to depart from the built-in role of this name.
    """

    accounts: tuple[str, ...] = ()
    claims: dict[str, tuple[str, ...]] = {}
    pages: tuple[str, ...] | None = None
    patients: bool | None = None

    @field_validator("pages")
    @classmethod
    def _known(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for page in value or ():
            if page not in PAGES:
                raise ValueError(f"there is no page '{page[:40]}'; there are {', '.join(PAGES)}")
        if value == ():
            raise ValueError("a role needs at least one page")
        return value


@dataclass(frozen=True)
class Visitor:
    """Who looks at the app. account: as the audit log names them. patients: may see single ones."""

    account: str
    roles: tuple[str, ...]
    pages: tuple[str, ...]
    patients: bool

    @property
    def role(self) -> str:
        """'clinician', 'clinician, researcher', or '' where there are no roles."""
        return ", ".join(self.roles)


LOCAL = Visitor("local", (), tuple(PAGES), True)
"""Whoever opens the app where no login is configured."""


class Access(_Strict):
    """The file of roles."""

    contact: Annotated[str, Field(min_length=1, max_length=200)]
    login_hours: Annotated[float, Field(gt=0, le=24 * 30)] = 12
    roles: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_ -]{0,30}$")], Role]
    everybody: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> Access:
        if not self.roles and self.everybody is None:
            raise ValueError("name at least one role, or a role of everybody")
        for name in (*self.roles, *([self.everybody] if self.everybody else [])):
            role = self.roles.get(name, Role())
            if role.pages is None and name not in BUILT_IN:
                raise ValueError(
                    f"role '{name}' is none of {', '.join(BUILT_IN)}, so it has to list its pages"
                )
            single = [p for p in self._pages(name) if p in OF_SINGLE_PATIENTS]
            if single and not self._patients(name):
                raise ValueError(
                    f"role '{name}' sees no single patients, but has the page '{single[0]}', "
                    "which shows nothing else"
                )
        return self

    def admit(self, claims: Mapping[str, Any]) -> Visitor | None:
        """Who a login is, or None where it has no role here.

        An e-mail address that the provider says is not verified (`email_verified: false`) counts
        for nothing: anybody may have typed it.
        """
        names = {n.casefold() for n in self.names_of(claims)}
        roles = [
            name
            for name, role in self.roles.items()
            if names & {a.casefold() for a in role.accounts} or _carries(claims, role.claims)
        ]
        if not roles and self.everybody is not None:
            roles = [self.everybody]
        if not roles:
            return None
        seen = {page for name in roles for page in self._pages(name)}
        return Visitor(
            account=account_of(claims),
            roles=tuple(roles),
            pages=tuple(page for page in PAGES if page in seen),
            patients=any(self._patients(name) for name in roles),
        )

    def expired(self, claims: Mapping[str, Any], now: float) -> bool:
        """Whether the login is older than login_hours, by its `iat` (seconds since 1970).

        Streamlit's cookie lives for 30 days; an account closed meanwhile would live on in it.
        """
        made = claims.get("iat")
        if isinstance(made, bool) or not isinstance(made, int | float):
            return True
        return now - made > self.login_hours * _SECONDS

    @staticmethod
    def names_of(claims: Mapping[str, Any]) -> tuple[str, ...]:
        """E-mail address, where it may be believed, and subject of a login."""
        email, subject = claims.get("email"), claims.get("sub")
        believed = str(claims.get("email_verified", True)).lower() != "false"
        found = [email if believed else None, subject]
        return tuple(n.strip() for n in found if isinstance(n, str) and n.strip())

    def _pages(self, name: str) -> tuple[str, ...]:
        own = self.roles[name].pages if name in self.roles else None
        return BUILT_IN[name] if own is None else own

    def _patients(self, name: str) -> bool:
        own = self.roles[name].patients if name in self.roles else None
        return name not in _BLIND if own is None else own


def account_of(claims: Mapping[str, Any]) -> str:
    """What an account is called: its e-mail address, or its subject."""
    return next(iter(Access.names_of(claims)), "an account without a name")


class AccessFile:
    """The file of roles, read again whenever it was changed: a role taken away is gone at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._access: Access | None = None

    @cached_property
    def path(self) -> Path:
        """Where it is."""
        return Path(self._path).absolute()

    def read(self) -> Access:
        """Its content now. Raises AccessError; what held before does not hold on."""
        try:
            found = self.path.stat()
        except OSError as error:
            raise AccessError(
                f"{self.path}: roles cannot be read ({error.strerror}); name the file with "
                "--access."
            ) from error
        stamp = (found.st_mtime_ns, found.st_size)
        if self._access is None or stamp != self._stamp:
            self._access = None
            self._access = read_access(self.path)
            self._stamp = stamp
        return self._access


def read_access(path: Path) -> Access:
    """Read and check a file of roles. Raises AccessError."""
    try:
        content = read_plain_yaml(path)
    except OSError as error:
        raise AccessError(f"{path}: roles cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise AccessError(
            f"{path}: not readable as a file of roles ({error}); README.md shows an example."
        ) from error
    try:
        return Access.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        words = str(first["msg"]).removeprefix("Value error, ")
        raise AccessError(f"{path}: {f'{where}: ' if where else ''}{words}.") from error


def _carries(claims: Mapping[str, Any], wanted: Mapping[str, Sequence[str]]) -> bool:
    """Whether a login has one of the values of one of the claims."""
    return any(_values(claims, name) & set(values) for name, values in wanted.items())


def _values(claims: Mapping[str, Any], name: str) -> set[str]:
    found: Any = claims.get(name)
    if found is None:
        found = claims
        for part in name.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, list | tuple | set):
        return {str(v) for v in found if isinstance(v, str | int)}
    return {str(found)} if isinstance(found, str | int) else set()
