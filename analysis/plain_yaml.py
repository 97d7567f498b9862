"""YAML as people write settings: names, numbers, lists, and nothing that could unfold or run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 1 << 20
MOST_PARTS = 100_000


class _Loader(yaml.SafeLoader):
    """Without aliases that make a short text unfold without end, and without names twice."""

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None and _parts(node, {}) > MOST_PARTS:
            raise ValueError("it uses aliases (*name) that unfold without end; write them out")
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(names)) < len(names):
            twice = next(name for at, name in enumerate(names) if name in names[:at])
            raise ValueError(f"it names '{twice}' twice")
        return super().construct_mapping(node, deep)


class _TextLoader(_Loader):
    """Where `yes` and `on` are texts and only `true` and `false` are truth values (YAML 1.2)."""


_BOOL = "tag:yaml.org,2002:bool"
_TextLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_TextLoader.add_implicit_resolver(
    _BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def _parts(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values stand in a node with every alias written out."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = MOST_PARTS + 1  # until it is counted: it may hold itself
        inner = [n for pair in node.value for n in (pair if isinstance(pair, tuple) else (pair,))]
        known[id(node)] = 1 + sum(_parts(n, known) for n in inner)
    return known[id(node)]


def read_plain_yaml(path: Path, yes_is_text: bool = False) -> dict[str, Any]:
    """The named fields of a YAML file. yes_is_text: `yes` is no truth value, but what it says.

    Raises ValueError with the reason in a few words when it is no YAML, has other than named
    fields, is longer than settings are, or holds aliases or a name twice; OSError when it cannot
    be opened.
    """
    if path.stat().st_size > MOST_BYTES:
        raise ValueError("it is longer than settings can be")
    try:
        loader = _TextLoader if yes_is_text else _Loader
        content = yaml.load(path.read_text(encoding="utf-8"), loader)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except (AttributeError, TypeError, LookupError, OverflowError) as error:
        # A value that is tagged as what it is not, such as a date.
        raise ValueError(
            f"a value is not what it is said to be ({type(error).__name__})"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ValueError(f"expected named fields, found {type(content).__name__}")
    return content
