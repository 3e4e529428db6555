"""What a client trains is checked when it is stated, before anything trains."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hasa_opt as hasa
from hasa_opt.policies import Subnets


def test_columns_are_copies_that_cannot_be_written_to() -> None:
    given = np.array([0.5, 1.0])
    subnets = Subnets(given)
    given[0] = 0.1
    assert subnets.widths.tolist() == [0.5, 1.0]
    assert (subnets.scheme, subnets.mean_widths, subnets.share) == ("prefix", None, None)
    with pytest.raises(ValueError, match="read-only"):
        subnets.widths[0] = 0.1


def test_means_may_be_as_far_below_a_width_as_they_leave_something_to_train() -> None:
    """Batches train widths from twice the mean less the width up to the width."""
    subnets = Subnets([0.8, 0.5], scheme="ordered_dropout", mean_widths=[0.41, 0.5], share=0.45)
    assert subnets.mean_widths is not None
    assert subnets.mean_widths.tolist() == [0.41, 0.5]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"widths": [0.5, 1.2]}, "row 1 has 1.2"),
        ({"widths": [0.0, 0.5]}, "row 0 has 0.0"),
        ({"widths": [[0.5]]}, "one width per client"),
        ({"widths": []}, "one width per client"),
        ({"widths": ["a"]}, "give numbers"),
        ({"scheme": None}, "must be a name"),
        ({"share": -0.1}, "at least 0"),
        ({"mean_widths": [0.5, 0.5]}, "leave them out"),
        ({"scheme": "ordered_dropout", "mean_widths": [0.5]}, "1 mean_widths for 2"),
        ({"scheme": "ordered_dropout", "mean_widths": [0.5, 0.9]}, "at most the width"),
        ({"scheme": "ordered_dropout", "mean_widths": [0.5, 0.4]}, "above half the width"),
    ],
)
def test_what_cannot_be_trained_is_refused(columns: dict[str, Any], said: str) -> None:
    with pytest.raises(hasa.InputError, match=said):
        Subnets(**({"widths": [0.5, 0.8]} | columns))


def test_a_picture_shows_each_block_where_it_lies_by_group() -> None:
    figures = pytest.importorskip("matplotlib.figure")
    subnets = Subnets([0.5, 0.25, 0.5, 0], starts=[0.5, 0, 0.5, 0], deployed=[0.5, 0.25, 0.5, 0.2])
    axes = subnets.plot(["a", "b", "c", "d"]).axes[0]
    shown = {
        label.get_text(): (bar.get_x(), bar.get_width(), bar.get_facecolor())
        for label, bar in zip(axes.get_yticklabels(), axes.patches, strict=True)
    }
    assert list(shown) == ["b", "d", "a", "c"]
    assert [place[:2] for place in shown.values()] == [(0, 0.25), (0, 0), (0.5, 0.5), (0.5, 0.5)]
    assert shown["a"][2] == shown["c"][2] != shown["b"][2] == shown["d"][2]
    assert axes.get_xlim() == (0, 1)
    mine = figures.Figure()
    left, right = mine.subplots(1, 2)
    assert Subnets([0.5, 1.0]).plot(ax=right) is mine
    assert not left.patches
    assert [bar.get_width() for bar in right.patches] == [0.5, 1.0]
    assert [label.get_text() for label in right.get_yticklabels()] == ["0", "1"]
    own = Subnets([0.5] * 4, models=[1, 0, 1, 0]).plot().axes[0]
    assert [label.get_text() for label in own.get_yticklabels()] == ["1", "3", "0", "2"]
    colours = [bar.get_facecolor() for bar in own.patches]
    assert colours[0] == colours[1] != colours[2] == colours[3]


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(hasa.InputError, match="scheme 'rolling' change from round to round"):
        Subnets([0.5], scheme="rolling").plot()
    with pytest.raises(hasa.InputError, match="1 names for 2 clients"):
        Subnets([0.5, 0.5]).plot(["a"])
