"""Which strategy is shown, and which other run beside it: of the same task or of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from app.counterpart import counterpart
from app.figures.text import markdown
from app.panels import address
from app.panels.patient_header import title_of
from app.workspace import RunEntry, Task, Workspace
from models.checkpoint import Run, RunConfig

NOBODY = "(none)"


@dataclass(frozen=True)
class Beside:
    """A run that may stand beside the first one. own: of the same task."""

    task: Task
    entry: RunEntry
    own: bool

    @property
    def config(self) -> RunConfig:
        """Of a run that could be read; others are not offered."""
        assert self.entry.config is not None
        return self.entry.config

    @property
    def value(self) -> str:
        """In the address: the run's name, or 'task/name' of another task's run."""
        return self.config.name if self.own else f"{self.task.name}/{self.config.name}"

    @property
    def title(self) -> str:
        """The run's title, with its task where that is another one."""
        return self.config.title if self.own else title_of(self.config.title, self.task)


def choose(workspace: Workspace, task: Task) -> list[tuple[Task, Run]]:
    """One strategy, or two runs side by side, each with its task; kept in the address."""
    entries = {e.config.name: e for e in workspace.runs(task) if e.config is not None}
    if not entries:
        st.info("There is no run for this task.")
        return []
    left, right = st.columns(2)
    with left:
        first = Beside(task, entries[_strategy(task, entries)], own=True)
    others = {task: list(entries.values())}
    others |= {other: workspace.runs(other) for other in workspace.other_tasks(task)}
    options = offered(first, others)
    with right:
        second = _second(task, first, options)
    address.keep("strategy", first.value)
    address.keep("compare", None if second is None else second.value)
    chosen: dict[str, tuple[Task, Run]] = {}
    for run in [first] if second is None else [first, second]:
        try:
            if run.config.name in chosen:
                raise ValueError(
                    f"{run.entry.folder / 'config.json'}: has the name '{run.config.name}', as "
                    "has the run beside it; change the field 'name' of one of them."
                )
            chosen[run.config.name] = run.task, workspace.run(run.entry.folder.name)
        except ValueError as error:  # WorkspaceError and RunError
            st.warning(f"**{markdown(run.title)}** is left out. {markdown(str(error))}")
    return list(chosen.values())


def offered(first: Beside, runs: Mapping[Task, Sequence[RunEntry]]) -> dict[str, Beside]:
    """What may stand beside the first run, by its name in the address, in the order of a list.

    The task's own other runs, then those of every other task, its counterpart of `first` leading.
    """
    found: list[Beside] = []
    for task, entries in runs.items():
        own = task == first.task
        readable = [e for e in entries if e.config is not None]
        twin = None if own else counterpart(first.config, readable)
        readable.sort(key=lambda e: e is not twin)
        found += [Beside(task, entry, own) for entry in readable]
    return {b.value: b for b in found if not (b.own and b.config.name == first.config.name)}


def resolved(asked: str, first: Beside, options: Mapping[str, Beside]) -> str:
    """What an address means that names another task alone, or another task's run by its name.

    A task stands for the first run's counterpart under it. Returns `asked` where neither helps.
    """
    if asked in options:
        return asked
    others = [b for b in options.values() if not b.own]
    same = counterpart(first.config, [b.entry for b in others if b.task.name == asked])
    named = [b for b in others if b.entry is same or (same is None and b.config.name == asked)]
    return named[0].value if len(named) == 1 else asked


def _strategy(task: Task, entries: Mapping[str, RunEntry]) -> str:
    titles = {name: entry.config.title for name, entry in entries.items() if entry.config}
    fused = [name for name, entry in entries.items() if not entry.is_unimodal] or list(entries)
    best = max(fused, key=lambda name: entries[name].config.training.tuning_score or 0.0)  # type: ignore[union-attr]
    names = list(entries)
    key = f"strategy {task.key}"
    address.start("strategy", key, names, best, "strategy")
    return str(st.selectbox("Strategy", names, format_func=titles.__getitem__, key=key))


def _second(task: Task, first: Beside, options: Mapping[str, Beside]) -> Beside | None:
    key = f"beside {task.key}"
    asked = st.query_params.get("compare")
    if asked is not None and asked != (meant := resolved(asked, first, options)):
        st.query_params["compare"] = meant
    address.start("compare", key, [NOBODY, *options], NOBODY, "strategy")
    second = st.selectbox(
        "Side by side with",
        [NOBODY, *options],
        format_func=lambda v: "no other strategy" if v == NOBODY else options[v].title,
        key=key,
        help="Another strategy, or the same patient under another task of the cohort."
        if any(not b.own for b in options.values())
        else None,
    )
    for other in dict.fromkeys(b.task for b in options.values() if not b.own):
        twin = counterpart(first.config, [b.entry for b in options.values() if b.task == other])
        value = next((v for v, b in options.items() if b.entry is twin), None)
        if value is not None and value != second:
            st.button(
                f"Same strategy under: {markdown(other.title)}",
                key=f"twin {task.key} {other.key}",
                type="tertiary",
                icon=":material/compare_arrows:",
                on_click=_put,
                args=(key, value),
            )
    return options.get(second)


def _put(key: str, value: str) -> None:
    st.session_state[key] = value
