"""Controls that several pages share: which task, which runs, which section."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import streamlit as st

from analysis.external import without_model
from app.figures.text import listed, markdown
from app.panels import address, frame
from app.workspace import AnyRunT, Task, Workspace, WorkspaceError

Sections = Mapping[str, tuple[str, Callable[[], None]]]
"""{name in the address: (title, what draws it)}."""

_CHOSEN, _ADDRESS = "chosen_task", "task_in_address"


def task(workspace: Workspace, page: str, *kinds: str) -> Task:
    """The task chosen here or in the address (?task=cohort/task), kept from page to page.

    kinds: 'survival' or 'classification', all if empty. page: makes the control this page's own;
    Streamlit forgets what a control of the same key on another page was set to.
    """
    control = f"task control {page}"
    tasks = {t.key: t for t in workspace.tasks(*kinds)}
    if not tasks:
        raise WorkspaceError(
            "No run of this workspace can be shown: it needs a cohort and a run trained for one "
            f"of its {f'{listed(list(kinds))} ' if kinds else ''}tasks. Make one with 'fusionlens "
            "train'; the Overview says what is here."
        )
    asked = st.query_params.get("task")
    fresh = asked is not None and asked != st.session_state.get(_ADDRESS)
    if fresh and asked in tasks:
        st.session_state[_CHOSEN] = asked
        st.session_state.pop(control, None)
    elif fresh and asked in {t.key for t in workspace.tasks()}:
        st.info("The task of the address has no such picture; this page shows another task.")
    elif fresh:
        st.warning(
            f"The address asks for the task {address.told(str(asked))}, which is not in this "
            "workspace."
        )
    wanted = st.session_state.get(_CHOSEN)
    if st.session_state.get(control) not in tasks:
        st.session_state[control] = wanted if wanted in tasks else next(iter(tasks))
    chosen = st.selectbox(
        "Task",
        list(tasks),
        format_func=lambda key: task_title(workspace, tasks[key]),
        key=control,
    )
    st.session_state[_CHOSEN] = st.session_state[_ADDRESS] = chosen
    st.query_params["task"] = chosen
    return tasks[chosen]


def task_title(workspace: Workspace, task: Task) -> str:
    """'Pulmonary embolism: death from any cause'."""
    return f"{workspace.cohort(task.cohort).spec.title}: {task.title}"


def runs(label: str, usable: Sequence[AnyRunT], default: Sequence[str], key: str) -> list[AnyRunT]:
    """Some of the runs, in the order listed."""
    titles = {run.config.name: run.config.title for run in usable}
    chosen = st.pills(
        label,
        list(titles),
        selection_mode="multi",
        default=[name for name in default if name in titles],
        format_func=lambda name: markdown(_unambiguous(name, titles)),
        key=key,
    )
    return [run for run in usable if run.config.name in chosen]


def _unambiguous(name: str, titles: Mapping[str, str]) -> str:
    """The title, with the run's name where two runs share a title."""
    twins = sum(title == titles[name] for title in titles.values())
    return titles[name] if twins == 1 else f"{titles[name]} [{name}]"


def broken(reasons: Mapping[str, str]) -> None:
    """Runs left out, each with its reason."""
    for name, reason in reasons.items():
        st.warning(f"**{markdown(name)}** is left out. {markdown(reason)}")


def without_a_model(workspace: Workspace, task: Task) -> None:
    """Say which of the task's predictions are not offered, because no model came with them."""
    titles = [e.external.title for e in workspace.external_runs(task) if e.external is not None]
    if titles:
        st.caption(markdown(without_model(titles)))


def section(sections: Sections, key: str, opened: Callable[[str], None] | None = None) -> None:
    """Draw one of the sections, the first unless the address or the reader names another.

    Choosing another one reruns this part alone: what stands above stays as it is. opened: gets the
    name of the section before it is drawn.
    """
    address.start("section", key, list(sections), next(iter(sections)), "section")
    frame.fragment(partial(_section, sections, key, opened))


def _section(sections: Sections, key: str, opened: Callable[[str], None] | None) -> None:
    chosen = st.segmented_control(
        "Look at",
        list(sections),
        format_func=lambda name: sections[name][0],
        required=True,
        label_visibility="collapsed",
        key=key,
    )
    chosen = chosen or next(iter(sections))
    address.keep("section", chosen)
    if opened is not None:
        opened(chosen)
    sections[chosen][1]()
