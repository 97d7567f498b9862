from __future__ import annotations

from itertools import chain, combinations

import pytest

from analysis.missing.design import design_of, subsets


def test_all_subsets_the_whole_last():
    assert subsets(("a", "b", "c")) == (
        ("a",), ("b",), ("c",), ("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c"),
    )  # fmt: skip


@pytest.mark.parametrize("m", [1, 2, 5, 7])
def test_up_to_seven_modalities_are_asked_in_every_combination(m):
    names = tuple("abcdefg"[:m])
    design = design_of(names)
    every = chain.from_iterable(combinations(names, size) for size in range(m + 1))
    assert design.combinations == tuple(every)
    assert design.all_of_them
    assert [design.code(c) for c in (names, (), names[:1])] == [2**m - 1, 0, 1]
    assert f"All {2**m - 1} combinations" in design.words


def test_more_are_sampled_by_size():
    names = tuple("abcdefghi")
    design = design_of(names, seed=3)
    found = set(design.combinations)
    assert len(found) == len(design.combinations) == 128
    assert design.combinations[0] == ()
    assert design.combinations[-1] == names
    needed = [(n,) for n in names] + list(combinations(names, 8))
    assert found.issuperset(needed)
    sizes = [len(c) for c in design.combinations]
    assert sizes == sorted(sizes)
    between = [sizes.count(size) for size in range(2, 8)]
    assert sum(between) == 128 - 20
    assert max(between) - min(between) <= 1
    assert design_of(names, seed=3).combinations == design.combinations
    assert design_of(names, seed=4).combinations != design.combinations
    assert not design.all_of_them
    assert "127 of the 511 combinations" in design.words
    assert "seed 3" in design.words
