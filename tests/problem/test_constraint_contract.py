"""Every constraint goes through the check that is offered to those of other packages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import hasa_opt as hasa
from hasa_opt import AtLeast, Budget, Clients, Deadline, Fairness, Menu
from hasa_opt.errors import CheckError
from hasa_opt.problem import CONSTRAINTS
from hasa_opt.problem.limits import Row, Terms, constraint_name
from hasa_opt.testing import check_constraint
from hasa_opt.testing.problems import tree

SAMPLES = np.array([3, 1, 4, 2])
"""Of the clients that the check takes where none are given; a and b are in the north."""

SECONDS = [4, 9, 14]


def widths(problem, choice):
    return problem.widths[choice]


def spent(problem, choice, rows):
    return (SAMPLES * widths(problem, choice))[rows].sum()


OURS = {
    "Budget": (
        Budget([0, 2, 5], 11, "bytes"),
        lambda problem, choice: np.array([0, 2, 5])[choice].sum() <= 11,
    ),
    "Coverage": (
        hasa.Coverage({1.0: 0.4, 0.5: 0.7}),
        lambda problem, choice: SAMPLES[choice == 2].sum() >= 4 and SAMPLES[choice >= 1].sum() >= 7,
    ),
    "Quota": (
        hasa.Quota({1.0: 2, 0.25: 1}),
        lambda problem, choice: (choice == 2).sum() <= 2 and (choice == 0).sum() <= 1,
    ),
    "SiteBudgets": (
        hasa.SiteBudgets(tree(), {"north": 10, "world": 24}),
        lambda problem, choice: (
            4 * spent(problem, choice, [0, 1]) <= 10 and 4 * spent(problem, choice, range(4)) <= 24
        ),
    ),
    "Switches": (
        hasa.Switches([0.25, 0.5, 0.5, 1.0], 2),
        lambda problem, choice: (choice != [0, 1, 1, 2]).sum() <= 2,
    ),
    "SameOption": (
        hasa.SameOption({"a": "x", "b": "y", "c": "x", "d": "y"}),
        lambda problem, choice: choice[0] == choice[2] and choice[1] == choice[3],
    ),
    "Capacity": (
        hasa.Capacity([0, 1, 1, 2], 1.5),
        lambda problem, choice: (
            widths(problem, choice)[[0, 3]].sum() + widths(problem, choice)[1:3].max() <= 1.5
        ),
    ),
    "Robust": (hasa.Robust(2, 0.2), None),
    "Fairness(maxmin)": (Fairness("maxmin"), None),
    "Fairness(leximin)": (Fairness("leximin"), None),
    "MinWidth": (
        hasa.MinWidth([0.25, 0.5, 0.5, 1.0]),
        lambda problem, choice: (choice >= [0, 1, 1, 2]).all(),
    ),
    "AtLeast": (
        AtLeast("width", 0.5),
        lambda problem, choice: (choice >= 1).all(),
    ),
    "Fixed": (
        hasa.Fixed({"b": 1.0, 0: 0.25}),
        lambda problem, choice: choice[1] == 2 and choice[0] == 0,
    ),
    "Forbidden": (
        hasa.Forbidden({"c": [1.0, 0.25]}),
        lambda problem, choice: choice[2] == 1,
    ),
}


@pytest.mark.parametrize("name", OURS)
def test_it_keeps_its_contract(name):
    constraint, allows = OURS[name]
    assert constraint_name(constraint) == name
    check_constraint(constraint, allows=allows)


def test_deadlines_keep_their_contract():
    menu = Menu(["light", "half", "full"], costs={"seconds": SECONDS}, per="client", full="full")
    check_constraint(
        Deadline("seconds", [14, 9, 4, 10]),
        menu=menu,
        allows=lambda problem, choice: (np.array(SECONDS)[choice] <= [14, 9, 4, 10]).all(),
    )


def test_every_constraint_has_been_checked():
    assert set(CONSTRAINTS) == {*OURS, "Deadline"}


def test_clients_and_options_can_be_given():
    menu = Menu(["skip", "light", "full"], costs={"joules": [0, 3, 7]}, per="client", full="full")
    check_constraint(
        hasa.Quota({"skip": 1}),
        clients=Clients([5, 6], names=["x", "y"]),
        menu=menu,
        allows=lambda problem, choice: (choice == 0).sum() <= 1,
    )


# ---------------------------------------------------------------------------- broken constraints


@dataclass(frozen=True)
class Broken:
    """At most two clients at the widest width, but for what is changed."""

    coefficients: object = None
    members: object = None
    lower: object = None
    upper: object = 2
    label: object = "at most two"

    def rows(self, terms: Terms) -> tuple[Row, ...]:
        wide = np.zeros(terms.shape, dtype=np.int64)
        wide[:, -1] = 1
        given = wide if self.coefficients is None else self.coefficients(wide)
        return (Row(self.label, given, self.lower, self.upper, self.members),)


class Forgetful:
    """Another limit at each look."""

    upper = 0

    def rows(self, terms: Terms) -> tuple[Row, ...]:
        self.upper += 1
        return Broken(upper=self.upper).rows(terms)


class Twins:
    def rows(self, terms: Terms) -> tuple[Row, ...]:
        return Broken().rows(terms) * 2


class Strings:
    def rows(self, terms: Terms) -> tuple[str, ...]:
        return ("at most two",)


class Mask:
    """A mask of another type or shape."""

    def __init__(self, table) -> None:
        self.table = table

    def mask(self, terms: Terms):
        return self.table


FAULTS = {
    "floats": (Broken(coefficients=lambda wide: wide / 2), "coefficients of float64"),
    "transposed": (Broken(coefficients=lambda wide: wide.T), r"coefficients of int64\(3, 4\)"),
    "members out of order": (Broken(members=np.array([2, 0])), "increasing rows wanted"),
    "members that are not there": (Broken(members=np.array([0, 9])), "increasing rows wanted"),
    "no limit": (Broken(upper=None), "needs a lower or an upper limit"),
    "a fractional limit": (Broken(upper=1.5), "whole numbers"),
    "no label": (Broken(label=""), "without a label"),
    "two alike": (Twins(), "two rows of the same label"),
    "no rows": (Strings(), "gives a str for a row"),
    "changes its mind": (Forgetful(), "other rows when it is asked again"),
    "a mask of numbers": (Mask(np.ones((4, 3))), "a mask of float64"),
    "a mask of one row": (Mask(np.ones(3, dtype=bool)), r"a mask of bool\(3,\)"),
    "against its meaning": (Broken(upper=3), r"admits the options \[.*\], against its meaning"),
    "too strict": (Broken(upper=1), r"rules out the options \[.*\], against its meaning"),
    "nothing": (object(), "states nothing: it needs a method rows"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told(fault):
    constraint, words = FAULTS[fault]
    with pytest.raises(CheckError, match=f"^constraint {type(constraint).__name__}.*{words}"):
        check_constraint(constraint, allows=lambda problem, choice: (choice == 2).sum() <= 2)


def test_the_whole_constraint_passes():
    check_constraint(Broken(), allows=lambda problem, choice: (choice == 2).sum() <= 2)
