"""Where groups share room there is an allocation to start from, before any search."""

from __future__ import annotations

import numpy as np
import pytest

import hasa_opt as hasa
from hasa_opt._utils.deadline import UNLIMITED
from hasa_opt.problem.condensed import Condensed
from hasa_opt.solving.even import even_shares


def build(n, *limits, budget=0.5, least=None):
    rng = np.random.default_rng(3)
    return hasa.AllocationProblem.build(
        hasa.Clients(rng.integers(10, 100, n)),
        widths=(0.125, 0.25, 0.5, 0.75),
        budget=budget,
        utility=hasa.utility.hasa(rng.random(n)),
        constraints=[*limits, *([] if least is None else [hasa.MinWidth(least)])],
    )


def started(problem):
    small = Condensed.of(problem)
    choice = even_shares(small, UNLIMITED)
    return None if choice is None else problem.widths[small.expanded(choice)].tolist()


def test_each_group_has_an_even_share():
    assert started(build(4, hasa.Capacity([0, 0, 1, 1]))) == [0.5, 0.5, 0.5, 0.5]
    assert started(build(4, hasa.Capacity([0, 1, 2, 2]))) == [0.25, 0.25, 0.25, 0.25]


def test_a_group_that_cannot_be_as_narrow_has_the_least_that_it_can():
    wide = [0.75, 0.125, 0.125, 0.125]
    assert started(build(4, hasa.Capacity([0, 0, 1, 1], 1.25), least=wide, budget=1))[2:] == [
        0.5,
        0.5,
    ]
    assert started(build(4, hasa.Capacity([0, 0, 1, 1], 1.0), least=wide, budget=1))[2:] == [
        0.25,
        0.25,
    ]


def test_without_room_or_budget_there_is_nothing_to_start_from():
    assert started(build(4, hasa.Capacity([0, 0, 1, 1], 0.125))) is None
    assert started(build(4, hasa.Capacity([0, 0, 1, 1]), budget=0.1)) is None


@pytest.mark.parametrize("solver", ["auto", "highs"])
def test_ten_thousand_clients_are_never_left_without_an_allocation(solver):
    groups = np.arange(10_000) % 8
    result = hasa.solve(build(10_000, hasa.Capacity(groups)), solver, time_limit_s=0.5)
    assert result.incumbent_from == "even shares"
    assert result.widths.reshape(-1, 8).max(axis=0).sum() <= 1
    assert result.bound >= result.objective
