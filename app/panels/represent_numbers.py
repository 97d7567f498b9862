"""Measures of alignment as a table: before, after, by chance; what each means on its name."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app.figures.text import MISSING, count, interval, markdown, number, signed_interval

Told = Mapping[str, Any]
BETTER = {"higher": "↑", "lower": "↓", "neither": ""}
_COLUMNS = ("value", "low", "high", "chance", "n")
_STYLE = """<style>
.measures { border-collapse: collapse; width: 100%; font-size: 0.9rem; }
.measures th, .measures td { border-bottom: 1px solid #D9DFE5; padding: 0.32rem 0.6rem;
  text-align: left; vertical-align: top; font-variant-numeric: tabular-nums; }
.measures thead th { color: #5F6B77; font-weight: 500; }
.measures tbody th { font-weight: 500; cursor: help; }
.measures tbody th span { border-bottom: 1px dotted #8A949E; }
.measures .chance { color: #5F6B77; }
.measures .moved { font-weight: 600; }
</style>"""


def show(answer: Told) -> None:
    """The headline of every measure; hover a name for its meaning, range and source."""
    stages = [s for s in ("before", "after") if s in answer["stages"]]
    heads = ["Measure"]
    for stage in stages:
        heads += [f"{stage.capitalize()} (95% interval)", "by chance"]
    if len(stages) == 2:
        heads.append("Change (95% interval)")
    body = "".join(_row(row, stages) for row in answer["measures"])
    st.html(
        f'{_STYLE}<table class="measures" aria-label="Measures of alignment"><thead><tr>'
        + "".join(f"<th>{head}</th>" for head in heads)
        + f"</tr></thead><tbody>{body}</tbody></table>"
    )


def frame(answer: Told) -> pd.DataFrame:
    """Every number in full precision, the parts below their headline."""
    rows = []
    for row in answer["measures"]:
        for part in [{"of": [], **row}, *row["parts"]]:
            found: dict[str, Any] = {
                "measure": row["name"],
                "of": " + ".join(part["of"]) or "mean",
                "better": row["better"],
            }
            for stage in ("before", "after"):
                here = part[stage] or {}
                found |= {f"{stage}_{k}": here.get(k) for k in _COLUMNS}
            change = part["change"] or {}
            found |= {f"change_{k}": change.get(k) for k in ("value", "low", "high")}
            rows.append(found)
    return pd.DataFrame(rows)


def parts(answer: Told) -> None:
    """One measure for every pair of modalities, or for every modality, as chosen."""
    split = {row["name"]: row for row in answer["measures"] if len(row["parts"]) > 1}
    if not split:
        return
    titles = {name: m["title"] for name, m in answer["modalities"].items()}
    with st.expander("By modality and pair of modalities"):
        chosen = st.selectbox(
            "Measure", list(split), format_func=lambda n: split[n]["title"], key="represent measure"
        )
        rows = [_part(part, titles, answer["stages"]) for part in split[chosen]["parts"]]
        st.table(pd.DataFrame(rows).set_index("Of"))


def told(part: Told | None) -> str:
    """'0.442 (0.421 to 0.462)', or a dash."""
    return MISSING if part is None else interval(part)


def explained(row: Told) -> str:
    """What a measure is, for hover text."""
    ways = {"higher": "Higher is better.", "lower": "Lower is better.", "neither": ""}
    low, high = (f"{end:g}" for end in row["range"])
    axes = (
        " Compares modalities axis by axis, which mean nothing in common before alignment."
        if row["compares_axes"]
        else ""
    )
    return (
        f"{row['says']} {ways[row['better']]} Range {low} to {high}. Chance: {row['chance_is']}."
        f"{axes} Source: {row['source']}."
    )


def _row(row: Told, stages: Sequence[str]) -> str:
    title = html.escape(f"{row['title']} {BETTER[row['better']]}".strip())
    help_text = html.escape(explained(row), quote=True)
    cells = [f'<th scope="row" title="{help_text}"><span>{title}</span></th>']
    for stage in stages:
        part = row[stage]
        if part is not None and part["why"]:
            cells.append(f'<td colspan="2" class="chance">{html.escape(part["why"])}</td>')
            continue
        chance = MISSING if part is None else number(part["chance"])
        cells.append(f'<td>{told(part)}</td><td class="chance">{chance}</td>')
    if len(stages) == 2:
        cells.append(_change(row["change"]))
    return f'<tr data-measure="{html.escape(row["name"])}">{"".join(cells)}</tr>'


def _change(change: Told | None) -> str:
    """Bold where the interval leaves zero out."""
    if change is None:
        return f"<td>{MISSING}</td>"
    low, high = change["low"], change["high"]
    moved = low is not None and high is not None and (low > 0 or high < 0)
    mark = ' class="moved"' if moved else ""
    return f"<td{mark}>{signed_interval(change, 3)}</td>"


def _part(part: Told, titles: Mapping[str, str], stages: Sequence[str]) -> dict[str, str]:
    found = {"Of": markdown(" and ".join(titles[name] for name in part["of"]))}
    for stage in stages:
        found[f"{stage.capitalize()} (95% interval)"] = told(part[stage])
        found[f"by chance {stage}"] = number((part[stage] or {}).get("chance"))
    if part["change"] is not None:
        found["Change"] = signed_interval(part["change"], 3)
    n = next(part[s]["n"] for s in stages if part[s] is not None)
    found["Patients"] = count(n, "patient")
    return found
