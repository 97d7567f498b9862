"""Heavy content of a viewer goes to the browser once, in a message of its own.

A viewer is two mounts of one component: the first gets the view (small, at every rerun), the
second, which shows nothing, the content (large) the first time and its receipt afterwards. A
browser that no longer has the content says so, and it is sent again.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app.panels.ct_viewer import frame

_HELD = "_viewer_content_held"


@dataclass(frozen=True)
class Content:
    """What is sent once. message holds it, receipt only names it; digest: of all of it."""

    digest: str
    message: bytes
    receipt: bytes


def content(header: Mapping[str, Any], blobs: Sequence[bytes]) -> Content:
    """Named by the SHA-256 of the header and the blobs, so that equal content is sent once."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for blob in blobs:
        digest.update(blob)
    name = digest.hexdigest()[:32]
    return Content(
        digest=name,
        message=frame({**header, "kind": "content", "digest": name}, blobs),
        receipt=frame({"kind": "held", "digest": name}, []),
    )


def show(component: Any, key: str, view: bytes, heavy: Content, state: Sequence[str]) -> Any:
    """Mount the view and, unseen, its content; gives the component's state.

    state: the names of what the component reports; each is told to Python when it changes.
    """
    held: list[str] = st.session_state.setdefault(_HELD, [])
    callbacks = {f"on_{name}_change": _nothing for name in state}
    with st.container(key=f"{key}-frame", gap=None):
        told = component(key=key, data=view, **callbacks)
        sent = heavy.digest in held
        component(
            key=f"{key}-content",
            data=heavy.receipt if sent else heavy.message,
            on_lost_change=functools.partial(held.clear),
        )
        if not sent:
            held.append(heavy.digest)
    return told


def _nothing() -> None:
    """Streamlit tells a component's state only to those who give a callback."""
