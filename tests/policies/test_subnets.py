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
