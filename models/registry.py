"""One name, one class, loud when wrong."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Registry(Generic[T]):
    """Classes by name. A second claim to a name fails; an unknown name lists the known ones."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._entries: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator that claims `name`. Raises ValueError when it is taken."""

        def claim(cls: type[T]) -> type[T]:
            if name in self._entries:
                raise ValueError(
                    f"{self.what} '{name}' is already registered by {self._entries[name].__name__}"
                )
            self._entries[name] = cls
            return cls

        return claim

    def get(self, name: str) -> type[T]:
        """The class of that name. Raises KeyError naming the nearest known one."""
        if name not in self._entries and ":" in name:
            raise KeyError(
                f"The {self.what} '{name}' is a class of someone's own; name it with "
                f"--adapter {name} if you trust it."
            )
        if name not in self._entries:
            near = difflib.get_close_matches(name, self._entries, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise KeyError(
                f"Unknown {self.what} '{name}'.{hint} Known: {', '.join(sorted(self._entries))}."
            )
        return self._entries[name]

    def name_of(self, cls: type[T]) -> str:
        """The name a class is registered under."""
        return next(name for name, entry in self._entries.items() if entry is cls)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def __contains__(self, name: object) -> bool:
        return name in self._entries
