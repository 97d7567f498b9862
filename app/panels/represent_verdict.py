"""What alignment changed, in sentences generated from the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.figures.text import interval, number, signed_interval

Told = Mapping[str, Any]
_ISLANDS = 0.9
_RISEN = 0.05  # share of the first singular value


def verdict(answer: Told) -> list[str]:
    """Plain sentences: what `after` is, whether patients are matched, whether modalities mix."""
    measures = {row["name"]: row for row in answer["measures"]}
    sentences = [_what(answer)]
    if len(answer["modalities"]) > 1:
        stage = answer["stages"][-1]
        sentences.append(_matched(measures["foscttm"], stage))
        sentences.append(_mixed(measures["modality_purity"], stage))
        if stage == "after":
            sentences.append(_line(measures["sigma1"], measures["row_correlation"]))
            sentences.append(_common(measures["row_correlation"]))
    return [sentence for sentence in sentences if sentence]


def _what(answer: Told) -> str:
    if "after" not in answer["stages"]:
        words = answer["after_is"]
        return f"{words[0].upper()}{words[1:]} What the picture and the numbers show is before it."
    loss = answer["alignment_loss"]
    by = f" Aligned in training by {loss}." if loss else ""
    return f"After alignment: {answer['after_is']}{by}"


def _matched(row: Told, stage: str) -> str:
    found = row[stage]
    if found is None or found["value"] is None:
        return ""
    told = f"FOSCTTM {interval(found)}, 0.5 is chance"
    if found["high"] < found["chance"]:
        head = f"A patient's modalities find each other better than by chance ({told})"
    elif found["low"] > found["chance"]:
        head = f"A patient's modalities are further apart than those of different patients ({told})"
    else:
        head = f"A patient's modalities do not find each other: within chance ({told})"
    change = row["change"]
    if stage == "before" or change is None:
        return f"{head}."
    low, high = change["low"], change["high"]
    moved = (
        "better than before alignment"
        if high < 0
        else "worse than before alignment"
        if low > 0
        else "no clear change from before alignment"
    )
    return f"{head}; {moved}, change {signed_interval(change, 3)}."


def _mixed(row: Told, stage: str) -> str:
    found = row[stage]
    if found is None or found["value"] is None:
        return ""
    share, chance = found["value"], found["chance"]
    told = (
        f"{number(100 * share, 0)}% of an embedding's nearest neighbours are of its own modality, "
        f"{number(100 * chance, 0)}% if they lay mixed"
    )
    if share >= _ISLANDS:
        return f"The modalities lie apart as islands: {told}."
    if share <= chance + 0.1:
        return f"The modalities lie mixed: {told}."
    return f"The modalities overlap in part: {told}."


def _line(sigma: Told, rows: Told) -> str:
    """Whether the modalities came onto one line without coming to the same end of it.

    A singular value knows no sign: vectors that point to both ends of a line have the spectrum of
    vectors that point one way.
    """
    before, after, change = sigma["before"], sigma["after"], sigma["change"]
    if change is None or change["low"] < _RISEN or rows["change"] is None:
        return ""
    if rows["change"]["low"] > 0:
        return ""
    return (
        f"A patient's modalities came onto one line (share of the first singular value "
        f"{number(before['value'], 2)} to {number(after['value'], 2)}), but point to both of its "
        f"ends (mean correlation of the rows {number(rows['after']['value'], 2)}): a singular "
        "value has no sign."
    )


def _common(row: Told) -> str:
    """Whether what the rows of one patient share is the patient's own."""
    found = row["after"]
    if found is None or found["value"] is None or found["value"] < 0.1:
        return ""
    own, others = found["value"], found["chance"]
    if others < own / 2:
        return ""
    return (
        f"The rows of one patient correlate ({number(own, 2)}), but those of different patients "
        f"nearly as much ({number(others, 2)}): most of it is common to all patients."
    )
