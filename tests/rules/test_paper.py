"""The rule beside an allocation: by how much it is off the budget, and why."""

from __future__ import annotations

import pytest

from hasa_opt import rules


def test_two_passes_miss_what_the_exact_rule_meets() -> None:
    # Caps of 0.3 for the two clients that ask for most: two passes cannot give away what is left.
    found = rules.paper_rule(
        [0.1, 0.2, 0.3, 0.4], [10, 10, 10, 70], budget=0.3, caps=[0.8, 0.8, 0.3, 0.3]
    )
    weights = [0.1, 0.1, 0.1, 0.7]
    spent = sum(weight * width for weight, width in zip(weights, found.widths, strict=True))
    assert spent == pytest.approx(0.3, abs=1e-12)
    assert found.miss == pytest.approx(0, abs=1e-9)
    assert found.two_pass_miss < -0.001
    assert str(found) == (
        f"Off the budget: the exact rule by {found.miss:+.2%}, the paper's two-pass rule by "
        f"{found.two_pass_miss:+.2%}."
    )


def test_what_the_caps_rule_out_is_said() -> None:
    found = rules.paper_rule([0.1, 0.2], [1, 1], budget=0.8, caps=[0.4, 0.4])
    assert found.miss == pytest.approx(-0.5)
    assert str(found).endswith(
        "No wider allocation is possible: the caps and the widest width bind."
    )
