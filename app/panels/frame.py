"""What surrounds every page: the workspace, the notice, and failures told in a sentence."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import streamlit as st

from analysis.attribution.case import AttributionError
from analysis.cohort.schema import CohortError
from app import theme
from app.audit.log import AuditError
from app.figures.text import markdown
from app.panels import account, audited, static
from app.patients import PatientDesk
from app.projecting import Projector
from app.turns import share_the_interpreter
from app.workspace import Workspace, WorkspaceError, warm_up
from models.checkpoint import RunError

VARIABLE = "FUSIONLENS_WORKSPACE"
SLOW_TO_IMPORT = ("analysis.attribution.within", "analysis.attribution.volume", "app.report")
_LOGO = static.FOLDER / "logo.svg"
# Streamlit leaves a hand's breadth of nothing above and below a page.
_LAYOUT = """
[data-testid="stMainBlockContainer"] {
  padding-top: 4.5rem; padding-bottom: 2rem; max-width: 1500px;
}
.st-key-returning { display: none; }
"""
log = logging.getLogger(__name__)


def begin() -> None:
    """Page settings and the notice; compiling what is slow on first use starts here."""
    st.set_page_config(page_title=theme.APP_NAME, layout="wide")
    st.logo(str(_LOGO), size="large")
    st.html(f"<style>{_LAYOUT}</style>")
    _warm_up_once()


@contextmanager
def around() -> Iterator[None]:
    """The frame of a page. What goes wrong inside is said in words, never as a traceback."""
    with told():
        yield
    _footer()


def fragment(draw: Callable[[], None], every: float | None = None) -> None:
    """Draw a part of a page that reruns alone, and then without the page's frame around it.

    every: seconds after which it reruns by itself, again and again.
    """

    def guarded() -> None:
        with told():
            if not account.unchanged():
                st.rerun()  # the whole page, which then says why
            draw()

    st.fragment(guarded, run_every=every)()


@contextmanager
def told() -> Iterator[None]:
    """Failures inside become a sentence on the page; the terminal gets the details."""
    try:
        yield
    except (WorkspaceError, CohortError, RunError, AttributionError, AuditError) as error:
        st.error(markdown(str(error)))
    except Exception:
        log.exception("a page failed")
        st.error(
            "This page could not be finished because of an error in the program. The terminal "
            "that runs the app has the details; the other pages go on working."
        )


def title(question: str, explanation: str) -> None:
    """The page's question, one line on how it is answered, and the notice."""
    with st.container(
        horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"
    ):
        st.title(question, anchor=False, width="content")
        with st.container(horizontal=True, width="content", vertical_alignment="center"):
            st.badge(theme.NOTICE, color="orange")
            account.menu()
    st.caption(explanation)


def not_for_this_role(page: str) -> None:
    """The page of an address that this visitor may not open; the attempt is logged."""
    role = audited.visitor().role
    title(f"{page} is not for this role", "")
    st.warning(
        f"The role {markdown(role)} does not have the page {page}, so nothing of it is shown. "
        "Those in the menu above are yours."
    )
    audited.once("refused", "page", part=page.lower())


def blind(what: str) -> bool:
    """Whether this visitor sees no single patients; then says what is therefore not shown."""
    if audited.visitor().patients:
        return False
    role = markdown(audited.visitor().role)
    st.info(f"{what} not shown: the role {role} sees cohorts, no single patients.")
    return True


def workspace() -> Workspace:
    """The workspace of this process. Raises WorkspaceError saying what to do without one."""
    folder = os.environ.get(VARIABLE, "").strip()
    if not folder:
        raise WorkspaceError(
            "No workspace was named. Start the app with 'fusionlens app --workspace FOLDER', or "
            f"set {VARIABLE}; 'fusionlens sample FOLDER' makes one with simulated patients."
        )
    return _open(folder)


def projector() -> Projector:
    """Pictures of this workspace's embeddings, made in a process of their own."""
    return _projector(str(workspace().folder))


def desk() -> PatientDesk:
    """Explanations of single patients of this workspace, shared by all sessions."""
    return _desk(str(workspace().folder))


@st.cache_resource(show_spinner=False)
def _desk(folder: str) -> PatientDesk:
    return PatientDesk(_open(folder))


@st.cache_resource(show_spinner=False)
def _projector(folder: str) -> Projector:
    return Projector(_open(folder).store)


@st.cache_resource(show_spinner=False)
def _open(folder: str) -> Workspace:
    return Workspace(Path(folder))


@st.cache_resource(show_spinner=False)
def _warm_up_once() -> threading.Thread:
    share_the_interpreter()
    thread = threading.Thread(target=_warm_up, name="warm-up", daemon=True)
    thread.start()
    return thread


def _warm_up() -> None:
    """What a first visit would wait for: imports of the explanation methods, compiled kernels."""
    for module in SLOW_TO_IMPORT:
        importlib.import_module(module)
    warm_up()
    # Streamlit collects garbage after every script and holds the answer back meanwhile: a third
    # of a second a click over half a million objects of the libraries, which never become garbage.
    gc.collect()
    gc.freeze()


def _footer() -> None:
    st.divider()
    st.caption(f"{theme.APP_NAME}. {theme.NOTICE}")
