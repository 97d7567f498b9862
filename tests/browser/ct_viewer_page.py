"""The CT viewer alone on a page, for its browser tests. ?show= names what is drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import streamlit as st

from analysis.cohort.readers.volume import Volume, read_volume
from app.panels import ct_viewer
from app.panels.ct_viewer import Mask, Overlay, Region

SHAPE = (20, 32, 40)
SPACING = (5.0, 2.0, 1.5)
ORIGIN = (-20.0, 30.0, -100.0)
HOT_CELL = (3, 4, 5)
MARKER_HU = 1200
TISSUE_HU = 60
REGION = Region("cell 7", (10.0, 61.0, -52.5), (12.0, 14.0, 15.0), 0.42)


def affine(spacing: tuple[float, ...], origin: tuple[float, ...]) -> np.ndarray:
    """(4, 4) of a spacing along (D, H, W) and an origin x, y, z."""
    matrix = np.diag([*spacing[::-1], 1.0])
    matrix[:3, 3] = origin
    return matrix


def volume() -> Volume:
    """Tissue with one voxel of a known HU each and a bright block right, anterior, superior."""
    array = np.full(SHAPE, TISSUE_HU, np.float32)
    array[:, :, :4] = -800 + np.arange(32)[:, None]
    array[14:, 24:, 30:] = MARKER_HU
    return Volume(array, affine(SPACING, ORIGIN), SPACING)


def hot_cell() -> Overlay:
    """One cell of 1.0 on a coarser grid that starts elsewhere."""
    values = np.zeros((6, 7, 8), np.float32)
    values[HOT_CELL] = 1.0
    return Overlay(
        values, affine((15.0, 8.0, 6.0), (-17.0, 33.0, -96.0)), False, "Hot cell", "6x7x8"
    )


def turned() -> Overlay:
    """The same cell in the same place, its grid stored with two axes flipped and two swapped."""
    hot = hot_cell()
    values = np.ascontiguousarray(hot.values[::-1].transpose(0, 2, 1))
    matrix = hot.affine.copy()
    matrix[:3, 3] += matrix[:3, 2] * (hot.values.shape[0] - 1)
    matrix[:3, 2] *= -1
    matrix[:, [0, 1]] = matrix[:, [1, 0]]
    return Overlay(values, matrix, False, "Turned")


def signed() -> Overlay:
    """Left half -2, right half +1."""
    values = np.full((4, 4, 4), -2, np.float32)
    values[:, :, 2:] = 1
    return Overlay(
        values, affine((25.0, 16.0, 15.0), (-12.5, 38.0, -90.0)), True, "Signed", "4x4x4",
        ends=("lowers risk", "raises risk"),
    )  # fmt: skip


def mask() -> Mask:
    """A block of 2 x 3 x 4 voxels."""
    inside = np.zeros(SHAPE, bool)
    inside[9:11, 10:13, 20:24] = True
    return Mask("Embolus", inside, "#00FF00")


@st.cache_resource
def real(path: str) -> Volume:
    """A volume from a file, for screenshots."""
    return read_volume(Path(path))


@st.cache_resource
def plain() -> Volume:
    """The synthetic volume."""
    return volume()


def smooth_overlay(ct: Volume, shape: tuple[int, int, int], is_signed: bool) -> Overlay:
    """A blob or two on a coarse grid that spans the volume, for screenshots."""
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, n) for n in shape], indexing="ij"), -1)
    blob = np.exp(-(((grid - [0.55, 0.45, 0.66]) / [0.12, 0.1, 0.1]) ** 2).sum(-1))
    other = np.exp(-(((grid - [0.4, 0.6, 0.3]) / [0.1, 0.12, 0.1]) ** 2).sum(-1))
    values = (blob - 0.7 * other if is_signed else blob + 0.5 * other).astype(np.float32) * 0.034
    steps = np.asarray(ct.spacing_mm) * (np.asarray(ct.array.shape) / shape)
    matrix = np.diag([*steps[::-1], 1.0])
    matrix[:3, 3] = ct.affine[:3, 3] + (steps[::-1] - np.asarray(ct.spacing_mm)[::-1]) / 2
    title = "Signed token effect" if is_signed else "Grad-CAM at fine features"
    note = f"grid {' x '.join(map(str, shape))}"
    ends = ("lowers risk", "raises risk") if is_signed else ("none", "strongest")
    return Overlay(values, matrix, is_signed, title, note, ends=ends)


def main() -> None:
    """The page."""
    st.set_page_config(layout="wide")
    st.session_state["runs"] = st.session_state.get("runs", 0) + 1
    what = st.query_params.get("show", "hot")
    if st.button("Run again"):
        st.session_state["swapped"] = not st.session_state.get("swapped", False)
    if st.button("Look elsewhere"):
        st.session_state["start"] = (-5.0, 40.0, -20.0)
    shown = st.toggle("Viewer", value=True)
    start = st.session_state.get("start")
    if not shown:
        state = ct_viewer.ViewerState(None)
    elif "path" in st.query_params:
        ct = real(st.query_params["path"])
        overlays = [smooth_overlay(ct, (12, 24, 24), False), smooth_overlay(ct, (6, 12, 12), True)]
        low, high = ct.affine[:3, 3], ct.to_mm([[n - 1 for n in ct.array.shape]])[0]
        size = (high - low) / 4
        cells = [
            Region(f"cell {i}, {j}", tuple(low + size * [i + 0.5, j + 0.5, 1.5]), tuple(size), w)
            for i, j, w in ((0, 1, 0.05), (1, 2, 0.31), (2, 1, 0.12), (3, 2, 0.22))
        ]
        masks = [Mask("High density (over 250 HU)", ct.array > 250)]
        state = ct_viewer.show(
            ct,
            overlays[::-1] if what == "signed" else overlays,
            key="ct",
            title="Patient 11101",
            alt="CT with Grad-CAM",
            regions=cells if what == "regions" else (),
            masks=masks,
        )
    else:
        if what == "lost" and st.session_state["runs"] == 1:
            # As if the message with the voxels had been overtaken by a rerun.
            st.session_state[ct_viewer._HELD] = [ct_viewer.pack(plain()).digest]
        maps = {"hot": hot_cell, "signed": signed, "turned": turned}
        name = "signed" if st.session_state.get("swapped") else what
        state = ct_viewer.show(
            plain(),
            [maps[name]()] if name in maps else [],
            key="ct",
            title="Synthetic",
            alt="A synthetic CT",
            start_mm=start,
            regions=[REGION] if what == "regions" else (),
            masks=[mask()],
        )
    st.text(f"runs: {st.session_state['runs']}")
    st.text(f"picked: {state.picked_mm}")


if __name__ == "__main__":
    main()
