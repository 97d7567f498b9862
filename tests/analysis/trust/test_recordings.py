"""Maps of an ECG, an echo and a told table against a truth that is solved by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.attribution.case import Case, Subject, open_case
from analysis.attribution.signal import signal_map
from analysis.attribution.target import LogRisk
from analysis.attribution.video import VideoMap, video_map
from analysis.cohort.cohort import Cohort
from analysis.cohort.dataset import VideoReading
from analysis.cohort.schema import CohortError, read_spec, write_spec
from analysis.cohort.truth import Truth, read_truth
from analysis.cohort.write import write_cine, write_imaging, write_outcomes, write_subjects
from analysis.cohort.write import write_signal as write_ecg
from analysis.experiment import Plan, train_run
from analysis.trust import sanity
from analysis.trust.card import card
from analysis.trust.localisation_recording import (
    covered,
    masks_as_read,
    on_frames,
    recorded_share,
    score_columns,
    score_signal,
    score_video,
    sector_of,
)
from analysis.trust.report import recommended, report_part, tables, trust_report
from analysis.trust.study import RULE_FEW, Budget
from analysis.trust.study_recording import LeadBlocks, ViewTokens
from models.checkpoint import Run
from models.encoders.video import EchoNet, EchoNetConfig
from models.network import FusionModel
from models.training import TrainingSettings
from tests.analysis.attribution import toys_cardiac as toys
from tests.analysis.classification.toys import write_cohort

RISK = LogRisk()
SMALL = Budget(patients=4, faithful=2, sanity=2, slow=1)
TASK = SimpleNamespace(name="death", kind="survival", outputs=1, classes=())


def run_of(**weights: Any) -> Run:
    run = toys.run_of(**weights)
    config = SimpleNamespace(name="toy", modalities=run.config.modalities, task=TASK)
    return replace(run, config=config)  # type: ignore[arg-type]


# ---------------------------------------------------------------- signals, by hand


def test_spans_cover_steps_once_however_they_overlap() -> None:
    assert covered([(0.5, 1.0), (0.25, 0.75), (1.9, 9.0)], 4, 0.5) == pytest.approx(
        [0.5, 1, 0, 0.2]
    )
    assert not covered(np.zeros((0, 2)), 3, 0.5).any()


def test_a_step_is_recorded_by_the_share_of_its_samples() -> None:
    mask = np.array([[1, 1, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1]], bool)
    assert recorded_share(mask, 2) == pytest.approx(np.array([[2 / 3, 1 / 3], [1, 1]]))


@pytest.fixture
def tracing(tmp_path: Path) -> Case:
    """Grad-CAM is 1 in I's first second, 2 in the last half second of II, and 0 elsewhere."""
    return toys.case_of(tmp_path, toys.run_of(ecg=(1.0, 1.0, 1.0)), toys.ecg())


def test_a_signal_map_is_scored_by_seconds(tracing: Case) -> None:
    made = signal_map(tracing, "ecg", RISK, "gradcam")
    mask = tracing.raw("ecg").fields["mask"][0].numpy()
    early = score_signal(made, [(0.25, 0.75)], mask)
    assert early.energy == pytest.approx((0.5 + 0.5) / 4)
    assert (early.lesion_share, early.chance, early.pointing) == pytest.approx((0.125, 2 / 8, 0))
    late = score_signal(made, [(3.6, 3.9)], mask)
    assert late.energy == pytest.approx(2 * 0.6 / 4)
    assert (late.lesion_share, late.chance, late.pointing) == pytest.approx((0.075, 1 / 8, 1))
    with pytest.raises(ValueError, match="leave the patient out"):
        score_signal(made, np.zeros((0, 2)), mask)


def test_chance_is_of_what_was_recorded(tracing: Case) -> None:
    made = signal_map(tracing, "ecg", RISK, "gradcam")
    mask = np.ones((3, 40), bool)
    mask[0, :20] = False  # 10 s are left; of the second from 0.25 to 0.75 in two leads
    found = score_signal(made, [(0.25, 0.75)], mask)
    assert found.lesion_share == pytest.approx(1.0 / 10)
    assert found.chance == pytest.approx(4 / 20)
    even = replace(made, values=np.ones((3, 8), np.float32))
    assert score_signal(even, [(0.25, 0.75)], np.ones((3, 40), bool)).energy == pytest.approx(0.125)
    empty = score_signal(replace(made, values=-np.ones((3, 8), np.float32)), [(0, 1)], mask)
    assert (empty.energy, empty.pointing, empty.empty) == (0, 0, True)


# ---------------------------------------------------------------- videos, by hand


def lit(cell: tuple[int, int, int]) -> VideoMap:
    """One view of 2 x 2 x 2 cells over 4 frames of 8 x 8 pixels, one of them 1."""
    values = np.zeros((1, 2, 2, 2), np.float32)
    values[(0, *cell)] = 1
    return VideoMap(
        Subject("r", "h", "c", 1), "echo", "gradcam", "act", {}, ("A4C",), values, 2, 3, 0.0
    )


def test_a_video_map_is_scored_in_the_sector_by_hand() -> None:
    everywhere = np.ones((1, 8, 8), bool)
    masks = np.zeros((1, 4, 8, 8), bool)
    masks[0, :2, :4, :4] = True
    found = score_video(lit((0, 0, 0)), masks, everywhere)
    # Linear between the middles: 1 1 .875 .625 | .375 .125 0 0 in space, 1 .75 | .25 0 in time.
    assert found.energy == pytest.approx(1.75 / 2 * (3.5 / 4) ** 2)
    assert found.lesion_share == pytest.approx(32 / 256)
    # Grown by a cell of four pixels it reaches the middles of all four cells, while it is there.
    assert (found.pointing, found.chance) == (1, 0.5)
    assert score_video(lit((1, 0, 0)), masks, everywhere).pointing == 0
    left = everywhere.copy()
    left[:, :, 4:] = False
    assert score_video(lit((0, 0, 0)), masks, left).lesion_share == pytest.approx(32 / 128)


def test_pointing_allows_one_cell_and_no_more() -> None:
    everywhere = np.ones((1, 8, 8), bool)
    masks = np.zeros((1, 4, 8, 8), bool)
    masks[0, 0, 0, 0] = True
    assert score_video(lit((0, 0, 0)), masks, everywhere).pointing == 1
    far = score_video(lit((0, 1, 1)), masks, everywhere)
    assert (far.pointing, far.chance) == (0, 1 / 8)
    empty = replace(lit((0, 0, 0)), values=np.zeros((1, 2, 2, 2), np.float32))
    assert score_video(empty, masks, everywhere).empty
    with pytest.raises(ValueError, match="leave the patient out"):
        score_video(lit((0, 0, 0)), masks, ~everywhere)


def test_all_views_at_once_are_the_map_as_it_is_drawn() -> None:
    rng = np.random.default_rng(0)
    made = replace(
        lit((0, 0, 0)), views=("A4C", "A2C"), values=rng.random((2, 4, 3, 3)).astype(np.float32)
    )
    drawn = np.stack([replace(made, stride=1).on(view, 8, 12) for view in made.views])
    assert on_frames(made, 8, 12) == pytest.approx(drawn, abs=1e-6)


def test_masks_are_read_as_the_pictures_are() -> None:
    """Every second frame of 8, the centred 64 x 64 of 64 x 96 pixels, shrunk to 8 x 8."""
    cavity, wall = np.zeros((2, 8, 64, 96), bool)
    cavity[:4, :32, 16:48] = True
    wall[4:, 40:, :16] = True  # left of the square
    reading = VideoReading(views=("A4C", "A2C"), frames=4, stride=2, size=8)
    masks = {"A4C": {"lv_cavity": cavity, "lv_wall": wall, "la": np.ones_like(wall)}}
    read = masks_as_read(masks, ("lv_cavity", "lv_wall"), ("A4C", "A2C"), reading)
    expected = np.zeros((2, 4, 8, 8), bool)
    expected[0, :2, :4, :4] = True
    assert np.array_equal(read, expected)


def test_the_sector_is_where_the_picture_is_ever_bright() -> None:
    video = np.zeros((1, 3, 2, 4, 4))
    video[0, 1, 1, 2, 3] = 9
    assert np.argwhere(sector_of(video)).tolist() == [[0, 2, 3]]


def test_columns_are_scored_by_the_sum_of_their_words() -> None:
    parts = pd.DataFrame({"name": ["bnp", "bnp", "age", "age", "sex"]})
    shares = np.array([0.3, 0.2, 0.4, -0.4, 0.1])
    found = score_columns(parts, shares, {"bnp": {"nt_probnp"}})
    assert found.auroc["code"] == 1.0  # 0.5 above 0 and 0.1
    assert found.auroc["event"] == pytest.approx(2 / 6)  # 0.3, 0.2 against 0.4, 0.4, 0.1


# ---------------------------------------------------------------- what deletion leaves out


def test_leaving_out_blocks_of_leads_takes_their_share(tracing: Case) -> None:
    game = LeadBlocks(tracing, "ecg", RISK)
    assert game.n_parts == 3 * 8
    kept = np.ones((3, 24), bool)
    kept[1, 8 + 7] = False  # II, 3.5 s to 4 s: 2 mV in one of eight steps
    kept[2] = False
    assert game(kept) == pytest.approx([0.5, 0.25, 0.0], abs=1e-4)
    made = signal_map(tracing, "ecg", RISK, "hirescam")
    assert game.parts(made) == pytest.approx(made.values.ravel(), abs=1e-6)
    fine = signal_map(tracing, "ecg", RISK, "integrated_gradients")
    assert game.parts(fine)[[0, 1, 15]] == pytest.approx([0.125, 0.125, 0.25], abs=1e-4)


def test_blocks_that_were_not_recorded_are_no_parts(tmp_path: Path) -> None:
    signal = toys.ecg()
    signal[2] = np.nan
    case = toys.case_of(tmp_path, toys.run_of(ecg=(1.0, 1.0, 1.0)), signal)
    assert LeadBlocks(case, "ecg", RISK).n_parts == 2 * 8


def test_tokens_of_an_echo_are_left_out_as_views_are(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = EchoNetConfig(
        views=("A4C", "PLAX", "A2C"), frames=4, stride=2, size=16, token_grid=(1, 2, 2),
        widths=(4, 4, 4, 4), token_width=4, pooled_width=6,
    )  # fmt: skip
    run = toys.run_of(echo=(1.0, 1.0))
    model = FusionModel({"echo": EchoNet(config)}, toys.Weigh(echo=range(1, 7)))  # type: ignore[arg-type]
    run = replace(run, model=model.requires_grad_(False).eval())
    loops = {"A4C": toys.loop((0, 1, 0)), "A2C": toys.loop((1, 0, 1))}
    case = toys.case_of(tmp_path, run, loops=loops)
    game = ViewTokens(case, "echo", RISK)
    assert game.n_parts == 2 * 4
    kept = np.ones((3, 8), bool)
    kept[1, 4:] = False
    kept[2] = False
    found = game(kept)
    assert found[0] == pytest.approx(case.value(RISK)[0], rel=1e-5)
    alone = toys.case_of(tmp_path / "alone", run, loops={"A4C": loops["A4C"]})
    assert found[1] == pytest.approx(alone.value(RISK)[0], rel=1e-5)
    assert found[2] == 0
    made = video_map(case, "echo", RISK, "gradcam", "stage1")
    assert game.parts(made).reshape(2, -1).sum(axis=1) == pytest.approx(
        made.values.sum(axis=(1, 2, 3)) * 4 * 16**2 / made.values[0].size, rel=0.05
    )


def test_an_encoder_of_another_summary_has_its_views_left_out(tmp_path: Path) -> None:
    loops = {"A4C": toys.loop((0, 1, 0)), "A2C": toys.loop((1, 0, 1))}
    case = toys.case_of(tmp_path, toys.run_of(echo=(1.0, 2.0)), loops=loops)
    game = ViewTokens(case, "echo", RISK)
    kept = np.array([[True, True], [True, False]])
    assert game(kept) == pytest.approx([75, 25], rel=1e-3)
    parts = game.parts(video_map(case, "echo", RISK, "hirescam"))
    assert parts[1] / parts[0] == pytest.approx(2, rel=1e-3)


# ---------------------------------------------------------------- noise


def test_noise_is_of_the_stated_size_where_something_was_recorded(tmp_path: Path) -> None:
    signal = toys.ecg()
    signal[1] = np.nan
    case = toys.case_of(
        tmp_path, toys.run_of(ecg=(1.0, 1.0, 1.0), echo=(1.0, 2.0)), signal,
        {"A4C": toys.loop((0, 1, 0))},
    )  # fmt: skip
    noisy = sanity.jittered(case, "ecg", share=0.01, seed=0).raw("ecg").fields["signal"]
    added = (noisy - case.raw("ecg").fields["signal"])[0]
    assert float(added[[0, 2]].std()) == pytest.approx(sanity.NOISE_MV, rel=0.25)
    assert not added[1].any()
    noisy = sanity.jittered(case, "echo", share=0.01, seed=0).raw("echo").fields["video"]
    before = case.raw("echo").fields["video"]
    middle = (before > 50) & (before < 205)
    added = (noisy - before)[middle]
    assert float(added.std()) == pytest.approx(sanity.NOISE_GRAY, rel=0.25)
    assert float(noisy.min()) >= 0
    assert not noisy[0, 1].any()  # A2C was not recorded


# ---------------------------------------------------------------- the truth


def cohort_of(folder: Path) -> Cohort:
    """Patients 1 to 5; in 5 nothing carries. Two tasks, whose truths differ."""
    ids = list(range(1, 6))
    write_subjects(
        folder, pd.DataFrame({"subject_id": ids, "split": "internal", "index_time": toys.ZERO})
    )
    write_outcomes(
        folder, pd.DataFrame({"subject_id": ids, "task": "death", "time_days": 10.0, "event": 1})
    )
    toys.cohort_of(folder / "one", toys.ecg(), {})  # a cohort.yaml to start from
    rows, segments = [], []
    (folder / "truth" / "echo").mkdir(parents=True)
    for subject in ids:
        noise = np.random.default_rng(subject).normal(0, 0.02, (3, 40)).astype(np.float32)
        write_ecg(folder / "ecg" / f"{subject}.hea", toys.ecg() + noise, toys.LEADS, 10.0)
        rows.append((subject, "ecg", f"ecg/{subject}.hea", None))
        path = f"echo/{subject}.dcm"
        # Something everywhere, so that the whole picture is sector.
        frames = np.maximum(toys.loop((0, 1, 0)), 20)
        write_cine(folder / path, frames, 40.0, 1.0, "A4C", ("1", "study", str(subject)))
        rows.append((subject, "echo", path, "A4C"))
        carries = "" if subject == 5 else "wide QRS"
        segments.append((subject, 0, "QRS", 0.0, 1.0, carries, "death" if carries else ""))
        segments.append((subject, 0, "T", 2.0, 3.0, "inverted", "later"))
        mask = np.zeros((8, 64, 64), bool)
        mask[:4, 32:, :32] = True  # the very block that is bright
        np.savez_compressed(
            folder / "truth" / "echo" / f"{subject}.npz",
            **{"A4C.la": np.packbits(mask), "A4C.lv_wall": np.packbits(~mask)},
            shape=np.array(mask.shape),
        )
    table = pd.DataFrame(rows, columns=["subject_id", "modality", "path", "view"])
    write_imaging(folder, table.assign(acquired=toys.ZERO))
    names = ["subject_id", "beat", "segment", "start_s", "end_s", "carries", "task"]
    truth = folder / "truth"
    pd.DataFrame(segments, columns=names).to_parquet(truth / "ecg_segments.parquet")
    pd.DataFrame(
        {
            "subject_id": ids,
            "term_death_left_atrium": [1.0, 1.0, 0.5, 2.0, 0.1],
            "term_death_age": 0.3,
            "term_death_later_wall_thickness": 3.0,
        }
    ).to_parquet(truth / "patients.parquet")
    pd.DataFrame(
        {"task": ["death", "death_later"], "column": ["bnp", "age"], "term": ["bnp", "age"]}
    ).to_parquet(truth / "lab_columns.parquet")
    spec = read_spec(folder / "one")
    later = spec.tasks["death"].model_copy(update={"title": "Later"})
    tasks = {**spec.tasks, "death_later": later}
    write_spec(spec.model_copy(update={"truth": "truth", "tasks": tasks}), folder)
    return Cohort.open(folder)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return cohort_of(tmp_path_factory.mktemp("heart"))


@pytest.fixture(scope="module")
def truth(cohort: Cohort) -> Truth:
    found = read_truth(cohort)
    assert found is not None
    return found


def test_the_truth_is_that_of_the_task(truth: Truth) -> None:
    assert list(truth.terms("death")) == ["term_left_atrium", "term_age"]
    assert list(truth.terms("death_later")) == ["term_wall_thickness"]
    assert len(truth.terms().columns) == 3
    assert truth.terms("another") is None
    assert truth.causal_columns("death") == {"bnp": {"bnp"}}
    assert truth.causal_columns("another") == {}
    assert truth.ecg_segments(1, "death")["carries"].tolist() == ["wide QRS", ""]
    assert truth.ecg_segments(1, "later")["carries"].tolist() == ["", "inverted"]
    assert truth.ecg_segments(9, "death") is None


def test_only_structures_whose_term_is_raised_carry(truth: Truth) -> None:
    assert truth.echo_structures(1, "death") == {"la": ("left_atrium",)}
    assert truth.echo_structures(1, "death_later") == {"lv_wall": ("wall_thickness",)}
    assert truth.echo_structures(5, "death") == {}
    assert truth.echo_structures(9, "death") == {}


def test_echo_masks_come_back_and_a_damaged_file_says_so(truth: Truth, tmp_path: Path) -> None:
    masks = truth.echo_masks(1)
    assert set(masks["A4C"]) == {"la", "lv_wall"}
    assert masks["A4C"]["la"].sum() == 4 * 32 * 32
    assert truth.echo_masks(9) is None
    cohort = cohort_of(tmp_path)
    (tmp_path / "truth" / "echo" / "1.npz").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(CohortError, match=r"1\.npz: not a readable mask file"):
        read_truth(cohort).echo_masks(1)


# ---------------------------------------------------------------- a whole report


@pytest.fixture(scope="module")
def report(cohort: Cohort) -> Any:
    run = run_of(ecg=(1.0, 1.0, 1.0), echo=(1.0, 2.0))
    return trust_report(run, cohort, n_patients=4, budget=SMALL)


def test_both_kinds_are_localised_where_something_carries(report: Any) -> None:
    ecg, echo = report["modalities"]["ecg"], report["modalities"]["echo"]
    assert (ecg["kind"], ecg["n"], ecg["truth"]["left_out_nothing_carries"]) == ("signal", 4, 1)
    assert (echo["kind"], echo["n"], echo["truth"]["left_out_nothing_carries"]) == ("video", 4, 1)
    by_method = {item["method"]: item for item in ecg["methods"]}
    found = by_method["hirescam"]["localisation"]
    # Of lead I's second and lead II's half second of twice the height, one lies in the QRS.
    assert found["energy"]["value"] == pytest.approx(0.5, abs=0.05)
    assert found["lesion_share"] == pytest.approx(0.25)
    assert found["pointing"]["value"] == 0
    assert by_method["integrated_gradients"]["localisation"]["n"] == 1
    (cam,) = (item for item in echo["methods"] if item["method"] == "hirescam")
    # The block that is bright is the atrium: 8 % of 200 lie in each other cell.
    assert cam["localisation"]["energy"]["value"] > 2 * cam["localisation"]["lesion_share"]
    assert cam["localisation"]["pointing"]["value"] == 1
    assert cam["localisation"]["lesion_share"] == pytest.approx(1 / 8)


def test_deletion_randomisation_and_noise_are_measured_on_recordings(report: Any) -> None:
    ecg, echo = report["modalities"]["ecg"], report["modalities"]["echo"]
    curves = ecg["methods"][2]["faithfulness"]["lead_blocks_left_out"]
    assert curves["n"] == 2
    assert curves["deletion"]["value"] > 0.2
    assert curves["insertion"]["value"] > 0.2
    # A block of averages has no weights: its map shows the input, and the check finds it out.
    checks = {item["method"]: item["randomisation"] for item in echo["methods"]}
    assert checks["hirescam"]["verdict"] == "survives"
    assert all(item["stability"]["n"] == 2 for item in echo["methods"])


def test_too_few_with_a_truth_leave_the_choice_to_faithfulness(report: Any) -> None:
    chosen = report["modalities"]["ecg"]["recommended"]
    assert chosen["rule"] == RULE_FEW
    assert "faithfulness" in chosen["held_out"]
    assert recommended(report, "ecg") == (chosen["method"], chosen["layer"])


def test_the_report_prints_and_makes_cards(report: Any) -> None:
    again = json.loads(json.dumps(report))
    for table in tables(again):
        assert table.columns[1:3] == ("energy in truth", "chance")
        assert all(len(row) == len(table.columns) for row in table.rows)
    made = card(report_part(again, "ecg", "hirescam", "act"))
    said = next(check for check in made.checks if check.name == "localisation")
    assert said.outcome == "pass"
    assert "lies in the waves that carry the outcome (4 " in said.sentence
    assert "by chance 25%, their share of the recorded time" in said.sentence
    assert "touches one in 0%; by chance 25%" in said.sentence
    echo = card(report_part(again, "echo", "hirescam", "act"))
    assert echo.marked  # it survives random weights


def test_a_map_at_chance_fails(report: Any) -> None:
    part = report_part(report, "ecg", "hirescam", "act")
    found = dict(part["localisation"])
    found["energy_ratio_pooled"] = {"value": 1.1, "low": 0.9, "high": 1.3, "n": 4}
    made = card({**part, "localisation": found})
    assert made.level == "fails"
    found["energy_ratio_pooled"] = {"value": 1.2, "low": 1.1, "high": 1.3, "n": 4}
    outcome = {c.name: c.outcome for c in card({**part, "localisation": found}).checks}
    assert outcome["localisation"] == "mixed"


def test_without_a_truth_nothing_is_localised(cohort: Cohort, tmp_path: Path) -> None:
    real = cohort_of(tmp_path)
    write_spec(read_spec(tmp_path).model_copy(update={"truth": None}), tmp_path)
    real = Cohort.open(tmp_path)
    report = trust_report(run_of(ecg=(1.0, 1.0, 1.0)), real, n_patients=4, budget=SMALL)
    part = report["modalities"]["ecg"]
    assert part["truth"] is None
    assert all(item["localisation"] is None for item in part["methods"])
    assert "truth is not known" in part["recommended"]["rule"]


# ---------------------------------------------------------------- a told table


def test_a_told_table_is_judged_by_its_causal_columns(tmp_path: Path) -> None:
    folder = write_cohort(tmp_path / "hf")
    (folder / "truth").mkdir()
    labs = read_spec(folder).modalities["labs"].columns
    cause = next(iter(labs))
    pd.DataFrame({"task": ["hf"], "column": [cause], "term": ["bnp"]}).to_parquet(
        folder / "truth" / "lab_columns.parquet"
    )
    write_spec(read_spec(folder).model_copy(update={"truth": "truth"}), folder)
    plan = Plan(
        cohort=folder, task="hf", strategy="late", out=tmp_path / "late",
        encoder_store=tmp_path / "encoders", modalities=("labs", "echo"), tables="text",
        settings=TrainingSettings(max_epochs=1),
    )  # fmt: skip
    run = train_run(plan, accelerator="cpu")
    cohort = Cohort.open(folder)
    report = trust_report(run, cohort, n_patients=4, budget=SMALL, modalities=["labs"])
    part = report["modalities"]["labs"]
    assert part["kind"] == "text"
    assert part["truth"]["causal_columns"] == [cause]
    (item,) = part["methods"]
    assert item["stability"]["n"] == item["randomisation"]["n"] == 2
    assert item["faithfulness"]["parts_left_out"]["n"] == 2
    (table,) = tables(report)
    assert table.columns[1:3] == ("AUROC columns", "words")
    case = open_case(run, cohort, int(cohort.having("labs")[0]))
    noisy = sanity.jittered(case, "labs", share=0.01, seed=0).raw("labs").fields
    was = case.raw("labs").fields
    changed = noisy["numbers"] != was["numbers"]
    assert changed.any()
    assert not changed[~was["is_number"]].any()
    if len(labs) > 1:
        assert item["localisation"]["n"] == part["n"] == 4
        said = card(report_part(report, "labs", item["method"])).sentences
        assert any("a column that truly causes the outcome" in text for text in said)
