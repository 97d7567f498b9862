"""The picture of all embeddings before and after alignment, and one patient in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from analysis.representation.patient import PatientRows, patient_rows
from analysis.representation.population import Population, outcome_words
from analysis.representation.projection import TITLES, Method, Projection, find_projection
from analysis.representation.quality import PICTURE_METRICS
from analysis.representation.stored import coordinates, drawable, projection_key
from app.figures import patient_rows as rows_figures
from app.figures import representation as figures
from app.figures.text import count, markdown, number
from app.panels import address, audited, figure, frame
from app.workspace import Task, Workspace

SEED = 0
NOBODY = "nobody"
POLL_SECONDS = 0.7
_PATIENT = "represent patient"
_PAIRS = 3  # pairs of modalities that are told one by one
_SCALES = {"as_given": "as given", "standardised": "standardised over patients"}


def choose_method() -> Method:
    """Which picture; kept in the address."""
    names = [str(m) for m in Method]
    address.start("picture", "represent method", names, names[0], "picture")
    method = st.segmented_control(
        "Picture", names, format_func=lambda m: TITLES[Method(m)], required=True,
        key="represent method",
    )  # fmt: skip
    address.keep("picture", method or names[0])
    return Method(method or names[0])


def _colour(people: Population) -> str:
    """What the points are coloured by; kept in the address."""
    options = colourings(people)
    key = f"represent colour {' '.join(options)}"
    address.start("colour", key, options, options[0], "colour")
    colour = st.segmented_control(
        "Colour by", options, format_func=lambda c: _colouring(c, people), required=True,
        key=key,
    )  # fmt: skip
    address.keep("colour", colour or options[0])
    return colour or options[0]


def colourings(people: Population) -> list[str]:
    """What these patients can be told apart by."""
    found = ["modality", "outcome"]
    if people.run.config.task.kind == "survival":
        found.append("time_days")
    found.append("prediction")
    found += [c for c in ("site", "split") if people.people[c].nunique() > 1]
    return found


def pending(workspace: Workspace, people: Population, method: Method) -> bool:
    """Whether the picture has to be waited for; it is asked for here if it is not stored."""
    parameters = projection_key(people, method, SEED)
    if workspace.store.has(parameters):
        return False
    drawn, _ = drawable(people)
    if not drawn:
        return False
    projector = frame.projector()
    job = projector.job(parameters)
    if job is None:
        vectors = {name: stage.points.vectors for name, stage in drawn.items()}
        projector.ask(parameters, vectors, method, SEED)
    return job is None or job.error is None


def show(
    workspace: Workspace, task: Task, people: Population, method: Method, waiting: bool
) -> None:
    """The picture with its quality, or how far it is; then one patient's rows.

    waiting: whether the page was drawn while the picture was being made.
    """
    parameters = projection_key(people, method, SEED)
    made = find_projection(workspace.store, parameters)
    if made is not None and waiting:
        # Finished since: the page once more as a whole, without asking again and again.
        st.rerun()
    left, right = st.columns(2)
    with left:
        colour = _colour(people)
    with right:
        patient = _patient(people)
    name = people.run.config.name
    audited.listed("picture", task, [name], "picture of all patients", by=colour)
    if patient is not None:
        audited.opened("patient", task, [patient], [name], "embeddings")
        if "patient" in audited.visitor().pages:
            _link(people, patient)
    if made is None:
        _wait(people, method, parameters)
    else:
        _draw(task, people, made, method, colour, patient)
    if patient is not None:
        _rows(people, patient)


def _wait(people: Population, method: Method, parameters: Mapping[str, Any]) -> None:
    drawn, why = drawable(people)
    if not drawn:
        reasons = " ".join(dict.fromkeys(why.values()))
        st.info(f"There is no picture: {markdown(reasons)}")
        return
    job = frame.projector().job(parameters)
    if job is None:
        # Finished between the two questions, or the app was started anew.
        st.rerun()
    elif job.error is not None:
        st.error(f"The picture could not be made: {markdown(job.error)}")
    else:
        points = sum(len(stage.points) for stage in drawn.values())
        st.progress(
            job.share,
            text=f"{TITLES[method]} of {count(points, 'embedding')}: {markdown(job.words)}. It is "
            "made in the background and stored: you can leave this page meanwhile.",
        )


def _draw(
    task: Task,
    people: Population,
    made: Projection,
    method: Method,
    colour: str,
    patient: int | None,
) -> None:
    named = figures.Named(people.titles, _prediction(people), task.event_title or "event")
    points = coordinates(people, made)
    name = f"representation {people.run.config.name} {'-'.join(people.splits)} {method}"
    figure.show(
        figures.picture(points, made.limit, named, colour, patient),
        figures.picture_frame(points, named),
        "representation picture",
        file=name,
        alt=f"{TITLES[method]} of every embedding before and after alignment, coloured by "
        f"{_colouring(colour, people).lower()}",
        on_point=_choose,
    )
    st.caption(_caption(people, made, method))
    for stage, reason in drawable(people)[1].items():
        st.info(f"{figures.STAGE_TITLES[stage]} there is no picture: {markdown(reason)}")


def _caption(people: Population, made: Projection, method: Method) -> str:
    settings = made.settings
    how = (
        f"perplexity {settings['perplexity']:.0f}, {settings['steps']} steps"
        if method is Method.TSNE
        else f"{settings['neighbours']} neighbours, least distance {settings['min_dist']}"
    )
    measures = sorted(PICTURE_METRICS, reverse=True)
    quality = "; ".join(
        f"{stage}: {', '.join(f'{m} {number(told[m])}' for m in measures)}"
        for stage, told in made.quality.items()
    )
    judged = next(iter(made.quality.values()))
    on = "" if judged["points"] == people.n_points else f" on {judged['points']:,} embeddings"
    sample = ""
    if people.n_all - people.n_unread > len(people.people):
        sample = (
            f" Of {count(people.n_all - people.n_unread, 'patient')} a designed sample: every "
            "group by split, outcome and site has its share of it."
        )
    both = (
        "Both panels hold the same points, start from the same places, have the same limits, and "
        "the second is turned as a whole onto the first; axes"
        if len(made.quality) > 1
        else "Axes"
    )
    return (
        f"{TITLES[method]} of {count(people.n_points, 'embedding')} of "
        f"{count(len(people.people), 'patient')}, each of unit length; {how}, seed {SEED}. {both} "
        "and distances between islands have no unit. How far neighbourhoods can be trusted (1 is "
        f"perfect, {judged['neighbours']:.0f} neighbours{on}): {quality}. Click a point to join "
        f"that patient's modalities.{sample}"
    )


# ---------------------------------------------------------------- one patient


def _choose(data: list[Any]) -> None:
    """A click on a point chooses its patient."""
    st.session_state[_PATIENT] = str(int(data[0]))


def _patient(people: Population) -> int | None:
    """The chosen patient, or None."""
    ids = [NOBODY, *(str(i) for i in people.people["subject_id"])]
    address.start("patient", _PATIENT, ids, NOBODY, "patient")
    chosen = st.selectbox(
        "Patient whose modalities are joined (or click a point)", ids, key=_PATIENT
    )
    address.keep("patient", None if chosen == NOBODY else chosen)
    return None if chosen == NOBODY else int(chosen)


def _link(people: Population, patient: int) -> None:
    kept = {k: st.query_params[k] for k in ("workspace", "task") if k in st.query_params}
    st.page_link(
        "views/patient.py",
        label=f"Open patient {patient} on the Patient page",
        icon=":material/arrow_forward:",
        query_params={**kept, "strategy": people.run.config.name, "patient": str(patient)},
    )


def _rows(people: Population, patient: int) -> None:
    st.header(f"Patient {patient}: the embeddings as rows", anchor=False)
    scale = st.segmented_control(
        "Values", list(_SCALES), format_func=_SCALES.__getitem__, default="as_given",
        required=True, key="represent scale",
    )  # fmt: skip
    found = patient_rows(people, patient, scale or "as_given")  # type: ignore[arg-type]
    if not any(one.rows for one in found.values()):
        st.info("This patient has none of the run's modalities.")
        return
    figure.show(
        rows_figures.rows_figure(found, people.titles),
        rows_figures.rows_frame(found, people.titles),
        "representation rows",
        file=f"representation {people.run.config.name} patient {patient}",
        alt=f"Embeddings of patient {patient}, modalities by dimensions, before and after",
    )
    st.caption(
        (
            "Every row is divided by its root mean square, so 1 is a typical size."
            if scale == "as_given"
            else "Every dimension minus its mean over the patients shown who have the modality, "
            "in their sd: what is common to all patients of a modality is gone."
        )
        + " Rows of one colour pattern say the same. Correlations are Pearson's over the "
        "dimensions, mean over pairs of modalities; before alignment dimensions of different "
        "modalities have nothing in common, so they start near 0." + _pairs(found, people.titles)
    )


def _pairs(found: Mapping[str, PatientRows], titles: Mapping[str, str]) -> str:
    """The correlation of every pair, or of the two ends where there are many."""
    told = []
    for stage, one in found.items():
        ordered = sorted(one.correlation.items(), key=lambda pair: -pair[1])
        if len(ordered) < 2:
            continue
        shown = ordered if len(ordered) <= _PAIRS else [ordered[0], ordered[-1]]
        pairs = [f"{titles[a]} and {titles[b]} {number(r, 2)}" for (a, b), r in shown]
        words = ", ".join(pairs) if shown is ordered else f"from {pairs[1]} to {pairs[0]}"
        told.append(f" {stage.capitalize()}: {markdown(words)}.")
    return "".join(told)


def _prediction(people: Population) -> str:
    if people.run.config.task.kind == "survival":
        return f"Risk above that of {people.compared_with}"
    words = outcome_words(people.run)
    return f"Probability of {words[max(words)]}"


def _colouring(colour: str, people: Population) -> str:
    survival = people.run.config.task.kind == "survival"
    words = {
        "modality": "Modality",
        "outcome": "Outcome",
        "time_days": "Time",
        "prediction": "Risk" if survival else "Predicted probability",
        "site": "Site",
        "split": "Split",
    }
    return words[colour]
