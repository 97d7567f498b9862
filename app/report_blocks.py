"""Parts of a report that are more than a picture, a figure or a table: an ECG, an echo, a text.

Each gives its HTML, in which everything that comes from files is escaped.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass

from app.figures.echo_frames import THRESHOLD, FramePair


@dataclass(frozen=True, kw_only=True)
class EcgSheet:
    """An ECG on a page of its own, on its side: 10 s at 25 mm/s are wider than A4 is.

    svg: from `figures.ecg_svg`, safe as it is. measures: (label, text), as in the paper's head.
    """

    svg: str
    title: str
    measures: Sequence[tuple[str, str]] = ()
    caption: str = ""

    @property
    def html(self) -> str:
        """The block."""
        line = "".join(
            f"<span>{_e(label)} <b>{_e(text)}</b></span>" for label, text in self.measures
        )
        return (
            f'<figure class="ecg"><p class="measures"><b>{_e(self.title)}</b>{line}</p>'
            f'<div class="paper">{self.svg}</div>'
            f"<figcaption>{_e(self.caption)}</figcaption></figure>"
        )


@dataclass(frozen=True, kw_only=True)
class EchoView:
    """One view. share: of the map, in words; '' where there is none. frames: none where the view
    was not recorded, which `note` says.
    """

    title: str
    share: str = ""
    frames: Sequence[FramePair] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class EchoFrames:
    """Every view in a row: each frame and, beside it, the same frame under the map.

    legend: SVG of the colours, safe as it is; '' where there is no map.
    """

    title: str
    views: Sequence[EchoView]
    legend: str = ""
    caption: str = ""

    @property
    def html(self) -> str:
        """The block."""
        rows = "".join(_view(view) for view in self.views)
        return (
            f'<div class="echo"><h3>{_e(self.title)}</h3>{self.legend}'
            f'<p class="note">{_e(self.caption)}</p>{rows}</div>'
        )


@dataclass(frozen=True, kw_only=True)
class ToldText:
    """A table as the model reads it, told in words. body: from `figures.told`, safe as it is."""

    title: str
    body: str

    @property
    def html(self) -> str:
        """The block."""
        return f'<div class="telling"><h3>{_e(self.title)}</h3>{self.body}</div>'


def _view(view: EchoView) -> str:
    head = f"<b>{_e(view.title)}</b>"
    head += f"<span>{_e(view.share)}</span>" if view.share else ""
    head += f'<span class="muted">{_e(view.note)}</span>' if view.note else ""
    pairs = "".join(_pair(view.title, pair) for pair in view.frames)
    return f'<figure class="view"><figcaption>{head}</figcaption>{pairs}</figure>'


def _pair(title: str, pair: FramePair) -> str:
    where = f"{pair.moment}, frame {pair.number}/{pair.frames}, {pair.time_ms:.0f} ms"
    plain = f'<img src="{_source(pair.jpeg)}" alt="{_e(f"{title}, {where}")}">'
    if pair.overlaid is not None:
        over = f'<img src="{_source(pair.overlaid)}" alt="{_e(f"{title}, {where}, with the map")}">'
    else:
        why = f"below {THRESHOLD:.0%} of the largest" if pair.read else "not read by the model"
        over = f'<span class="none">{why}</span>'
    return f'<div class="pair"><div>{plain}{over}</div><small>{_e(where)}</small></div>'


def _source(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def _e(text: object) -> str:
    return html.escape(str(text), quote=True)
