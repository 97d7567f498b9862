"""Which map is drawn of each run: one for all, or each run's own best."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from analysis.explain import Choice


def choose(
    bests: Sequence[Choice],
    others: Sequence[Choice],
    words: Callable[[Choice], str],
    key: str,
) -> list[Choice]:
    """One map a run, as the reader chooses.

    bests: what the trust checks recommend for each run, drawn unless another is chosen. others:
    maps that all runs can have. words: of one map. key: of the control.
    """
    own = tuple(bests)
    same = [(one,) * len(own) for one in dict.fromkeys([*bests, *others])]
    options = list(dict.fromkeys([own, *same]))

    def title(option: tuple[Choice, ...]) -> str:
        if len(set(option)) == 1:
            return words(option[0])
        return "each run's own: " + "; ".join(words(one) for one in option)

    chosen = st.selectbox("Map", options, format_func=title, key=key)
    if len(set(chosen)) > 1:
        st.caption(
            "Each run is drawn with the map that did best in its own checks, and these are made in "
            "different ways. Choose one map for both to compare where they look without that "
            "difference."
        )
    return list(chosen)
