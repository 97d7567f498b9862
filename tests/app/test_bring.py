"""What was brought stays within bounds: the inbox, uploads, and what model.yaml may name."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
import torch
import yaml
from streamlit.testing.v1 import AppTest

from app.bring.belongings import Belongings
from app.bring.description import Bounds, Form, Part, read_rules, retitled, settle
from app.bring.importer import STOPPED, Importer, Job
from app.bring.inbox import VARIABLE, Inbox, inbox_of, name_inbox
from app.bring.visit import (
    Compared,
    Desk,
    Source,
    Visit,
    free_name,
    why_not_named,
    why_read_only,
)
from app.panels import frame
from app.workspace import Workspace, WorkspaceError
from models.importing.pickles import CheckpointError
from models.importing.source import open_checkpoint
from tests.app.test_pages import MAIN, words
from tests.models.importing.formats import FORMATS

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "b.bias": torch.ones(2)}


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    """Everything that may lie in an inbox, and links that lead out of it."""
    root = tmp_path / "inbox"
    FORMATS["zip"](STATE, root / "trial")
    FORMATS["safetensors shards"](STATE, root / "shards")
    FORMATS["distributed, two ranks"](STATE, root / "ranks")
    FORMATS["deepspeed"](STATE, root / "deep")
    (root / "trial" / "model.yaml").write_text("task: x")
    (root / "trial" / "codes.json").write_text("[]")
    (root / ".hidden").mkdir()
    torch.save(STATE, root / ".hidden" / "a.pt")
    outside = tmp_path / "outside"
    FORMATS["zip"](STATE, outside)
    os.symlink(outside, root / "away")
    os.symlink(outside / "weights.pt", root / "link.pt")
    FORMATS["distributed, two ranks"](STATE, root / "half")
    os.symlink(outside / "weights.pt", root / "half" / "__9_0.distcp")
    return Inbox(root)


def test_the_inbox_lists_checkpoints_and_nothing_outside(inbox: Inbox) -> None:
    found = inbox.checkpoints()
    assert list(found) == [
        "deep/global_step40",
        "ranks",
        "shards/model.safetensors.index.json",
        "trial/weights.pt",
    ]
    for path in found.values():
        assert set(open_checkpoint(path).entries) == set(STATE)
    assert list(inbox.descriptions()) == ["trial/model.yaml"]
    assert list(inbox.companions()) == ["trial/codes.json"]
    assert not inbox.inside(inbox.folder / ".." / "outside" / "weights.pt")
    assert not Inbox(inbox.folder / "none").is_there


def test_the_operator_names_the_inbox(inbox: Inbox, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert inbox_of(tmp_path).folder == tmp_path / "inbox"
    monkeypatch.setenv(VARIABLE, "")
    name_inbox(inbox.folder / "trial")
    assert list(inbox_of(tmp_path).checkpoints()) == ["weights.pt"]
    with pytest.raises(ValueError, match="there is no such folder; name an existing one"):
        name_inbox(tmp_path / "nowhere")


# ---------------------------------------------------------------- uploads


def taken(mine: Belongings, name: str, content: bytes) -> None:
    mine.take(name, io.BytesIO(content), len(content))


def saved(state: object) -> bytes:
    out = io.BytesIO()
    torch.save(state, out)
    return out.getvalue()


def test_uploads_have_names_of_ours_and_go_when_the_visitor_leaves(tmp_path: Path) -> None:
    mine = Belongings()
    taken(mine, "../../../evil.pt", saved(STATE))
    taken(mine, "/etc/cron.d/\x1bx.safetensors", b"no weights")
    inside = sorted(p.name for p in mine.folder.iterdir())
    assert inside == ["0001.pt", "0002.safetensors"]
    assert mine.folder.stat().st_mode & 0o077 == 0
    assert set(open_checkpoint(mine.source("../../../evil.pt")).entries) == set(STATE)
    assert "/etc/cron.d/?x.safetensors" in mine.files
    with pytest.raises(WorkspaceError, match="is none of"):
        taken(mine, "run.py", b"import os")
    taken(mine, "../../../evil.pt", saved({"c": torch.zeros(1)}))
    assert not (mine.folder / "0001.pt").exists()
    mine.borrow()
    mine.close()
    assert mine.folder.exists()
    mine.give_back()
    assert not mine.folder.exists()


def test_uploads_of_a_visitor_who_vanished_are_collected() -> None:
    mine = Belongings()
    folder = mine.folder
    taken(mine, "a.pt", saved(STATE))
    del mine
    assert not folder.exists()


@pytest.mark.parametrize("form", ["safetensors shards", "bin shards"])
def test_shards_are_found_under_names_of_ours(form: str, tmp_path: Path) -> None:
    place = FORMATS[form](STATE, tmp_path / "s")
    mine = Belongings()
    files = sorted(place.iterdir())
    for path in files[1:]:
        taken(mine, path.name, path.read_bytes())
    index = next(n for n in mine.files if n.endswith(".index.json"))
    with pytest.raises(WorkspaceError, match=f"the shards {files[0].name} are not there"):
        mine.source(index)
    taken(mine, files[0].name, files[0].read_bytes())
    assert mine.checkpoints() == [index]
    found = open_checkpoint(mine.source(index))
    assert torch.equal(found.read("a.weight"), STATE["a.weight"])


def test_an_index_that_points_elsewhere_finds_nothing(tmp_path: Path) -> None:
    mine = Belongings()
    index = {"weight_map": {"a": "../../outside.safetensors"}}
    taken(mine, "m.safetensors.index.json", json.dumps(index).encode())
    with pytest.raises(WorkspaceError, match=r"the shards \.\./\.\./outside"):
        mine.source("m.safetensors.index.json")


# ---------------------------------------------------------------- model.yaml


@pytest.fixture
def workspace(workspace_folder: Path) -> Workspace:
    return Workspace(workspace_folder)


@pytest.fixture
def cohort(workspace: Workspace) -> str:
    return next(e.folder.name for e in workspace.cohorts() if e.cohort is not None)


def form(folder: str, **changes: object) -> Form:
    parts = {"ehr": Part("onehot", vocabulary="codes.json", weights="enc.pt")}
    given = {"title": "T", "cohort": f"cohorts/{folder}", "task": "t", "strategy": "late"}
    return Form(**{**given, "parts": parts, **changes})


def test_the_form_writes_a_description_whose_files_are_found(workspace, cohort, inbox, tmp_path):
    (inbox.folder / "enc.pt").write_bytes(saved(STATE))
    rules = read_rules("a. -> b.\n\n/^x(\\d)/ → y\\1\ngone. ->")
    assert rules == [
        {"prefix": "a.", "to": "b."},
        {"regex": r"^x(\d)", "to": r"y\1"},
        {"prefix": "gone.", "to": ""},
    ]
    codes = tmp_path / "0007.json"
    codes.write_text("[]")
    bounds = Bounds(workspace, inbox, uploaded={"codes.json": codes})
    path = tmp_path / "settled.yaml"
    settle(form(cohort, rename=rules, within="ema").as_yaml, bounds, path)
    settled = yaml.safe_load(path.read_text())
    assert settled["cohort"] == str((workspace.folder / "cohorts" / cohort).resolve())
    assert settled["modalities"]["ehr"]["vocabulary"] == str(codes)
    weights = settled["modalities"]["ehr"]["encoder"]["weights"]
    assert weights == str(inbox.folder / "enc.pt")
    assert [r.get("regex") for r in settled["rename"]] == [None, r"^x(\d)", None]
    assert settled["within"] == "ema"
    retitled(path, "Another", tmp_path / "again.yaml")
    assert yaml.safe_load((tmp_path / "again.yaml").read_text()) == {**settled, "title": "Another"}


def test_a_description_of_the_inbox_names_what_lies_beside_it(workspace, cohort, inbox, tmp_path):
    home = workspace.folder / "cohorts" / cohort
    beside = inbox.folder / "trial"
    text = form(cohort, cohort=os.path.relpath(home, beside), parts={"x": Part("onehot")}).as_yaml
    bounds = Bounds(workspace, inbox, beside=beside)
    settle(text, bounds, tmp_path / "s.yaml")
    assert bounds.file("codes.json", "x") == (beside / "codes.json").resolve()


OUT_OF_BOUNDS = {
    "cohort": ({"cohort": "/etc"}, "field 'cohort': '/etc' is no cohort of this workspace"),
    "cohort above": ({"cohort": "../.."}, "is no cohort of this workspace"),
    "nul": ({"cohort": "a\0b"}, "is no cohort"),
    "vocabulary": (
        {"parts": {"ehr": Part("onehot", vocabulary="../../../../../../etc/passwd")}},
        "field 'modalities.ehr.vocabulary'",
    ),
    "weights": (
        {"parts": {"ehr": Part("onehot", weights="link.pt")}},
        "field 'modalities.ehr.encoder.weights': 'link.pt' is neither uploaded nor in the inbox",
    ),
    "baseline": ({"baseline": "runs/../cohorts/pe/outcomes.parquet"}, "field 'baseline'"),
    "strategy": ({"strategy": {"name": "late", "config": {"x": ["/etc"]}}}, "may be a path"),
    "path": ({"strategy": {"name": "late", "config": {"path": "x"}}}, "is not taken from a page"),
    "encoder": (
        {"parts": {"ehr": Part({"name": "clinical_bert", "config": {"path": "/etc"}})}},
        "field 'modalities.ehr.encoder.config.path': '/etc' is neither",
    ),
    "field": ({"within": ["x"]}, "model.yaml: field 'within'"),
}


@pytest.mark.parametrize("case", OUT_OF_BOUNDS)
def test_a_description_reaches_nothing_else(case, workspace, cohort, inbox, tmp_path):
    changes, message = OUT_OF_BOUNDS[case]
    text = form(cohort, **{"parts": {"ehr": Part("onehot")}, **changes}).as_yaml
    path = tmp_path / "settled.yaml"
    with pytest.raises(WorkspaceError) as caught:
        settle(text, Bounds(workspace, inbox), path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not path.exists()


@pytest.mark.parametrize("line", ["a.", "-> b", "a. = b."])
def test_a_line_that_is_no_rule_is_named(line):
    with pytest.raises(WorkspaceError, match="rename rules, line 2: write"):
        read_rules(f"a. -> b.\n{line}")


# ---------------------------------------------------------------- names, read-only, words


def test_a_name_is_a_slug_that_nobody_has(workspace, monkeypatch):
    taken_name = next(e.folder.name for e in workspace.runs())
    for name in ("", "..", "a/b", ".hidden", "a b", "x" * 81, "é"):
        assert "letters, digits" in why_not_named(workspace, name)
    assert "There is a run" in why_not_named(workspace, taken_name)
    assert why_not_named(workspace, "epoch=3".replace("=", "-")) == ""
    assert free_name(workspace, f"a/{taken_name}.pt") == f"{taken_name}-2"
    assert free_name(workspace, "../../..") == "imported"
    assert why_read_only(workspace) == ""
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "can only be read" in why_read_only(workspace)


def test_sentences_name_what_the_visitor_knows(workspace, inbox, tmp_path):
    mine = Belongings()
    taken(mine, "best.pt", saved(STATE))
    source = Source.of("best.pt", mine.source("best.pt"))
    desk = Desk(workspace, inbox, mine, Importer(), Visit(looked_at=(source, "")))
    config = mine.new(".yaml")
    desk.visit.compared = Compared(source, "", None, config, "pe", "")
    said = desk.in_words(f"{source.path}: does not fit {config.name}: {inbox.folder}/x/y")
    assert said == "best.pt: does not fit model.yaml: x/y"


# ---------------------------------------------------------------- the worker, and its end


def test_a_request_that_waits_can_be_stopped_and_says_so(monkeypatch):
    """Nothing is started for it, and whoever lent files gets them back."""
    importer = Importer()
    monkeypatch.setattr("app.bring.importer.start_worker", lambda _: pytest.fail("started"))
    ended = []
    lane = importer._lanes["short"]
    put = lane.put
    monkeypatch.setattr(lane, "put", lambda request: None if request else put(request))
    name = importer.ask("look", lambda: ended.append(1), source="x", within="")
    assert importer.job(name) == Job()
    importer.stop(name)
    assert importer.job(name).error == STOPPED
    from app.bring.importer import _Request

    put(_Request(name, {"id": name, "do": "look"}, lambda: ended.append(2)))
    for _ in range(100):
        if ended:
            break
        lane._thread.join(0.02)
    assert ended == [2]
    assert importer.job(name).error == STOPPED
    assert importer.job("unknown") is None


def test_failures_of_the_worker_are_sentences(tmp_path, monkeypatch):
    from app.bring import worker

    def damaged(asked, say):
        say("reading", 0, 2)
        raise CheckpointError("x.pt: not read:\nit is damaged")

    def broken(asked, say):
        raise RuntimeError("secret")

    def hungry(asked, say):
        raise MemoryError

    monkeypatch.setattr(worker, "DO", {"a": damaged, "b": broken, "c": hungry})
    out = io.StringIO()
    requests = "".join(json.dumps({"id": do, "do": do}) + "\n" for do in "abc")
    worker.serve(io.StringIO(requests), out)
    told = [json.loads(line) for line in out.getvalue().splitlines()]
    assert told[0] == {"id": "a", "what": "reading", "done": 0, "total": 2}
    assert told[1] == {"id": "a", "error": "x.pt: not read: it is damaged."}
    assert "error in the program" in told[2]["error"]
    assert "secret" not in told[2]["error"]
    assert "more memory" in told[3]["error"]


# ---------------------------------------------------------------- the page without a browser


@pytest.fixture
def page(workspace_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(frame.VARIABLE, str(workspace_folder))
    # No process: what the page says before anything is compared.
    monkeypatch.setattr(Importer, "get_ready", lambda *_: None)
    frame._open.clear()

    def opened() -> AppTest:
        test = AppTest.from_file(str(MAIN), default_timeout=120).run()
        test.switch_page("views/bring.py").run()
        assert not test.exception
        return test

    return opened


def test_without_an_inbox_the_page_says_how_to_name_one(page):
    test = page()
    assert "200 MB a file" in words(test)
    test.button_group[1].set_value("inbox").run()
    assert "--inbox FOLDER" in words(test)


def test_what_lies_in_a_checkpoint_shows_as_text(page, inbox, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(inbox.folder))
    told = {
        "form": "torch.save", "within": "ema", "hyperparameters": {"<b>": 1}, "numbers": 8,
        "looks_like": "a **bold** model; bring it", "parts": {":red[a]": 2},
        "tensors": [{"name": "a.weight", "shape": [2, 3], "type": "float32"}],
    }  # fmt: skip
    monkeypatch.setattr(Importer, "ask", lambda *_, **__: "job")
    monkeypatch.setattr(Importer, "job", lambda *_: Job(answer=told))
    test = page()
    box = next(b for b in test.selectbox if b.label == "Checkpoint in the inbox")
    assert box.options == list(inbox.checkpoints())
    box.select("trial/weights.pt").run()
    assert not test.exception
    said = words(test)
    assert "trial/weights\\.pt" in said
    assert "1 tensor" in said
    assert ":red[a]" not in said
    assert "**bold**" not in said
    written = yaml.safe_load(next(c.value for c in test.code if "task:" in c.value))
    assert written["strategy"] == "late"
    assert written["cohort"].startswith("cohorts/")


def test_a_refused_file_is_one_sentence_and_the_page_goes_on(page, inbox, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(inbox.folder))
    monkeypatch.setattr(Importer, "ask", lambda *_, **__: "job")
    sentence = f"{inbox.folder}/trial/weights.pt: not read: it wants 'os.system' to be run."
    monkeypatch.setattr(Importer, "job", lambda *_: Job(error=sentence))
    test = page()
    box = next(b for b in test.selectbox if b.label == "Checkpoint in the inbox")
    box.select("trial/weights.pt").run()
    assert not test.exception
    (said,) = [e.value for e in test.error]
    assert said.replace("\\", "") == f"**Refused.** {sentence.removeprefix(f'{inbox.folder}/')}"
    assert box.options


def test_problems_of_a_cohort_that_are_alike_are_one_row(page, monkeypatch):
    lacking = {"severity": "error", "file": "imaging.parquet", "remedy": "add it"}
    problems = [
        *(
            {**lacking, "where": f"subject {n}", "what": f"'ct/{n}.nii' is missing"}
            for n in (7, 81)
        ),
        {"severity": "warning", "file": ":red[x]", "where": "", "what": "odd", "remedy": "look"},
    ]
    monkeypatch.setattr(Importer, "ask", lambda *_, **__: "job")
    told = {"ok": False, "problems": problems}
    monkeypatch.setattr(Importer, "job", lambda *_: Job(answer=told))
    test = page()
    test.button_group[0].set_value("cohort").run()
    next(b for b in test.button if b.label == "Check").click().run()
    assert not test.exception
    assert "2 errors, 1 warning" in words(test)
    rows = test.table[0].value
    assert rows["Times"].tolist() == ["2", "1"]
    assert rows["Where"].str.replace("\\", "").tolist() == ["subject 7, …", ""]
    assert ":red[x]" not in rows.to_string()
    assert len(test.dataframe[0].value) == 3
