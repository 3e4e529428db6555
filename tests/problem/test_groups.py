"""SameOption and Capacity against every combination, by what they mean in words."""

from __future__ import annotations

import itertools
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from support import many

import hasa_opt as hasa
from hasa_opt.errors import InfeasibleError, InputError, UnsupportedConstraintError
from hasa_opt.problem.condensed import Condensed
from hasa_opt.solving.infeasible import explain_infeasible

BACKENDS = [
    record.name
    for record in hasa.solvers()
    if record.available and record.name not in ("greedy", "flow")
]


def followed(allowed, values, option):
    """What one client takes where its group takes an option; None: it rules the option out."""
    if allowed[option]:
        return option
    below = [own for own, may in enumerate(allowed) if may and values[own] <= values[option]]
    return max(below, key=lambda own: (values[own], -own), default=None)


def lines_of(members, allowed, values):
    """What the clients of a group may have together."""
    found = set()
    for option in range(len(values)):
        own = [followed(allowed[client], values, option) for client in members]
        if any(allowed[client][option] for client in members) and None not in own:
            found.add(tuple(own))
    return found


def capacity_holds(choice, groups, values, at_most):
    widest = {}
    for client, group in enumerate(groups):
        widest[group] = max(widest.get(group, Fraction(0)), values[choice[client]])
    return sum(widest.values()) <= at_most


class Case:
    """A small problem with groups, and all that it admits."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.n, self.m = int(rng.integers(2, 6)), int(rng.integers(2, 5))
        self.values = [Fraction(int(v), 8) for v in rng.integers(0, 9, self.m)]
        self.groups = [f"g{at}" for at in rng.integers(0, 3, self.n)]
        self.allowed = rng.random((self.n, self.m)) < 0.7
        self.allowed[np.arange(self.n), rng.integers(0, self.m, self.n)] = True
        self.costs = rng.integers(0, 9, (self.n, self.m))
        self.worth = rng.normal(size=(self.n, self.m)).round(3)
        self.limit = int(rng.integers(0, 6 * self.n))
        self.same, self.room = rng.random() < 0.7, None
        if not self.same or rng.random() < 0.5:
            self.room = Fraction(int(rng.integers(1, 17)), 8)
        self.room_groups = self.groups
        if rng.random() < 0.3:
            self.room_groups = [f"r{at}" for at in rng.integers(0, 2, self.n)]
        self.quota = int(rng.integers(0, self.n + 1)) if rng.random() < 0.3 else None
        self.covered = Fraction(int(rng.integers(0, 4)), 4) if rng.random() < 0.4 else None
        self.samples = rng.integers(1, 5, self.n)
        self.other = rng.integers(0, 5, self.m) if rng.random() < 0.3 else None
        self.gamma = int(rng.integers(0, 3)) if rng.random() < 0.25 else None
        self.deviation = rng.integers(0, 4, (self.n, self.m))
        self.fair = rng.random() < 0.25

    def build(self):
        limits = [hasa.Budget("cost", self.limit)]
        if self.gamma is not None:
            limits = [hasa.Budget("cost", self.limit), hasa.Robust(self.gamma, self.deviation)]
        if self.same:
            limits.append(hasa.SameOption(self.groups))
        if self.room is not None:
            limits.append(hasa.Capacity(self.room_groups, self.room))
        if self.quota is not None:
            limits.append(hasa.Quota({"o0": self.quota}))
        if self.covered is not None:
            limits.append(hasa.Coverage({float(max(self.values)): float(self.covered)}))
        if self.other is not None:
            limits.append(hasa.Budget(self.other, 2 * self.n, name="other"))
        if self.fair:
            limits.append(hasa.Fairness("maxmin"))
        return hasa.AllocationProblem.build(
            hasa.Clients(self.samples, names=[f"c{at}" for at in range(self.n)]),
            menu=hasa.Menu(
                [f"o{at}" for at in range(self.m)],
                costs={"cost": self.costs},
                attributes={"width": [float(value) for value in self.values]},
                allowed=self.allowed,
            ),
            utility=hasa.utility.measured(self.worth),
            constraints=limits,
        )

    def admitted(self):
        """Every choice within all limits."""
        for choice in itertools.product(range(self.m), repeat=self.n):
            if self.admits(choice):
                yield choice

    def admits(self, choice):
        rows = range(self.n)
        if not all(self.allowed[row][choice[row]] for row in rows):
            return False
        for group in set(self.groups) if self.same else ():
            members = [row for row in rows if self.groups[row] == group]
            line = tuple(choice[row] for row in members)
            if line not in lines_of(members, self.allowed, self.values):
                return False
        if self.room is not None and not capacity_holds(
            choice, self.room_groups, self.values, self.room
        ):
            return False
        if self.quota is not None and choice.count(0) > self.quota:
            return False
        wide = sum(
            int(self.samples[row]) for row in rows if self.values[choice[row]] == max(self.values)
        )
        if self.covered is not None and wide < self.covered * int(self.samples.sum()):
            return False
        if self.other is not None and sum(self.other[own] for own in choice) > 2 * self.n:
            return False
        more = sorted((self.deviation[row, choice[row]] for row in rows), reverse=True)
        spent = sum(self.costs[row, choice[row]] for row in rows)
        return spent + sum(more[: self.gamma or 0]) <= self.limit

    def best(self):
        """Poorest (with Fairness) and objective of the best choice, or None."""
        worths = [[self.worth[row, own] for row, own in enumerate(c)] for c in self.admitted()]
        scores = [(min(own) if self.fair else 0.0, sum(own)) for own in worths]
        return max(scores, default=None)


def check(seed, solver):
    case = Case(seed)
    problem, wanted = case.build(), case.best()
    if solver == "exact" and case.gamma is not None:
        with pytest.raises(UnsupportedConstraintError, match="Robust"):
            hasa.solve(problem, solver)
        return
    if wanted is None:
        with pytest.raises(InfeasibleError):
            hasa.solve(problem, solver)
        return
    found = hasa.solve(problem, solver)
    assert case.admits(tuple(found.choice.tolist()))
    assert found.claim_held, found.message
    if solver != "exact" or not problem.rows:
        assert found.termination == "optimal", found
    if found.termination == "optimal":
        assert found.objective == pytest.approx(wanted[1], abs=1e-9)
        assert not case.fair or found.poorest == wanted[0]
    assert found.bound >= wanted[1] - 1e-9
    assert found.prices.shape == (len(problem.limits),)


@pytest.mark.fuzz
@pytest.mark.parametrize("solver", ["auto", *BACKENDS])
def test_against_every_combination(solver):
    for seed in many(24 if solver in ("auto", "highs", "exact") else 10):
        check(seed, solver)


def test_the_small_problems_are_of_every_kind():
    cases = [Case(seed) for seed in range(60)]
    infeasible = sum(case.best() is None for case in cases)
    lowered = sum(
        case.same and any(not case.allowed[row].all() for row in range(case.n)) for case in cases
    )
    both = sum(case.same and case.room is not None for case in cases)
    alone = sum(not case.same for case in cases)
    assert min(infeasible, 60 - infeasible, lowered, both, alone) >= 8


# ------------------------------------------------------------------------ what it means


CLIENTS = hasa.Clients(
    [100, 200, 100, 50, 60, 70], names=list("abcdef"), max_width=[1, 0.5, 1, 1, 0.25, 1]
)
SITES = ("p", "p", "p", "q", "q", "q")


def build(*limits, budget=0.6):
    return hasa.AllocationProblem.build(
        CLIENTS,
        widths=(0.25, 0.5, 1.0),
        budget=budget,
        utility=hasa.utility.hasa([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
        constraints=limits,
    )


def admitted(problem):
    choices = itertools.product(range(len(problem.menu)), repeat=len(problem))
    return [own for own in choices if problem.evaluate(np.array(own)).feasible]


def test_only_those_who_must_are_lower():
    problem = build(hasa.SameOption(SITES), budget=1)
    found = {tuple(problem.widths[list(own)].tolist()) for own in admitted(problem)}
    left = [(0.25, 0.25, 0.25), (0.5, 0.5, 0.5), (1.0, 0.5, 1.0)]
    right = [(0.25, 0.25, 0.25), (0.5, 0.25, 0.5), (1.0, 0.25, 1.0)]
    assert found == {one + other for one in left for other in right}


def menu(allowed=None):
    return hasa.Menu(
        ["skip", "once", "twice", "wide"],
        costs={"energy": [0, 1, 2, 4]},
        per="client",
        attributes={"width": [0, 0.5, 0.5, 1], "epochs": [0, 1, 2, 1]},
        allowed=allowed,
    )


def pairs(allowed, *limits):
    """What two clients of one group may take."""
    problem = hasa.AllocationProblem.build(
        hasa.Clients([1, 1]),
        menu=menu(allowed),
        utility=hasa.utility.measured(np.zeros((2, 4))),
        constraints=limits or [hasa.SameOption([7, 7])],
    )
    return {tuple(problem.menu.names[own] for own in choice) for choice in admitted(problem)}


def test_of_options_as_wide_the_first_is_taken():
    allowed = [[True, True, True, False], [False, False, False, True]]
    assert pairs(allowed) == {("once", "wide")}
    allowed = [[True, True, False, False], [True, False, True, True]]
    assert pairs(allowed) == {
        ("skip", "skip"), ("once", "twice"), ("once", "wide"),
    }  # fmt: skip


def test_another_attribute_may_say_what_is_lower():
    allowed = [[False, True, False, True], [False, False, True, False]]
    assert pairs(allowed) == {("once", "twice"), ("wide", "twice")}
    by_epochs = hasa.SameOption(["g", "g"], of="epochs")
    assert pairs(allowed, by_epochs) == {("once", "twice")}


def test_a_group_is_left_out_as_a_whole():
    everything = np.ones((2, 4), dtype=bool)
    assert pairs(everything) == {(name, name) for name in menu().names}
    tied = [[True, True, True, True], [False, True, True, True]]  # the second may not skip
    assert pairs(tied) == {(name, name) for name in menu().names[1:]}
    weak = [[True, True, True, True], [True, False, False, False]]
    assert pairs(weak) == {(name, "skip") for name in menu().names}


def test_masks_force_clients_down_as_caps_do():
    found = pairs(None, hasa.SameOption([0, 0]), hasa.Fixed({0: "once"}))
    assert found == {("once", "once"), ("once", "twice"), ("once", "wide")}


def test_a_width_of_a_group_is_its_largest():
    problem = build(hasa.Capacity(SITES, 0.75), budget=1)
    widths = [problem.widths[list(own)] for own in admitted(problem)]
    totals = {max(own[:3]) + max(own[3:]) for own in widths}
    assert totals == {0.5, 0.75}
    assert len(widths) == 1 + 7 + 3  # all at 0.25, or the first or the second group at 0.5


# ------------------------------------------------------------------------ how groups are given


@pytest.mark.parametrize(
    "groups",
    [
        np.array([4, 4, 4, 0, 0, 0]),
        ["p ", "p", "p", "q", "q", "q"],
        dict(zip("fedcba", SITES[::-1], strict=True)),
        SimpleNamespace(groups=np.array([0, 0, 0, 1, 1, 1])),
        SimpleNamespace(groups=np.array([1, 1, 1, 0, 0, 0]), names=tuple("fedabc")),
    ],
    ids=["numbers", "names", "mapping", "partition", "partition in another order"],
)
def test_groups_are_labels_a_mapping_or_a_partition(groups):
    wanted = admitted(build(hasa.SameOption(SITES), hasa.Capacity(SITES)))
    assert admitted(build(hasa.SameOption(groups), hasa.Capacity(groups))) == wanted


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ([hasa.SameOption(["p", "q"])], "groups of 2 clients, here are 6"),
        ([hasa.SameOption({"a": 0, "c": 1})], "no group of client 'b' \\(4 such"),
        ([hasa.Capacity({"nobody": 0})], "names client 'nobody'"),
        ([hasa.SameOption([0.5] * 6)], "0.5 is a float, but a name is a string"),
        ([hasa.Capacity("abcdef")], "one string"),
        ([hasa.Capacity(SITES, -0.5)], "at_most -0.5 must be at least 0"),
        ([hasa.Capacity(SITES, float("nan"))], "at_most nan must be a finite number"),
        ([hasa.SameOption(SITES, of="depth")], "no attribute 'depth'"),
        ([hasa.SameOption(SITES), hasa.SameOption(range(6))], "at most one"),
    ],
)
def test_bad_groups_are_refused(limits, words):
    with pytest.raises(InputError, match=words):
        build(*limits)


# ------------------------------------------------------------------------ through solve


def test_who_cannot_refuses_by_name():
    with pytest.raises(
        UnsupportedConstraintError, match=r"'flow' does not .* SameOption: use exact"
    ):
        hasa.solve(build(hasa.SameOption(SITES)), "flow")
    with pytest.raises(
        UnsupportedConstraintError, match=r"'greedy' does not .* Capacity: use exact"
    ):
        hasa.solve(build(hasa.SameOption(SITES), hasa.Capacity(SITES)), "greedy")
    with pytest.raises(UnsupportedConstraintError, match=r"Fairness\(leximin\) beside"):
        hasa.solve(build(hasa.SameOption(SITES), hasa.Fairness("leximin")), "exact")


def test_greedy_takes_groups_within_budgets():
    result = hasa.solve(build(hasa.SameOption(SITES)), "greedy")
    assert result.widths.tolist() in admitted_widths(hasa.SameOption(SITES))
    assert result.bound >= hasa.solve(build(hasa.SameOption(SITES)), "highs").objective


def admitted_widths(*limits):
    problem = build(*limits)
    return [problem.widths[list(own)].tolist() for own in admitted(problem)]


def test_what_collides_with_groups_is_told():
    fixed = hasa.Fixed({"a": 1.0, "c": 0.5})
    assert hasa.solve(build(fixed, budget=0.5)).has_solution
    with pytest.raises(InfeasibleError, match="or leave SameOption out") as caught:
        hasa.solve(build(hasa.SameOption(SITES), fixed, budget=0.5))
    assert caught.value.limits == ("SameOption: one option in each of 2 groups", "budget")
    assert "raise the budget to at least 0.5087" in str(caught.value)
    assert hasa.solve(build(hasa.SameOption(SITES), fixed, budget=0.5087)).has_solution


def test_what_collides_without_groups_is_told_without_them():
    with pytest.raises(InfeasibleError) as caught:
        hasa.solve(build(hasa.SameOption(SITES), budget=0.2))
    assert caught.value.limits == ("budget",)
    assert "SameOption" not in str(caught.value)


@pytest.mark.parametrize("limits", [[], [hasa.SameOption(SITES)], [hasa.Robust(1, 0.1)]])
def test_too_little_room_is_told_with_the_room_that_does(limits):
    problem = build(*limits, hasa.Capacity(SITES, 0.3), budget=1)
    label = "Capacity: width of 2 groups together at most 0.3, in units of 1/4"
    with pytest.raises(
        InfeasibleError, match=r"group 'p', group 'q' take 2 or more.*to 0.5$"
    ) as got:
        hasa.solve(problem, "highs")
    assert got.value.limits == (label,)
    assert explain_infeasible(problem).limits == (label,)
    assert hasa.solve(build(*limits, hasa.Capacity(SITES, 0.5), budget=1), "highs").has_solution


def test_further_clients_are_not_counted_in_what_is_told():
    """Of six clients three are named; those that stand for groups are none of them."""
    limits = [hasa.Capacity(SITES, 0.5), hasa.Coverage({1.0: 0.3})]
    with pytest.raises(InfeasibleError, match="a, b, c and 3 more can give"):
        hasa.solve(build(*limits, budget=1), "highs")


@pytest.mark.parametrize(
    "limits",
    [
        [hasa.SameOption(SITES), hasa.Capacity(SITES)],
        [hasa.Capacity(SITES)],
        [hasa.SameOption(SITES), hasa.Robust(1, 0.1), hasa.Capacity(range(6), 3.0)],
    ],
)
def test_a_warm_start_counts(limits):
    """Stopped at once, a solver hands over what it was given."""
    problem = build(*limits)
    best = hasa.solve(problem, "highs")
    again = hasa.solve(problem, "highs", time_limit_s=0, warm_start=best)
    assert again.choice.tolist() == best.choice.tolist()
    assert again.incumbent_from in ("warm start", "highs")


def test_an_expansion_that_breaks_a_limit_is_refused(monkeypatch):
    problem = build(hasa.SameOption(SITES))
    monkeypatch.setattr(Condensed, "expanded", lambda self, choice: np.array([0, 1, 0, 0, 0, 0]))
    result = hasa.solve(problem, "highs")
    assert not result.has_solution
    assert result.termination == "failed"
    assert not result.claim_held
    assert "SameOption: one option in each of 2 groups is broken by 1" in result.message


def test_switches_count_clients():
    before = hasa.solve(build(hasa.SameOption(SITES), budget=0.4))
    limits = [hasa.SameOption(SITES), hasa.Switches(before, at_most=2)]
    assert (hasa.solve(build(*limits)).choice != before.choice).sum() <= 2


@pytest.mark.parametrize("limit", [hasa.SameOption([0, 0, 1]), hasa.Capacity([0, 0, 1], 2.0)])
def test_the_poorest_is_a_client_and_no_group(limit):
    worth = [[4.0, 1.0], [-1.0, 1.0], [5.0, 5.0]]  # the first group has most at the first option
    problem = hasa.AllocationProblem.build(
        hasa.Clients([1, 1, 1]),
        widths=(0.5, 1.0),
        budget=1,
        utility=hasa.utility.measured(worth),
        constraints=[limit, hasa.Fairness("maxmin")],
    )
    result = hasa.solve(problem, "highs")
    assert result.termination == "optimal"
    assert result.poorest == 1
    assert result.objective == (7 if isinstance(limit, hasa.SameOption) else 10)


def test_prices_are_of_the_limits_as_given():
    problem = build(hasa.SameOption(SITES), hasa.Capacity(SITES, 1.25))
    result = hasa.solve(problem, "highs")
    assert result.prices[1] == 0
    assert result.prices[2] > 0
    assert "Capacity" in result.describe_prices()


def test_groups_move_together_when_the_budget_moves():
    result = hasa.solve(build(hasa.SameOption(SITES), budget=0.5), "highs")
    assert result.widths.tolist() == [0.5, 0.5, 0.5, 0.5, 0.25, 0.5]
    found = hasa.sensitivity(result, n_samples=20)
    assert found.widen_price[0] == found.widen_price[2] != found.widen_price[3]
    assert found.widen_price[3] == found.widen_price[5]
    assert np.isinf(found.widen_price[[1, 4]]).all()  # at their caps, whatever their groups do
    assert found.narrow_price[0] == found.narrow_price[1]
    assert np.isinf(found.narrow_price[4])
    assert np.ptp(found.kept[:3]) == 0


def test_the_bound_is_told_on_the_way():
    seen = []
    result = hasa.solve(build(hasa.SameOption(SITES)), "highs", on_progress=seen.append)
    assert seen[-1].incumbent == pytest.approx(result.objective)


@pytest.mark.parametrize("room", [None, 1.0, 1.5])
def test_eight_groups_of_ten_thousand_clients(room):
    """Proven by auto; no line of groups within the limits is worth more."""
    rng = np.random.default_rng(5)
    n, widths = 10_000, (0.0625, 0.125, 0.25, 0.375)
    groups, samples = rng.integers(0, 8, n), rng.integers(10, 1000, n)
    caps = rng.choice([0.125, 0.25, 1.0], n)
    need = rng.random(8)
    limits = [hasa.SameOption(groups)] + ([hasa.Capacity(groups, room)] if room else [])
    problem = hasa.AllocationProblem.build(
        hasa.Clients(samples, max_width=caps),
        widths=widths,
        budget=0.16,
        utility=hasa.utility.hasa(need[groups]),
        constraints=limits,
    )
    result = hasa.solve(problem)
    assert result.termination == "optimal"
    assert result.gap == 0
    worth, cost = np.zeros((8, 4)), np.zeros((8, 4), dtype=np.int64)
    for option, width in enumerate(widths):
        own = np.searchsorted(widths, np.minimum(caps, width), side="right") - 1
        np.add.at(worth[:, option], groups, problem.utilities[np.arange(n), own])
        np.add.at(cost[:, option], groups, problem.costs[np.arange(n), own])
    lines = np.array(list(itertools.product(range(4), repeat=8)))
    within = cost[np.arange(8), lines].sum(axis=1) <= problem.limit
    if room:
        within &= np.array(widths)[lines].sum(axis=1) <= room
    best = worth[np.arange(8), lines].sum(axis=1)[within].max()
    assert result.objective == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("constraint", [hasa.SameOption([0, 0, 1]), hasa.Capacity([0, 0, 1], 1.0)])
def test_no_file_keeps_a_limit_on_groups(tmp_path, constraint):
    problem = hasa.AllocationProblem.build(
        hasa.Clients([1, 2, 3]),
        widths=(0.25, 0.5),
        budget=0.5,
        utility=hasa.utility.alpha_fair(),
        constraints=[constraint],
    )
    for write, name in (
        (problem.save, "a.problem"),
        (problem.write, "a.mps"),
        (problem.write, "a.lp"),
    ):
        with pytest.raises(
            hasa.InputError, match=r"a limit on groups.*build the problem without it"
        ):
            write(tmp_path / name)
    with pytest.raises(hasa.InputError, match=r"a limit on groups"):
        hasa.solve(problem).save(tmp_path / "a.result")
    assert not list(tmp_path.iterdir())
