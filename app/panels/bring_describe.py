"""model.yaml: chosen in a form that writes it, or taken and edited as text."""

from __future__ import annotations

from typing import Any

import streamlit as st

from analysis.cohort.cohort import Cohort
from app import theme
from app.bring.description import NAME, Form, Part, encoders_for, read_rules
from app.bring.inbox import DESCRIPTIONS
from app.bring.visit import Desk
from app.figures.text import markdown
from app.panels.bring_source import keep, start
from app.workspace import WorkspaceError
from models.contracts import Kind
from models.fusion.base import STRATEGIES
from models.importing.source import WEIGHT_SUFFIXES

WAYS = {"form": "Form", "text": "Text"}
WITHIN = "bring within"
_TEXT = "bring text"
_INSIDE = "in the checkpoint"
_LEARNT = "learnt on the training patients"
_MOST_BYTES = 1 << 20


def describe(desk: Desk) -> str | None:
    """The text of model.yaml, or None while it cannot be written."""
    start("bring describe", desk, list(WAYS), "form")
    way = keep(
        "bring describe",
        desk,
        st.segmented_control(
            "Describe the model in a",
            list(WAYS),
            format_func=WAYS.__getitem__,
            required=True,
            key="bring describe",
        ),
    )
    return _form(desk) if way == "form" else _text(desk)


def _select(
    desk: Desk, key: str, label: str, options: list[Any], default: Any = None, **more: Any
) -> Any:
    start(key, desk, options, default if default in options else options[0])
    return keep(key, desk, st.selectbox(label, options, key=key, **more))


def _type(desk: Desk, key: str, label: str, **more: Any) -> str:
    st.session_state.setdefault(key, desk.visit.kept.get(key, ""))
    return str(keep(key, desk, st.text_input(label, key=key, **more))).strip()


# ---------------------------------------------------------------- form


def _form(desk: Desk) -> str | None:
    cohorts = {e.folder.name: e.cohort for e in desk.workspace.cohorts() if e.cohort is not None}
    if not cohorts:
        st.info(
            "A run needs a cohort to predict on, and this workspace has none that can be read; "
            "'fusionlens import' makes one of your data."
        )
        return None
    left, right = st.columns([3, 2], gap="large")
    with left:
        form = _fields(desk, cohorts)
    with right:
        st.caption(f"{NAME}, as the form writes it")
        if form is None:
            return None
        text = form.as_yaml
        st.code(text, language="yaml", wrap_lines=True)
        with st.container(horizontal=True, gap="small"):
            st.button(
                "Edit as text", on_click=_edit, args=[desk, text], icon=":material/edit:",
                type="tertiary", key="bring edit",
            )  # fmt: skip
            st.download_button(
                f"Download {NAME}", text, NAME, "application/yaml", on_click="ignore",
                type="tertiary", icon=":material/download:", key="bring yaml",
            )  # fmt: skip
    return text


def _edit(desk: Desk, text: str) -> None:
    desk.visit.text, desk.visit.beside = text, None
    st.session_state[_TEXT] = text
    st.session_state["bring describe"] = "text"


def _fields(desk: Desk, cohorts: dict[str, Cohort]) -> Form | None:
    one, two = st.columns(2)
    with one:
        cohort = _select(
            desk, "bring cohort", "Cohort", list(cohorts),
            format_func=lambda name: f"{cohorts[name].spec.title} [{name}]",
        )  # fmt: skip
    spec = cohorts[cohort].spec
    with two:
        task = _select(
            desk, f"bring task {cohort}", "Task", list(spec.tasks),
            format_func=lambda name: spec.tasks[name].title,
        )  # fmt: skip
    with one:
        strategy = _select(
            desk, "bring strategy", "Fusion strategy", list(STRATEGIES), "late",
            format_func=lambda name: f"{STRATEGIES.get(name).title} [{name}]",
        )  # fmt: skip
    with two:
        title = _type(desk, "bring title", "Title (may be empty)")
    names = list(spec.modalities)
    key = f"bring modalities {cohort}"
    st.session_state.setdefault(key, desk.visit.kept.get(key, names))
    chosen = st.multiselect(
        "Modalities, in the order of the model",
        names,
        format_func=lambda name: f"{spec.modalities[name].title} [{name}]",
        key=key,
    )
    keep(key, desk, chosen)
    parts = {name: _part(desk, cohorts[cohort], cohort, name) for name in chosen}
    rename, within, baseline = _details(desk, spec.tasks[task].kind == "survival")
    if not chosen:
        st.info("Choose the modalities that the model reads.")
        return None
    try:
        rules = read_rules(rename)
    except WorkspaceError as error:
        st.error(markdown(str(error)))
        return None
    return Form(title, f"cohorts/{cohort}", task, strategy, parts, rules, within, baseline)


def _part(desk: Desk, cohort: Cohort, folder: str, name: str) -> Part:
    """One modality: its encoder, and what comes with it."""
    spec = cohort.spec.modalities[name]
    stored = _stored(desk, spec.kind)
    options = [*encoders_for(spec), *stored]
    key = f"{folder} {name}"
    left, right = st.columns(2)
    with left:
        encoder = _select(
            desk, f"bring encoder {key}", f"Encoder of {markdown(spec.title)}", options,
            format_func=lambda e: f"{'stored' if e in stored else theme.encoder_title(e)} [{e}]",
        )  # fmt: skip
    if encoder in stored:
        return Part(encoder, stored=True)
    vocabulary = _INSIDE
    with right:
        files = [_INSIDE, *_weights(desk)]
        weights = _select(desk, f"bring weights {key}", f"Weights of {markdown(spec.title)}", files)
    if spec.kind is Kind.EVENTS:
        codes = [_LEARNT, *_vocabularies(desk)]
        vocabulary = _select(
            desk, f"bring codes {key}", f"Codes of {markdown(spec.title)}", codes,
            help="The codes the model was trained with, as a JSON list or a run's "
            "vocabulary.json; without them they are learnt on the cohort's training patients, "
            "which fits only where the model was trained on the same.",
        )  # fmt: skip
    return Part(
        encoder,
        vocabulary="" if vocabulary in (_LEARNT, _INSIDE) else vocabulary,
        weights="" if weights == _INSIDE else weights,
    )


def _stored(desk: Desk, kind: Kind) -> list[str]:
    """Hashes of the workspace's stored encoders that runs use for modalities of a kind."""
    found: dict[str, None] = {}
    for entry in desk.workspace.runs():
        for modality in entry.config.modalities.values() if entry.config else ():
            if modality.encoder.weights is not None and modality.kind is kind:
                found[modality.encoder.weights] = None
    return list(found)


def _weights(desk: Desk) -> list[str]:
    """Other files with weights, which may be an encoder's own."""
    inbox = [n for n in desk.inbox.checkpoints() if n.endswith(WEIGHT_SUFFIXES)]
    mine = [n for n in desk.mine.files if n.endswith(WEIGHT_SUFFIXES)]
    return [*dict.fromkeys([*mine, *inbox])]


def _vocabularies(desk: Desk) -> list[str]:
    mine = [n for n in desk.mine.companions() if n.endswith(".json")]
    inbox = [n for n in desk.inbox.companions() if n.endswith(".json")]
    runs = [
        f"runs/{entry.folder.name}/vocabulary.json"
        for entry in desk.workspace.runs()
        if (entry.folder / "vocabulary.json").is_file()
    ]
    return [*dict.fromkeys([*mine, *inbox, *runs])]


def _details(desk: Desk, survival: bool) -> tuple[str, str, str]:
    """Rename rules, where the weights lie, and the baseline hazard."""
    st.session_state.setdefault("bring rename", desk.visit.kept.get("bring rename", ""))
    rename = keep(
        "bring rename",
        desk,
        st.text_area(
            "Rename rules, one a line, in order",
            placeholder="ct_net. -> encoders.ct.\n/^fusion\\.(head|gate)\\./ -> strategy.\\1.",
            help="Found at the beginning of a tensor's name -> what takes its place; between "
            "slashes a regular expression. In the model, encoders are called encoders.MODALITY. "
            "and the fusion strategy. What wrappers put before a name is taken off by itself.",
            height=90,
            key="bring rename",
        ),
    )
    baseline = ""
    with st.expander("Rarely needed: where in the file the weights lie, the baseline hazard"):
        within = _type(
            desk, WITHIN, "Where in the file the weights lie",
            help="With dots, for example ema.model; only for a file that holds several.",
        )  # fmt: skip
        if survival:
            files = [n for n in _files(desk) if n.endswith("baseline_hazard.parquet")]
            chosen = _select(desk, "bring baseline", "Baseline hazard", [_LEARNT, *files])
            baseline = "" if chosen == _LEARNT else chosen
    return rename, within, baseline


def _files(desk: Desk) -> list[str]:
    return [*dict.fromkeys([*desk.mine.companions(), *desk.inbox.companions()])]


# ---------------------------------------------------------------- text


def _text(desk: Desk) -> str:
    found = desk.inbox.descriptions() if desk.inbox.is_there else {}
    one, two = st.columns(2)
    with one:
        names = list(found)
        name = st.selectbox(
            f"{NAME} in the inbox",
            names,
            index=None,
            placeholder="Choose one to edit it here" if names else "There is none",
            disabled=not names,
            key="bring yaml inbox",
        )
        st.button(
            "Take it", disabled=name is None, key="bring take yaml",
            on_click=_take, args=[desk, found.get(name or "")],
        )  # fmt: skip
    with two:
        st.file_uploader(
            f"Upload {NAME}",
            type=[suffix[1:] for suffix in DESCRIPTIONS],
            max_upload_size=1,
            key="bring yaml upload",
            on_change=_read,
            args=[desk],
        )
    for refused in desk.visit.refused:
        st.error(markdown(refused))
    st.session_state.setdefault(_TEXT, desk.visit.text)
    desk.visit.text = st.text_area(
        NAME,
        height=380,
        key=_TEXT,
        help="The cohort is named as cohorts/NAME of this workspace. Other files are those that "
        "you uploaded, by their names, and those beside this file in the inbox.",
    )
    return desk.visit.text


def _take(desk: Desk, path: Any) -> None:
    """Take a description of the inbox over into the text."""
    if path is not None and desk.inbox.inside(path):
        _set(desk, path.read_bytes() if path.stat().st_size <= _MOST_BYTES else None)
        desk.visit.beside = path.parent


def _read(desk: Desk) -> None:
    """Take an uploaded description over into the text."""
    given = st.session_state["bring yaml upload"]
    if given is not None:
        _set(desk, given.getvalue() if given.size <= _MOST_BYTES else None)
        desk.visit.beside = None


def _set(desk: Desk, content: bytes | None) -> None:
    desk.visit.refused = []
    try:
        text = (content or b"").decode("utf-8")
    except UnicodeDecodeError:
        content, text = None, ""
    if content is None:
        desk.visit.refused = [f"{NAME}: is no text of at most 1 MB; choose another file."]
        return
    desk.visit.text = st.session_state[_TEXT] = text
