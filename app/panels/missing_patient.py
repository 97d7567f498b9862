"""What would the run say of one patient with less?"""

from __future__ import annotations

from urllib.parse import urlencode

import streamlit as st

from analysis.attribution.case import AttributionError
from app import theme
from app.figures import fewer as figures
from app.figures.text import listed, markdown
from app.modalities import ModalityDesk
from app.panels import address, audited, figure, frame
from app.patients import PatientDesk
from app.workspace import Task
from models.checkpoint import Run


def show(desk: ModalityDesk, patients: PatientDesk, task: Task, run: Run, split: str) -> None:
    """A patient of the split, or of the address, under every combination of what they have."""
    if frame.blind("What the run would say of one patient with less is"):
        return
    cohort = desk.workspace.cohort(task.cohort)
    ids = [str(i) for i in cohort.subject_ids(split, task.name)]
    asked = st.query_params.get("patient")
    if asked is not None and asked in {str(i) for i in cohort.subjects.index}:
        ids = list(dict.fromkeys([*ids, asked]))
    key = f"missing patient {task.key} {split}"
    address.start("patient", key, ids, ids[0], "patient")
    subject = st.selectbox("Patient", ids, key=key)
    address.keep("patient", subject)
    audited.opened("patient", task, [int(subject)], [run.config.name], "with less")
    try:
        case = patients.case(task, run, int(subject))
    except AttributionError as error:
        st.info(markdown(str(error)))
        return
    answer = desk.patient(case)
    titles = answer["modalities"]
    rows = answer["rows"]
    if len(answer["present"]) > 3:
        m = len(answer["present"])
        short = [r for r in rows if len(r["modalities"]) in (m, m - 1, 1, 0)]
        every = st.segmented_control(
            "Combinations",
            [False, True],
            default=False,
            required=True,
            format_func=lambda all_: (
                f"all {len(rows)}" if all_ else f"all but one, each alone, nothing ({len(short)})"
            ),
            key=f"missing patient list {task.key}",
        )
        rows = rows if every else short
    lacks = [titles[n] for n in answer["absent"]]
    words = (
        f"The patient lacks **{markdown(listed(lacks))}**, so no row can tell it."
        if lacks
        else "The patient has everything that the run reads."
    )
    query = urlencode({"task": task.key, "patient": subject, "strategy": run.config.name})
    st.markdown(f"{words} [Open the Patient page](patient?{query})")
    figure.show(
        figures.patient(answer, rows, theme.run_style(run.config).colour),
        figures.patient_frame(answer),
        f"without {run.config.name}",
        alt="What the run says of the patient under each combination of their modalities",
        file=f"without {run.config.name} {subject}",
    )
    st.caption(
        "Dark: told to the run; pale: the patient has it, and it is hidden. The dashed line is the "
        "prediction from all that is there, the one that every page shows. A change says what this "
        "run makes of a modality, not what the modality does to the patient."
    )
