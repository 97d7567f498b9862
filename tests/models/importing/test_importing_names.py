from __future__ import annotations

import pytest
import torch
from torch import nn

from models.importing.inference import infer_settings, numbers_in, unseen, with_numbers
from models.importing.layouts import PUBLIC, looks_like
from models.importing.names import Rename, common_prefix, compare
from models.importing.pickles import CheckpointError


def tensors(**shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return {name.replace("__", "."): torch.zeros(shape) for name, shape in shapes.items()}


def test_the_report_has_a_line_for_every_tensor():
    expected = tensors(a__w=(2, 3), b__w=(4,), c__w=(5,), d__w=(2,), n=(1,))
    found = tensors(a__w=(2, 3), old__w=(4,), c__w=(6,), x=(1,))
    found["n"] = torch.zeros(1, dtype=torch.int64)
    report = compare(expected, found, [Rename("old.", "b.")])
    by_name = {line.name: line for line in report.lines}
    assert {name: line.state for name, line in by_name.items()} == {
        "a.w": "matched",
        "b.w": "renamed",
        "c.w": "shape differs",
        "d.w": "missing",
        "n": "type differs",
        "x": "unexpected",
    }
    assert by_name["b.w"].why == "old. → b."
    assert by_name["c.w"].why == "(6,) instead of (5,)"
    assert report.sources == {"a.w": "a.w", "b.w": "old.w"}
    assert report.words.startswith("1 matched, 1 renamed, 1 shape differs, 1 missing")


def test_rules_may_be_regular_expressions():
    expected = tensors(blocks__0__w=(1,), blocks__1__w=(1,))
    found = tensors(block0__w=(1,), block1__w=(1,))
    report = compare(expected, found, [Rename(r"block(\d+)\.", r"blocks.\1.", regex=True)])
    assert report.counts == {"renamed": 2}


def test_two_tensors_with_one_name_are_refused():
    expected = tensors(a__w=(1,))
    with pytest.raises(CheckpointError, match=r"'a\.w' and 'b\.w' both become 'a\.w'"):
        compare(expected, tensors(a__w=(1,), b__w=(1,)), [Rename("b.", "a.")])


def test_the_prefix_of_the_model_is_told_from_its_neighbours():
    """A Lightning module also holds its loss and an averaged copy of half the model."""
    expected = {"enc.0.weight", "enc.1.weight", "head.weight"}
    names = [*(f"student.{n}" for n in expected), "teacher.enc.0.weight", "loss.weight"]
    assert common_prefix(expected, names) == "student."
    assert common_prefix(expected, ["enc.0.weight"]) == ""
    assert common_prefix(expected, ["other"]) == ""


def made(layout) -> dict[str, torch.Tensor]:
    return {
        name: torch.zeros([2 if side is None else side for side in shape], device="meta")
        for name, shape in layout.signs.items()
    }


@pytest.mark.parametrize("layout", PUBLIC, ids=lambda layout: layout.title[:20])
def test_public_models_are_known_by_their_signs_under_any_prefix(layout):
    signs = made(layout)
    found = looks_like({f"module.{name}": tensor for name, tensor in signs.items()})
    assert found is layout
    first = next(iter(signs))
    assert looks_like({n: t for n, t in signs.items() if n != first}) is not layout


def test_our_own_twins_of_public_models_look_like_them():
    from models.encoders.echoprime import EchoPrime, EchoPrimeConfig
    from models.encoders.stmem import STMEM, STMEMConfig

    with torch.device("meta"):
        echo = EchoPrime(EchoPrimeConfig()).state_dict()
        ecg = STMEM(STMEMConfig()).state_dict()
    assert looks_like(echo).title.startswith("EchoPrime (")
    assert looks_like(ecg).title.startswith("ST-MEM")
    assert looks_like({"a": torch.zeros(1)}) is None


class Stack(nn.Module):
    def __init__(self, width: int, depth: int, codes: int, heads: int) -> None:
        super().__init__()
        self.table = nn.Embedding(codes + 2, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 4 * width), nn.Linear(4 * width, width))
            for _ in range(depth)
        )
        self.heads = heads


def test_widths_depths_and_vocabularies_are_read_off_the_shapes():
    start = {("width",): 8, ("depth",): 2, ("codes",): 10, ("heads",): 4}

    def build(changed):
        values = {path[0]: changed.get(path, value) for path, value in start.items()}
        return Stack(**values).state_dict()

    found = Stack(width=12, depth=5, codes=33, heads=2).state_dict()
    inferred = infer_settings(build, start, found)
    assert inferred.settings == {("width",): 12, ("depth",): 5, ("codes",): 33}
    assert inferred.report.counts == {"matched": len(found)}
    assert unseen(build, start) == [("heads",)]


def test_what_does_not_belong_is_not_forced_to_fit():
    start = {("width",): 8, ("depth",): 2, ("codes",): 10, ("heads",): 4}

    def build(changed):
        values = {path[0]: changed.get(path, value) for path, value in start.items()}
        return Stack(**values).state_dict()

    inferred = infer_settings(build, start, nn.Linear(7, 3).state_dict())
    assert inferred.settings == {}
    assert len(inferred.report.of("unexpected")) == 2


def test_numbers_of_settings_are_found_and_replaced_by_path():
    settings = {"width": 8, "sides": [1, 2], "path": True, "rate": 0.5, "leads": ["I"], "no": None}
    assert numbers_in(settings) == {
        ("width",): 8,
        ("sides", "0"): 1,
        ("sides", "1"): 2,
        ("path",): True,
    }
    changed = with_numbers(settings, {("sides", "1"): 5, ("path",): 0})
    assert changed == {**settings, "sides": [1, 5], "path": False}
    assert ("width",) not in numbers_in(settings, but={"width"})


@pytest.mark.parametrize(
    "pattern", [r"(a+)+$", r"(a|a)*b", r".*.*.*.*x", r"(?:(?:a*)*)*b", r"(\w{1,99})*!", "("]
)
def test_an_expression_that_could_take_for_ever_is_refused(pattern):
    with pytest.raises(CheckpointError, match=r"^the rename rule .*; (mend|write) .*\.$"):
        Rename(pattern, regex=True)


def test_ordinary_expressions_are_taken_and_applied():
    rule = Rename(r"^(?:module\.)?enc_(\w+)\.(\d+)\.", r"encoders.\1.\2.", regex=True)
    assert rule.apply("module.enc_ct.3.weight") == "encoders.ct.3.weight"
    with pytest.raises(CheckpointError, match="cannot be applied"):
        Rename("enc", r"\3", regex=True).apply("enc")
