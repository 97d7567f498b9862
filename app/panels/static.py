"""Scripts and styles of the components, as text: Streamlit takes them without a build step."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "static"


def text(*names: str) -> str:
    """The files of app/static one after the other; the shared part of a component comes first."""
    return "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in names)
