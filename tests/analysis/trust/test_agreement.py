from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from analysis.trust.agreement import agreement, events_of_tokens
from models.contracts import CodeVocabulary, EventPositions


def test_matrix_by_hand() -> None:
    maps = {
        "a": np.array([9.0, 8, 1, 2, 0]),
        "minus a": -np.array([9.0, 8, 1, 2, 0]),
        "b": np.array([0.0, 1, 8, 9, 2]),
    }
    found = agreement(maps, k=2)
    assert found.names == ("a", "minus a", "b")
    # Magnitudes are compared: attention has no sign.
    assert found.rank[0, 1] == pytest.approx(1.0)
    assert found.top[0, 1] == 1.0
    # ranks 5 4 2 3 1 and 1 2 4 5 3: 1 - 6 x 32 / 120
    assert found.rank[0, 2] == pytest.approx(1 - 6 * (16 + 4 + 4 + 4 + 4) / 120)
    assert found.top[0, 2] == 0.0
    assert np.array_equal(found.rank, found.rank.T)
    assert found.chance == pytest.approx(2 / 5)
    assert found.as_json()["k"] == 2


def test_maps_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="one grid"):
        agreement({"a": np.ones(3), "b": np.ones(4)})


def case(layout, mask, codes):
    encoded = SimpleNamespace(layout=layout, mask=torch.tensor([mask]))
    raw = SimpleNamespace(
        fields={"codes": torch.tensor([codes]), "mask": torch.ones(1, len(codes))}
    )
    return SimpleNamespace(encoded={"ehr": encoded}, raw=lambda name: raw)


def test_attention_to_a_code_is_divided_among_its_events() -> None:
    layout = CodeVocabulary(torch.tensor([[5, 7, 0]]))
    made = events_of_tokens(
        case(layout, [True, True, False], [7, 5, 7, 9]), "ehr", np.array([0.4, 0.6, 0.9])
    )
    assert made.tolist() == pytest.approx([0.3, 0.4, 0.3, 0.0])


def test_attention_to_an_event_is_its_own() -> None:
    shares = np.array([0.2, 0.8])
    made = events_of_tokens(case(EventPositions(), [True, True], [7, 5]), "ehr", shares)
    assert made.tolist() == [0.2, 0.8]
