from __future__ import annotations

import pytest

from analysis.trust.card import NOT_MEASURED, card


def est(value, low, high, n=50):
    return {"value": value, "low": low, "high": high, "n": n}


def pointing(value=0.78, low=0.66, high=0.88, chance=0.001, empty=0):
    return {
        "n": 50, "pointing": est(value, low, high), "chance": chance,
        "energy_ratio": est(612.0, 400.0, 800.0), "no_positive_evidence": empty,
    }  # fmt: skip


def codes(value=0.93, low=0.9, high=0.95):
    return {"n": 48, "auroc": {"code": est(value, low, high)}, "chance": 0.5}


def random(verdict="depends on the weights", value=0.1, head=0.2):
    stages = [{"strongest": est(head, head, head)}, {"strongest": est(value, value, value)}]
    like = est(value, value, value)
    return {"n": 6, "verdict": verdict, "similarity": like, "threshold": 0.5, "stages": stages}


def curves(deletion=(0.4, 0.2, 0.6), insertion=(0.3, 0.1, 0.5)):
    return {"parts_left_out": {"n": 10, "deletion": est(*deletion), "insertion": est(*insertion)}}


def still(value=0.95):
    return {"n": 6, "rank": est(value, value, value)}


def part(**sections):
    base = {
        "localisation": pointing(), "randomisation": random(), "faithfulness": curves(),
        "stability": still(), "simulated": True, "truth": {"lesion": "embolus"}, "better": None,
    }  # fmt: skip
    return {**base, **sections}


def test_a_good_card_says_what_was_measured() -> None:
    made = card(part())
    assert made.level == "good"
    assert not made.marked
    assert made.sentences[0] == (
        "Among 50 simulated patients with emboli, the strongest point of this map lay in an "
        "embolus in 78% (95% interval 66 to 88); by chance 0.1%. It puts 612 times as much of "
        "itself into emboli as an even map would."
    )
    assert {check.name for check in made.checks} == {
        "localisation", "randomisation", "faithfulness", "stability",
    }  # fmt: skip


def test_a_map_that_survives_random_weights_fails_and_says_so_first() -> None:
    made = card(part(randomisation=random("survives", 0.81)))
    assert made.level == "fails"
    assert made.marked
    assert made.sentences[0] == (
        "Survives random weights (rank correlation 0.81, 6 patients): it shows the input, not the "
        "model. Do not trust."
    )


def test_a_map_that_points_to_the_wrong_place_fails_and_says_by_how_much() -> None:
    made = card(part(localisation=pointing(0.02, 0.0, 0.1, empty=7)))
    assert made.level == "fails"
    assert "in 2% (95% interval 0 to 10); by chance 0.1%" in made.sentences[0]
    assert "In 7 of them it shows nothing at all." in made.sentences[0]


def test_pointing_no_better_than_chance_fails_however_often_it_hits() -> None:
    made = card(part(localisation=pointing(0.8, 0.66, 0.9, chance=0.7)))
    assert made.level == "fails"


@pytest.mark.parametrize(
    ("value", "level"), [(0.70, "good"), (0.69, "mixed"), (0.30, "mixed"), (0.29, "fails")]
)
def test_levels_of_pointing_at_the_stated_thresholds(value, level) -> None:
    assert card(part(localisation=pointing(value, value - 0.1, value + 0.1))).level == level


@pytest.mark.parametrize(
    ("value", "low", "level"),
    [(0.93, 0.9, "good"), (0.85, 0.8, "mixed"), (0.65, 0.6, "fails"), (0.75, 0.49, "fails")],
)
def test_levels_of_causal_codes(value, low, level) -> None:
    made = card(part(localisation=codes(value, low)))
    assert made.level == level
    sentence = next(c.sentence for c in made.checks if c.name == "localisation")
    assert f"in {100 * value:.0f}% of pairs" in sentence
    assert "by chance 50%" in sentence


def test_an_uncertain_gain_is_mixed_and_a_loss_fails() -> None:
    unsure = card(part(faithfulness=curves(insertion=(0.1, -0.1, 0.3))))
    assert unsure.level == "mixed"
    assert "is not certain" in unsure.sentences[0]
    worse = card(part(faithfulness=curves(deletion=(-0.3, -0.5, -0.1))))
    assert worse.level == "fails"
    assert "worse than a random order: advantage -0.30 (-0.50 to -0.10)" in worse.sentences[0]


def test_an_unsteady_map_is_not_good() -> None:
    assert card(part(stability=still(0.7))).level == "mixed"
    assert card(part(stability=still(0.2))).level == "fails"


def test_partly_surviving_is_mixed_and_an_encoder_s_own_map_is_named() -> None:
    assert card(part(randomisation=random("partly", 0.4))).level == "mixed"
    made = card(part(randomisation=random(head=0.7)))
    assert made.level == "good"
    assert any("shows what the encoder reads" in s for s in made.sentences)


def test_without_the_truth_faithfulness_has_to_carry_it() -> None:
    assert card(part(localisation=None)).level == "good"
    assert card(part(localisation=None, faithfulness=None)).level == "mixed"


def test_not_measured() -> None:
    for nothing in (
        None,
        part(localisation=None, randomisation=None, faithfulness=None, stability=None),
    ):
        made = card(nothing)
        assert (made.level, made.sentences) == ("unknown", (NOT_MEASURED,))
        assert "fusionlens trust" in made.sentences[0]


def test_a_map_that_is_not_the_best_names_the_better_one() -> None:
    assert card(part(better="HiResCAM at fine features")).sentences[-1] == (
        "Measured best of this run's maps: HiResCAM at fine features."
    )


def test_a_model_that_knows_little_is_named_as_a_reason() -> None:
    weak = {"localisation": codes(0.75, 0.7), "knowledge": {"r2": 0.17}}
    assert card(part(**weak)).sentences[-1] == (
        "Part of this is the model, not the map: the true causes explain only 17% of the "
        "differences between its predictions."
    )
    assert not any("Part of this" in s for s in card(part(knowledge={"r2": 0.17})).sentences)
    knowing = card(part(localisation=codes(0.75, 0.7), knowledge={"r2": 0.8}))
    assert not any("Part of this" in s for s in knowing.sentences)
