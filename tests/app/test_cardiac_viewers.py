"""What the ECG paper and the echo loops send to the browser, read back byte by byte."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from typing import Any

import cv2
import numpy as np
import pytest

from analysis.cohort.readers.echo_ecg import CineECG
from app.panels import ecg_paper, echo_cine, sending
from app.panels.ecg_paper import Interval, PaperSignal, header_line
from app.panels.echo_cine import Cine, CineMap
from tests.app.test_ct_viewer import opened
from tests.browser import cardiac_viewers_page as scene


def paper(signal: PaperSignal, **more: Any) -> tuple[dict[str, Any], list[bytes]]:
    settings: dict[str, Any] = {
        "key": "k", "alt": "a", "title": "", "overlays": (), "beats": (), "segments": (),
        "header": header_line({}), "filter_text": "", "layout": "6x2",
    }  # fmt: skip
    return opened(ecg_paper.view_message(signal, "digest", **(settings | more)))


def loops(cines: list[Cine], *overlays: CineMap) -> tuple[dict[str, Any], list[bytes]]:
    told = echo_cine.view_message(cines, "digest", key="k", alt="a", title="", overlays=overlays)
    return opened(told)


def pictures(cines: list[Cine]) -> dict[str, list[np.ndarray]]:
    """Every frame as the browser would decode it, RGB or grey, by view."""
    header, blobs = opened(echo_cine.pack(cines).message)
    found = {}
    for told, blob in zip(header["cines"], blobs, strict=True):
        cuts = zip(told["ends"], told["ends"][1:], strict=False)
        coded = [np.frombuffer(blob[a:b], np.uint8) for a, b in cuts]
        found[told["view"]] = [cv2.imdecode(one, cv2.IMREAD_UNCHANGED) for one in coded]
    return found


def grey(frames: int = 3, side: int = 24, **more: Any) -> Cine:
    values = np.linspace(0, 250, frames * side * side).reshape(frames, side, side)
    times = [40.0 * k for k in range(frames)]
    return Cine("A4C", "Apical four-chamber", values.astype(np.uint8), times, **more)


# ---------------------------------------------------------------- ECG


def test_the_samples_arrive_as_recorded_with_their_gaps() -> None:
    signal = scene.signal()
    header, (samples,) = opened(ecg_paper.pack(signal).message)
    assert (header["leads"], header["rate"]) == (list(scene.LEADS), 500.0)
    read = np.frombuffer(samples, "<f4").reshape(header["shape"])
    np.testing.assert_array_equal(read, signal.array)
    assert np.isnan(read[scene.LEADS.index("III"), 300:500]).all()


def test_equal_samples_have_one_name_and_other_rates_or_leads_another() -> None:
    signal = scene.signal()
    first = ecg_paper.pack(signal)
    assert ecg_paper.pack(signal) is first
    assert ecg_paper.pack(scene.signal()).digest == first.digest
    slower = dataclasses.replace(signal, rate_hz=250.0)
    renamed = dataclasses.replace(signal, leads=("V5", *signal.leads[1:]))
    assert len({first.digest, ecg_paper.pack(slower).digest, ecg_paper.pack(renamed).digest}) == 3
    assert opened(first.receipt)[0] == {"kind": "held", "digest": first.digest, "blobs": []}


def test_packed_samples_are_forgotten_with_the_signal() -> None:
    signal = scene.signal()
    packed = weakref.ref(ecg_paper.pack(signal))
    assert packed() is not None
    del signal
    gc.collect()
    assert packed() is None


def test_the_header_names_what_is_known_and_dashes_the_rest() -> None:
    line = dict(header_line({"rate_bpm": 71.6, "qtc_ms": 431.4, "axis_deg": -32.0}, "Fridericia"))
    assert line == {
        "Rate": "72 bpm", "PR": "–", "QRS": "–", "QT": "–", "QTc (Fridericia)": "431 ms",
        "QRS axis": "−32°",
    }  # fmt: skip
    assert dict(header_line({"pr_ms": None, "p_axis_deg": float("nan")}))["P axis"] == "–"
    with pytest.raises(ValueError, match="name of its formula"):
        header_line({"qtc_ms": 431.0})
    with pytest.raises(ValueError, match=r"no 'hr'.*rate_bpm"):
        header_line({"hr": 71.0})


def test_an_ecg_overlay_travels_with_its_grid() -> None:
    overlay = scene.lead_map()
    header, (values,) = paper(scene.signal(), overlays=[overlay], segments=scene.segments())
    (told,) = header["overlays"]
    read = np.frombuffer(values, "<f4").reshape(len(told["leads"]), told["cells"])
    np.testing.assert_array_equal(read, overlay.values)
    assert (told["start"], told["step"], told["limit"], told["signed"]) == (0, 0.25, 2, True)
    assert header["segments"][1] == [0.46, 0.57, "QRS"]


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: PaperSignal(np.zeros((2, 9), np.float32), ("I",), 500.0), "2 rows, 1 leads"),
        (lambda: PaperSignal(np.zeros((2, 9), np.float32), ("I", "I"), 500.0), "named twice"),
        (lambda: PaperSignal(np.zeros((1, 9), np.float32), ("I",), 0.0), "0.0 Hz"),
        (lambda: PaperSignal(np.full((1, 9), np.inf, np.float32), ("I",), 5.0), "infinite"),
        (lambda: Interval(2.0, 2.0, "beat 1"), "'beat 1' runs from 2.0 to 2.0 s"),
        (lambda: dataclasses.replace(scene.lead_map(), signed=False), "say signed=True"),
        (lambda: dataclasses.replace(scene.lead_map(), leads=("I",)), "not \\(1 leads, cells\\)"),
        (lambda: dataclasses.replace(scene.lead_map(), limit=0.0), "limit 0.0"),
        (lambda: paper(scene.signal(), layout="2x6"), "no ECG layout is called '2x6'"),
        (lambda: paper(scene.signal(), segments=[Interval(0, 1, "U")]), "no segment.*'U'"),
        (lambda: paper(scene.signal(), overlays=[scene.lead_map()] * 2), "two overlays"),
        (
            lambda: paper(
                scene.signal(),
                overlays=[dataclasses.replace(scene.lead_map(), leads=("X", *scene.LEADS[1:]))],
            ),
            "names lead 'X'",
        ),
    ],
)
def test_an_unfit_ecg_is_refused_in_words(build: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build()


def test_a_click_is_told_with_its_beat_and_wave_and_only_of_this_record() -> None:
    told = {"lead": "II", "time": 1.5, "mv": 1.1, "digest": "this"}
    found = ecg_paper._picked(told, "this", scene.beats(), scene.segments())
    assert found is not None
    assert (found.lead, found.millivolt) == ("II", 1.1)
    assert found.beat == Interval(1, 2, "beat 2")
    assert found.segment == Interval(1.46, 1.57, "QRS")
    assert ecg_paper._picked(told, "another", scene.beats(), ()) is None
    at_end = ecg_paper._picked(told | {"time": 2.0, "mv": None}, "this", scene.beats(), ())
    assert at_end is not None
    assert (at_end.beat, at_end.segment) == (Interval(2, 3, "beat 3"), None)
    assert at_end.millivolt is None


# ---------------------------------------------------------------- echo


def test_the_frames_arrive_and_grey_stays_grey() -> None:
    frames, times = scene.loop(4, colour=True)
    flow = Cine("Apical_Doppler", "Apical, colour Doppler", frames, times)
    found = pictures([grey(), flow, Cine("SSN", "Suprasternal")])
    assert set(found) == {"A4C", "Apical_Doppler"}
    assert found["A4C"][0].ndim == 2
    for k, picture in enumerate(found["A4C"]):
        original = grey().frames
        assert original is not None
        assert np.abs(picture.astype(int) - original[k]).mean() < 1.5
    red, green, blue = found["Apical_Doppler"][1][40, 61, ::-1].astype(int)
    np.testing.assert_allclose([red, green, blue], [220, 60, 20], atol=12)


def test_grey_given_as_three_equal_colours_is_sent_as_one() -> None:
    cine = grey()
    assert cine.frames is not None
    same = dataclasses.replace(cine, frames=np.repeat(cine.frames[..., None], 3, axis=3))
    assert pictures([same])["A4C"][0].ndim == 2
    assert echo_cine.pack([same]).digest == echo_cine.pack([cine]).digest


def test_the_same_loops_are_packed_once_and_forgotten() -> None:
    cines = [grey(), Cine("SSN", "Suprasternal")]
    packed = echo_cine.pack(cines)
    assert echo_cine.pack(list(cines)) is packed
    assert echo_cine.pack(cines[:1]) is not packed
    left = weakref.ref(packed)
    del cines, packed
    gc.collect()
    assert left() is None


def test_too_many_pixels_are_shrunk_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(echo_cine, "MAX_PIXELS", 3 * 12 * 12)
    cine = grey()
    assert pictures([cine])["A4C"][0].shape == (12, 12)
    header, _ = loops([cine])
    assert header["shrunk"] == "Shown at 50% of the recorded size"
    assert header["cines"][0]["size"] == [24, 24]  # depth and overlays stay in recorded pixels


def test_a_loop_is_described_with_its_times() -> None:
    cine = Cine(
        "A2C", "Apical two-chamber", np.zeros((3, 8, 10), np.uint8), [5.0, 38.0, 70.0],
        mm_per_pixel=0.8, ed_frames=[0], es_frames=[2], ed_from="R", es_from="truth",
        heart_rate_bpm=64.0,
    )  # fmt: skip
    header, _ = loops([cine, Cine("SSN", "Suprasternal")])
    told, missing = header["cines"]
    assert told["times"] == [0, 33, 65]
    assert told["duration"] == 65 + 32  # the last frame lasts as the one before it
    assert (told["size"], told["mm"]) == ([10, 8], 0.8)
    assert told["marks"] == [
        {"name": "ED", "frame": 0, "from": "R"},
        {"name": "ES", "frame": 2, "from": "truth"},
    ]
    assert (told["rWaves"], told["ecg"], told["aside"]) == ([], None, "")
    assert missing == {
        "view": "SSN", "title": "Suprasternal", "note": "", "recorded": False,
        "missing": "not recorded",
    }  # fmt: skip


def test_r_waves_and_the_ecg_are_told_on_the_clock_of_the_frames() -> None:
    ecg = CineECG(np.array([0.2, 0.2, 1.2, -0.3], np.float32), 15.0, 20.0, "mV")
    cine = Cine("A4C", "x", np.zeros((2, 8, 8), np.uint8), [5, 38], r_waves_ms=[10, 30], ecg=ecg)
    told = loops([cine])[0]["cines"][0]
    assert told["rWaves"] == [5, 25]
    # From the middle value, the largest at 1: a strip has no scale.
    assert told["ecg"] == {"start": 10, "step": 20, "values": [0, 0, 1, -0.5]}


def test_a_still_needs_no_times() -> None:
    header, _ = loops([Cine("A4C", "x", np.zeros((1, 8, 8), np.uint8), aside="still")])
    told = header["cines"][0]
    assert (told["times"], told["duration"], told["aside"]) == ([0.0], 0.0, "still")


def test_a_loop_overlay_travels_by_view_with_one_limit() -> None:
    cines = [grey(), Cine("A2C", "x", np.zeros((2, 8, 8), np.uint8), [0.0, 30.0])]
    values = {"A2C": np.full((2, 3, 4), -3, np.float32), "A4C": np.ones((1, 2, 2), np.float32)}
    header, blobs = loops(cines, CineMap(values, 2, True, "Map", first=1, box=(0.1, 0, 1, 0.9)))
    (told,) = header["overlays"]
    assert (told["limit"], told["stride"], told["first"]) == (3, 2, 1)
    assert told["box"] == [0.1, 0, 1, 0.9]
    for view, place in told["views"].items():
        read = np.frombuffer(blobs[place["blob"]], "<f4").reshape(place["shape"])
        np.testing.assert_array_equal(read, values[view])


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: Cine("A4C", "x", np.zeros((2, 8, 8), np.float32), [0, 1]), "not uint8"),  # type: ignore[arg-type]
        (lambda: Cine("A4C", "x", np.zeros((2, 8, 8, 4), np.uint8), [0, 1]), "4 colours"),
        (lambda: Cine("A4C", "x", np.zeros((2, 8, 8), np.uint8), [0.0]), "2 frames and 1 times"),
        (lambda: Cine("A4C", "x", np.zeros((2, 8, 8), np.uint8), [1, 1]), "do not grow"),
        (lambda: grey(es_frames=[3]), "end-systole at frame 3 of 3"),
        (lambda: grey(mm_per_pixel=0.0), "0.0 mm a pixel"),
        (lambda: loops([grey(), grey()]), "two views are called 'A4C'"),
        (lambda: loops([grey()], scene.cine_map()), "names view 'A2C'"),
        (lambda: dataclasses.replace(scene.cine_map(), signed=False), "say signed=True"),
        (lambda: dataclasses.replace(scene.cine_map(), box=(0, 0, 1, 2)), "must lie in 0 to 1"),
        (lambda: echo_cine.show([], key="k", alt="a"), "at least one view"),
    ],
)
def test_unfit_loops_are_refused_in_words(build: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build()


def test_content_is_named_by_its_header_and_its_bytes() -> None:
    names = {
        sending.content({"a": 1}, [b"12345678"]).digest,
        sending.content({"a": 2}, [b"12345678"]).digest,
        sending.content({"a": 1}, [b"12345679"]).digest,
    }
    assert len(names) == 3
    assert sending.content({"a": 1}, [b"12345678"]).digest in names
