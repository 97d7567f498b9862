"""Can the maps be believed?"""

from __future__ import annotations

import json

import pandas as pd
import streamlit as st

from analysis.trust.card import card
from analysis.trust.report import report_part, tables
from app import theme
from app.figures.text import count, markdown
from app.panels import choose, figure, frame, trust_card
from app.patients import PatientDesk
from app.workspace import Task, Workspace

COMMON = (
    "**deletion, insertion**: how much faster than in random order the prediction falls when the "
    "strongest parts are removed first, or rises when they are put back first (0: no better than "
    "random; in units of what all parts together do). **random weights**: likeness of the map "
    "after the network's weights were replaced by noise; a map that survives says nothing about "
    "the network. **noise**: rank correlation after a little noise in the input. Brackets: 95% "
    "intervals over patients."
)
HOW_TO_READ = {
    "volume": "**points right**: patients whose strongest point lies in a lesion, grown by one "
    "voxel of the encoder; **chance**: the same for a point anywhere. **energy**: part of the map "
    "inside the lesion, over the lesion's part of the scan (1x: no better than an even map). "
    + COMMON,
    "signal": "**energy in truth**: part of the map inside the waves that carry the outcome in the "
    "patient, such as a widened QRS; **chance**: the same of an even map, their share of the "
    "recorded time. **points right**: patients whose strongest step touches such a wave; **chance "
    "of that**: share of all steps that do. " + COMMON,
    "video": "**energy in truth**: part of the map inside the structures that carry the outcome "
    "in the patient, such as a large left atrium; **chance**: the same of an even map, their share "
    "of the ultrasound sector. **points right**: patients whose strongest cell lies within one "
    "cell of such a structure; **chance of that**: share of all cells that do. " + COMMON,
    "columns": "**AUROC columns, words**: how well the size of a share tells columns, or single "
    "words, that the outcome depends on from others (0.5: chance). " + COMMON,
    "instances": "**AUROC instances**: how well the size of a share tells instances (tiles, cores) "
    "that show a cause of the outcome from others (0.5: chance). " + COMMON,
    "parts": "**AUROC codes, events**: how well the size of a share tells codes, or single "
    "events, that cause the outcome from others (0.5: chance). " + COMMON,
}

_READ_AS = {
    "volume": "volume",
    "signal": "signal",
    "video": "video",
    "table": "columns",
    "text": "columns",
    "bag": "instances",
}


def main() -> None:
    """One run's measurements: a table and a card a modality."""
    frame.title(
        "Can the maps be believed?",
        "Each explanation is checked on test patients: does it point to the truth where the truth "
        "is known, does the prediction follow it, does it depend on the weights, is it stable?",
    )
    workspace = frame.workspace()
    desk = frame.desk()
    task = choose.task(workspace, "trust")
    choose.without_a_model(workspace, task)
    _overview(workspace, desk, task)


def _overview(workspace: Workspace, desk: PatientDesk, task: Task) -> None:
    found = {}
    for entry in workspace.runs(task):
        try:
            run = workspace.run(entry.folder.name)
        except ValueError as error:  # WorkspaceError and RunError
            st.warning(markdown(str(error)))
            continue
        report = desk.trust_of(run, workspace.cohort(task.cohort))
        if report is not None:
            found[run.config.name] = (run, report)
    if not found:
        st.info(
            "No run of this task has been checked yet. It takes some minutes a run:  \n"
            "`fusionlens trust RUN --cohort COHORT`"
        )
        return
    chosen = st.selectbox(
        "Strategy",
        list(found),
        format_func=lambda name: found[name][0].config.title,
        key=f"trust run {task.key}",
    )
    run, report = found[chosen]
    split = theme.split_title(str(report["split"])).lower()
    truth = (
        "a simulated cohort, so the truth is known" if report["truth_known"] else "truth not known"
    )
    st.caption(
        f"Measured on {report['cohort']}, {split} patients ({truth}), "
        f"{str(report['created'])[:10]}, seed {report['seed']}; explained: "
        f"{report['target']['title']}. An asterisk marks what the patient page shows by default."
    )
    for table, (name, part) in zip(tables(report), report["modalities"].items(), strict=True):
        st.header(markdown(part["title"]), anchor=False)
        best = part["recommended"]
        if best:
            judged = card(report_part(report, name, best["method"], best["layer"]))
            trust_card.show(judged, key=f"trust {name}", subject=best["title"])
        rows = pd.DataFrame(table.rows, columns=table.columns)
        st.dataframe(
            rows,
            hide_index=True,
            height="content",
            alt=f"Checks of every explanation of {part['title']}",
            key=f"trust table {chosen} {name}",
        )
        st.caption(markdown(table.note))
        st.caption(HOW_TO_READ[_READ_AS.get(part["kind"], "parts")])
        figure.csv(rows, f"trust {chosen} {name}")
    st.download_button(
        "Everything measured (JSON)",
        json.dumps(report, indent=2),
        f"trust-{chosen}.json",
        "application/json",
        on_click="ignore",
    )
    waiting = [
        e.config.title for e in workspace.runs(task) if e.config and e.config.name not in found
    ]
    if waiting:
        st.caption(f"Not checked yet: {count(len(waiting), 'strategy', 'strategies')}.")


main()
