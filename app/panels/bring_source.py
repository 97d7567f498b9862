"""Which checkpoint: from the inbox or uploaded, and what lies in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from app.bring.belongings import ACCEPTED
from app.bring.importer import Importer
from app.bring.visit import Desk, Source
from app.figures.text import count, listed, markdown
from app.panels import figure, frame
from app.workspace import WorkspaceError

POLL_SECONDS = 0.7
WAYS = {"inbox": "On the server", "upload": "Upload"}
_MOST_PARTS = 8


def choose(desk: Desk) -> Source | None:
    """The chosen checkpoint, or None."""
    found = desk.inbox.checkpoints() if desk.inbox.is_there else {}
    start("bring way", desk, list(WAYS), "inbox" if found else "upload")
    way = keep(
        "bring way",
        desk,
        st.segmented_control(
            "Where it is", list(WAYS), format_func=WAYS.__getitem__, required=True, key="bring way"
        ),
    )
    try:
        if way == "inbox":
            name = _from_inbox(desk, list(found))
            return Source.of(name, found[name]) if name else None
        label = _uploaded(desk)
        return Source.of(label, desk.mine.source(label)) if label else None
    except WorkspaceError as error:
        st.error(markdown(str(error)))
        return None


def start(key: str, desk: Desk, options: list[Any], default: Any) -> None:
    """Set a control before it is drawn to what it was on an earlier visit of the page."""
    if st.session_state.get(key) not in options:
        kept = desk.visit.kept.get(key)
        st.session_state[key] = kept if kept in options else default


def keep(key: str, desk: Desk, value: Any) -> Any:
    """Remember what a control was set to."""
    desk.visit.kept[key] = value
    return value


def _from_inbox(desk: Desk, names: list[str]) -> str | None:
    if not names:
        st.info(
            "There is nothing to choose from. Whoever runs this app names a folder of "
            "checkpoints with 'fusionlens app --inbox FOLDER'; without it, it is the folder "
            "'inbox' of the workspace."
        )
        return None
    start("bring inbox", desk, [None, *names], None)
    chosen: str | None = st.selectbox(
        "Checkpoint in the inbox",
        names,
        index=None,
        placeholder=f"Choose one of {count(len(names), 'checkpoint')}",
        key="bring inbox",
    )
    return keep("bring inbox", desk, chosen)


def _uploaded(desk: Desk) -> str | None:
    most = int(st.get_option("server.maxUploadSize"))
    given = st.file_uploader(
        "Upload a checkpoint: one file, or an index with all its shards",
        type=[suffix[1:] for suffix in ACCEPTED],
        accept_multiple_files=True,
        help="A vocabulary (.json) or baseline hazard (.parquet) that the description names can "
        "come along.",
        key=f"bring upload {desk.visit.uploads}",
    )
    st.caption(
        f"{listed(list(ACCEPTED))}; at most {most:,} MB a file. Larger ones, and folders of "
        "distributed checkpoints, go into the inbox. Nothing in a file is run; uploads are "
        "deleted once they are imported, or when you leave."
    )
    if given:
        _take(desk, given)
        # A new uploader: the old one would keep every byte in the memory of the server.
        desk.visit.uploads += 1
        st.rerun()
    for refused in desk.visit.refused:
        st.error(markdown(refused))
    files = desk.mine.files
    if not files:
        return None
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        sizes = [f"{markdown(f.name)} ({f.size / 1e6:,.1f} MB)" for f in files.values()]
        st.markdown(f"Uploaded: {', '.join(sizes)}.", width="content")
        if st.button("Remove", key="bring remove", type="tertiary", icon=":material/delete:"):
            desk.mine.clear()
            st.rerun()
    labels = desk.mine.checkpoints()
    if not labels:
        st.info("None of these files holds weights; add the checkpoint.")
        return None
    if len(labels) == 1:
        return labels[0]
    start("bring uploaded", desk, labels, labels[0])
    return keep(
        "bring uploaded",
        desk,
        st.selectbox("Which of them is the checkpoint", labels, key="bring uploaded"),
    )


def _take(desk: Desk, given: list[Any]) -> None:
    desk.visit.refused = []
    for file in given:
        try:
            desk.mine.take(file.name, file, file.size)
        except (WorkspaceError, OSError) as error:
            desk.visit.refused.append(str(error))


# ---------------------------------------------------------------- what lies in it


def contents(desk: Desk, source: Source, within: str) -> Mapping[str, Any] | None:
    """Show what lies in the checkpoint; None while nobody knows, or when it was refused."""
    name = desk.look(source, within)
    job = desk.importer.job(name)
    if job is None:
        desk.visit.looked_at = None
        st.rerun()
    if not job.over:
        waiting(desk.importer, name, f"Looking into {source.name}")
        return None
    if job.answer is None:
        st.error(f"**Refused.** {markdown(desk.in_words(job.error or ''))}")
        return None
    _show(source, job.answer)
    return job.answer


def _show(source: Source, told: Mapping[str, Any]) -> None:
    tensors = told["tensors"]
    where = f", weights at {markdown(told['within'])}" if told["within"] else ""
    parts = sorted(told["parts"].items(), key=lambda part: -part[1])
    named = ", ".join(f"{markdown(n)} ({k:,})" for n, k in parts[:_MOST_PARTS])
    more = f" and {len(parts) - _MOST_PARTS} more" if len(parts) > _MOST_PARTS else ""
    st.markdown(
        f"**{markdown(source.name)}**: {markdown(told['form'])}{where}; "
        f"{count(len(tensors), 'tensor')}, {count(told['numbers'], 'number')}. Their names begin "
        f"with {named}{more}."
    )
    if told["looks_like"]:
        st.info(f"It looks like {markdown(told['looks_like'])}.", icon=":material/travel_explore:")
    with st.expander("All tensors and hyperparameters in the file"):
        _details(source, told)


def _details(source: Source, told: Mapping[str, Any]) -> None:
    rows = pd.DataFrame(
        {
            "Tensor": [t["name"] for t in told["tensors"]],
            "Shape": [" × ".join(map(str, t["shape"])) or "one number" for t in told["tensors"]],
            "Type": [t["type"] for t in told["tensors"]],
        }
    )
    st.dataframe(rows, hide_index=True, height=300, alt="Tensors of the checkpoint", key="bring in")
    figure.csv(rows, "bring contents", file=f"{source.name} tensors")
    if told["hyperparameters"]:
        st.caption("Hyperparameters that the file notes")
        text = json.dumps(told["hyperparameters"], indent=2, ensure_ascii=False)
        st.code(text, language=None, height=240)
    else:
        st.caption("The file notes no hyperparameters.")


# ---------------------------------------------------------------- waiting


def waiting(importer: Importer, name: str, what: str) -> None:
    """How far a job is, with a way to stop it; the page is drawn anew when it is over."""
    frame.fragment(partial(_watch, importer, name, what), every=POLL_SECONDS)


def _watch(importer: Importer, name: str, what: str) -> None:
    job = importer.job(name)
    if job is None or job.over:
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(min(job.share, 1.0), text=f"{markdown(what)}: {markdown(job.words)}.")
        _stop(f"stop {name}", partial(importer.stop, name))


def _stop(key: str, stop: Callable[[], None]) -> None:
    st.button("Stop", key=key, on_click=stop, type="tertiary", icon=":material/stop_circle:")
