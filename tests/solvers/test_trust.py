"""Lies are caught, statuses tell the truth, errors name the remedy."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from support import many
from support.hard_problems import hard, stubborn, trap

import hasa_opt as hasa
from hasa_opt import (
    AllocationProblem,
    Clients,
    Coverage,
    Forbidden,
    Quota,
    Termination,
    cost,
    solve,
    utility,
)
from hasa_opt.errors import (
    HasaError,
    InfeasibleError,
    InputError,
    NoSolutionError,
    SolverNotInstalledError,
    UnknownSolverError,
    UnsupportedConstraintError,
)
from hasa_opt.problem.limits import Row
from hasa_opt.solvers import registry
from hasa_opt.solvers.base import Answer, Request
from hasa_opt.solving.solver import starting_choice
from hasa_opt.solving.verdict import verify
from hasa_opt.testing import catalogue, problems

EXACT = ("highs", "pulp", "cvxpy")


def answer(**claims) -> Answer:
    """The honest answer to the trap, less what the test falsifies."""
    honest = {
        "termination": Termination.OPTIMAL,
        "choice": np.array([0, 1, 1]),
        "objective": 10.0,
        "bound": 10.0,
        "native": "native words",
    }
    return Answer(**honest | claims)


# --------------------------------------------------------------------------------------- lies


def test_the_honest_answer_is_believed(liar):
    result = solve(trap(), liar(lambda problem, request: answer()))
    assert result.termination is Termination.OPTIMAL
    assert result.claim_held
    assert result.objective == result.bound == 10
    assert result.message == "native words"


REFUSED = {
    "over budget by one unit": ({"choice": np.array([1, 1, 0]), "objective": 12.0}, "broken by 1"),
    "index above the menu": ({"choice": np.array([0, 1, 2])}, "outside the menu"),
    "negative index": ({"choice": np.array([0, 1, -1])}, "outside the menu"),
    "too short": ({"choice": np.array([0, 1])}, "shape"),
    "too long": ({"choice": np.array([0, 1, 1, 0])}, "shape"),
    "a matrix": ({"choice": np.array([[0, 1, 1]])}, "shape"),
    "floats": ({"choice": np.array([0.0, 1.0, 1.0])}, "integer"),
    "NaN": ({"choice": np.array([0.0, np.nan, 1.0])}, "integer"),
    "booleans": ({"choice": np.array([False, True, True])}, "integer"),
    "no allocation": ({"choice": None}, "gives no allocation"),
    "no allocation, gap": (
        {"choice": None, "termination": Termination.GAP_REACHED},
        "gives no allocation",
    ),
}


@pytest.mark.parametrize("lie", REFUSED)
@pytest.mark.parametrize("ended", [Termination.OPTIMAL, Termination.GAP_REACHED])
def test_an_answer_that_is_no_allocation_is_dropped(liar, lie, ended):
    claims, words = REFUSED[lie]
    # The item costs 6, 5, 5: room for 10 is one unit short of the first two.
    claims = {"termination": ended} | claims
    result = solve(trap(), liar(lambda problem, request: answer(**claims)))
    assert result.own_objective is None
    assert result.termination is Termination.FAILED
    assert not result.claim_held
    assert words in result.message
    assert result.bound == pytest.approx(11)
    assert (result.incumbent_from, result.objective) == ("greedy", 7)


def test_where_nothing_is_known_reading_an_allocation_raises():
    result = solve(hard(), "highs", time_limit_s=0)
    assert not result.has_solution
    assert result.gap == float("inf")
    with pytest.raises(NoSolutionError, match="fallback='exact'"):
        _ = result.widths
    with pytest.raises(NoSolutionError, match="fallback='highs'"):
        _ = solve(hard(), "highs", time_limit_s=0, fallback="exact").widths


def test_an_inadmissible_width_is_dropped(liar):
    problem = problems.measured([1, 1], (0.5, 1.0), 1, [[0, 9], [0, 1]], max_width=[0.7, 1.0])
    name = liar(lambda problem, request: Answer(Termination.OPTIMAL, np.array([1, 1]), 10.0, 10.0))
    result = solve(problem, name)
    assert result.own_objective is None
    assert result.widths.tolist() == [0.5, 1.0]
    assert not result.claim_held
    assert "cannot train width 1" in result.message


@pytest.mark.parametrize(
    ("constraint", "choice", "words"),
    [
        (Quota({1.0: 1}), [0, 1, 1], "Quota: at most 1 clients at width 1.0 is broken by 1"),
        (Coverage({1.0: 0.5}), [1, 0, 0], "width 1.0 or wider is broken by 1"),
    ],
)
def test_a_broken_constraint_is_dropped(liar, constraint, choice, words):
    problem = trap(constraints=[constraint])
    value = problem.evaluate(choice).objective
    name = liar(
        lambda problem, request: Answer(Termination.OPTIMAL, np.array(choice), value, value)
    )
    result = solve(problem, name)
    assert result.own_objective is None
    assert problem.evaluate(result.choice).feasible
    assert words in result.message


OVERRULED = {
    "NaN objective": ({"objective": np.nan}, "claims objective nan"),
    "infinite objective": ({"objective": np.inf}, "claims objective inf"),
    "false objective": ({"objective": 10.001}, "claims objective 10.001"),
    "objective too low": ({"objective": 9.0}, "claims objective 9"),
    "bound below its own objective": ({"bound": 9.9}, "below its own 10"),
    "NaN bound": ({"bound": np.nan}, "claims bound nan"),
    "bound of minus infinity": ({"bound": -np.inf}, "below its own"),
    "suboptimal, greedy is better": (
        {"choice": np.array([0, 0, 1]), "objective": 5.0, "bound": 5.0},
        "an allocation worth 7 is known",
    ),
    "false bound on a gap": (
        {
            "choice": np.array([0, 0, 1]),
            "objective": 5.0,
            "bound": 6.0,
            "termination": Termination.GAP_REACHED,
        },
        "an allocation worth 7 is known",
    ),
}


@pytest.mark.parametrize("lie", OVERRULED)
def test_a_false_claim_is_overruled_and_the_allocation_kept(liar, lie):
    claims, words = OVERRULED[lie]
    result = solve(trap(), liar(lambda problem, request: answer(**claims)))
    assert result.termination is Termination.FAILED
    assert not result.claim_held
    assert words in result.message
    assert result.bound == pytest.approx(11)
    assert result.has_solution
    assert result.objective == trap().evaluate(result.choice).objective
    assert result.gap > 0


def test_optimal_without_a_bound_is_no_proof(liar):
    result = solve(trap(), liar(lambda problem, request: answer(bound=np.inf)))
    assert result.termination is Termination.GAP_REACHED
    assert result.bound == pytest.approx(11)
    assert result.gap == pytest.approx(0.1)


def test_a_bound_above_the_relaxation_is_replaced_by_it(liar):
    result = solve(trap(), liar(lambda problem, request: answer(bound=5000.0)))
    assert result.bound == pytest.approx(11)


def test_the_choice_is_copied_and_frozen(liar):
    shared = np.array([0, 1, 1], dtype=np.int32)
    result = solve(trap(), liar(lambda problem, request: answer(choice=shared)))
    shared[:] = 0
    assert result.choice.tolist() == [0, 1, 1]
    assert not result.choice.flags.writeable


def test_infeasible_claimed_for_a_feasible_problem(liar):
    script = lambda problem, request: Answer(Termination.INFEASIBLE, native="no way")  # noqa: E731
    result = solve(trap(), liar(script))
    assert result.termination is Termination.FAILED
    assert not result.claim_held
    assert "liar claims infeasible, but a feasible allocation exists" in result.message


def test_infeasible_claimed_together_with_an_allocation(liar):
    script = lambda problem, request: answer(  # noqa: E731
        termination=Termination.INFEASIBLE, bound=np.inf
    )
    result = solve(trap(), liar(script))
    assert result.termination is Termination.FAILED
    assert result.objective == 10


def test_infeasible_together_with_an_allocation_is_a_disproved_claim(liar):
    script = lambda problem, request: answer(  # noqa: E731
        termination=Termination.INFEASIBLE, bound=np.inf
    )
    assert not solve(trap(), liar(script)).claim_held


def test_a_false_proof_no_worse_than_greedy(liar):
    lie = answer(choice=np.array([1, 0, 0]), objective=7.0, bound=7.0)
    assert solve(trap(), liar(lambda problem, request: lie)).termination is not Termination.OPTIMAL


def test_a_false_proof_worse_than_the_warm_start(liar):
    lie = answer(choice=np.array([1, 0, 0]), objective=7.0, bound=7.0)
    result = solve(trap(), liar(lambda problem, request: lie), warm_start=[0, 1, 1])
    assert result.termination is not Termination.OPTIMAL


def test_a_false_proof_worse_than_the_filled_greedy_allocation(liar):
    # Rates 10, 2, 1: the second item does not fit after the first, the third does.
    problem = problems.knapsack([(5, 50), (6, 12), (5, 5)], 10)
    assert solve(problem, "greedy").objective == 55
    lie = Answer(Termination.OPTIMAL, np.array([1, 0, 0]), 50.0, 50.0)
    result = solve(problem, liar(lambda problem, request: lie))
    assert result.termination is not Termination.OPTIMAL


def test_a_heuristic_does_not_claim_optimality_because_of_an_offset():
    plain = problems.knapsack([(6, 7), (5, 5), (5, 5)], 10)
    shifted = replace(plain, utilities=plain.utilities + 1e10)
    result = solve(shifted, "greedy")
    assert shifted.evaluate([0, 1, 1]).objective - result.objective == 3
    assert result.termination is Termination.GAP_REACHED


@pytest.mark.parametrize("error", [RuntimeError("boom"), MemoryError(), ValueError("bad")])
def test_a_crash_never_passes_for_an_answer(liar, error):
    def script(problem, request):
        raise error

    name = liar(script)
    try:
        result = solve(trap(), name)
    except type(error):
        return
    assert result.own_objective is None
    assert result.incumbent_from == "greedy"
    assert result.termination is Termination.FAILED


def test_a_crash_leads_to_the_fallback(liar):
    def script(problem, request):
        raise RuntimeError("boom")

    result = solve(trap(), liar(script), fallback="highs")
    assert result.objective == 10
    assert "boom" in result.fallback_from[0]


@pytest.mark.parametrize("given", [None, Answer(Termination.OPTIMAL, [[0], [1, 1]], 10.0, 10.0)])
def test_an_answer_of_no_known_form_is_a_failure(liar, given):
    result = solve(trap(), liar(lambda problem, request: given))
    assert result.termination is Termination.FAILED


def test_ctrl_c_ends_with_what_there_is(liar):
    def script(problem, request):
        raise KeyboardInterrupt

    result = solve(trap(), liar(script), fallback="highs")
    assert result.termination is Termination.INTERRUPTED
    assert (result.incumbent_from, result.objective) == ("greedy", 7)
    assert result.fallback_from == ()


def test_ctrl_c_in_the_verification_ends_with_what_there_is(monkeypatch):
    def interrupted(*_):
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr("hasa_opt.solving.solver.verify", interrupted)
    result = solve(trap(), "highs", warm_start=[0, 1, 1])
    assert result.termination is Termination.INTERRUPTED
    assert result.objective == 10


def test_ctrl_c_with_nothing_in_hand_is_raised(monkeypatch):
    def interrupted(*_):
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr("hasa_opt.solving.solver.verify", interrupted)
    with pytest.raises(KeyboardInterrupt):
        solve(hard(), "highs", time_limit_s=0)


def test_verification_alone_says_the_same():
    problem = trap()
    request = Request(problem)
    assert verify(problem, answer(), request).claim_held
    assert not verify(problem, answer(objective=11.0), request).claim_held


# ----------------------------------------------------------------------------------- statuses


@pytest.mark.parametrize("solver", EXACT)
@pytest.mark.parametrize("limit", [0, 0.01])
def test_a_time_limit_without_an_incumbent(solver, limit):
    result = solve(hard(), solver, time_limit_s=limit)
    assert result.termination is Termination.TIME_LIMIT
    assert result.own_objective is None
    assert limit or not result.has_solution
    assert np.isfinite(result.bound)
    if result.has_solution:
        return
    assert repr(result) == f"Allocation({solver}: time limit, no solution)"
    for name in ("choice", "widths", "objective", "spent", "spent_share"):
        with pytest.raises(NoSolutionError, match=r"time limit.*time_limit_s.*fallback"):
            getattr(result, name)


def test_where_nobody_finds_an_allocation_the_message_says_who_tried():
    result = solve(hard(), "highs", fallback="exact", time_limit_s=0)
    with pytest.raises(NoSolutionError) as caught:
        result.choice  # noqa: B018
    message = str(caught.value)
    assert message.startswith("nobody found an allocation within the limits (time limit)")
    assert f"none is worth more than {result.bound:.9g};" in message
    assert re.search(r"tried: highs: time limit: .*; exact: .*", message)


@pytest.mark.parametrize("solver", EXACT)
def test_a_time_limit_with_an_incumbent_or_none_never_claims_a_proof(solver):
    problem = stubborn()
    result = solve(problem, solver, time_limit_s=0.6)
    assert result.termination is Termination.TIME_LIMIT
    assert result.claim_held
    if result.has_solution:
        assert problem.evaluate(result.choice).feasible
        assert 0 < result.gap < 1
        assert result.objective < result.bound


def test_a_warm_start_is_an_incumbent_from_the_start():
    problem = hard()
    start = solve(problem, "pulp", gap=0.01)
    cold = solve(problem, "highs", time_limit_s=0)
    warm = solve(problem, "highs", time_limit_s=0, warm_start=start)
    assert not cold.has_solution
    assert warm.termination is Termination.TIME_LIMIT
    assert warm.objective >= start.objective - 1e-9
    listed = solve(problem, "highs", time_limit_s=0, warm_start=start.choice.tolist())
    assert listed.objective == warm.objective


@pytest.mark.parametrize("start", [[0, 1], [0, 1, 2], [0.0, 1.0, 1.0], "abc"])
def test_bad_warm_starts(start):
    with pytest.raises(InputError, match="choice"):
        solve(trap(), "highs", warm_start=start)


def fleet(names, samples, caps=None):
    clients = Clients(samples, names=names, max_width=caps)
    return AllocationProblem.build(
        clients, widths=(0.25, 0.5, 1.0), budget=0.6, utility=utility.alpha_fair()
    )


def test_a_warm_start_of_another_fleet_is_matched_by_name():
    before = solve(fleet(["a", "b", "c"], [10, 20, 30]), "highs", warm_start=[2, 1, 0])
    held = dict(zip("abc", before.choice.tolist(), strict=True))
    after = fleet(["new", "c", "a"], [5, 30, 10], [1.0, 0.25, 1.0])
    assert starting_choice(after, before).tolist() == [0, held["c"], held["a"]]
    shuffled = fleet(["c", "a", "b"], [30, 10, 20])
    assert starting_choice(shuffled, before).tolist() == [held[name] for name in "cab"]
    stopped = solve(shuffled, "highs", time_limit_s=0, warm_start=before)
    assert stopped.objective == pytest.approx(before.objective)
    assert solve(after, "highs", warm_start=before).termination is Termination.OPTIMAL


def test_a_newcomer_starts_at_its_cheapest_admissible_width():
    before = solve(fleet(["a", "b"], [10, 20]), "highs")
    after = AllocationProblem.build(
        Clients([10, 7], names=["a", "new"]),
        widths=(0.25, 0.5, 1.0),
        budget=2.0,
        utility=utility.alpha_fair(),
        cost=cost.table([[1, 2, 3], [9, 5, 4]]),
        constraints=[Forbidden({"new": [1.0]})],
    )
    assert starting_choice(after, before)[1] == 1


def test_fleets_that_cannot_be_matched_by_name_are_refused():
    before = solve(fleet(["a", "b"], [10, 20]), "highs")
    for names, samples in ((None, [10, 20, 30]), (None, [10, 20])):
        with pytest.raises(InputError, match=r"give Clients\(names=...\) in both"):
            solve(fleet(names, samples), "highs", warm_start=before)
    with pytest.raises(InputError, match="warm_start is for other clients: none of 'x', 'y'"):
        solve(fleet(["x", "y"], [10, 20]), "highs", warm_start=before)
    unnamed = solve(fleet(None, [10, 20]), "highs")
    assert starting_choice(fleet(None, [10, 20]), unnamed).tolist() == unnamed.choice.tolist()
    same = fleet(["client-1", "client-0"], [20, 10])
    assert starting_choice(same, unnamed).tolist() == unnamed.choice[::-1].tolist()


def test_a_warm_start_from_another_menu_is_matched_by_width():
    def on(menu, names):
        return AllocationProblem.build(
            Clients([10] * len(names), names=names),
            widths=menu,
            budget=2.0,
            utility=utility.alpha_fair(),
        )

    before = solve(on((0.25, 0.5, 0.75), list("abc")), "highs", warm_start=[0, 1, 2])
    before = replace(before, held=np.array([0, 1, 2]), totals=None)
    wider = on((0.2, 0.25, 0.4, 0.5, 0.75, 1.0), list("cab"))
    assert wider.widths[starting_choice(wider, before)].tolist() == [0.75, 0.25, 0.5]
    other = on((0.3, 0.4, 0.8), list("abc"))
    # 0.25 is below the menu, 0.5 becomes the next narrower width, and so does 0.75.
    assert other.widths[starting_choice(other, before)].tolist() == [0.3, 0.4, 0.4]


@pytest.mark.parametrize("solver", ["greedy", *EXACT])
@pytest.mark.parametrize("start", [[1, 1, 1], [0, 0, 0], [0, 1, 1]])
def test_a_warm_start_is_only_a_hint(solver, start):
    result = solve(trap(), solver, warm_start=start)
    assert result.objective == (7 if solver == "greedy" and start != [0, 1, 1] else 10)


@pytest.mark.slow
@pytest.mark.parametrize("solver", EXACT)
@pytest.mark.parametrize("gap", [0.05, 1e-3])
def test_a_gap_is_honoured_and_told_from_a_proof(solver, gap):
    problem = hard()
    best = 1408.610467713543  # by HiGHS and CBC at zero gap
    result = solve(problem, solver, gap=gap)
    assert result.bound >= best - 1e-6
    assert result.objective >= best * (1 - gap)
    if result.termination is Termination.OPTIMAL:
        assert result.objective == pytest.approx(best, rel=1e-9)
    else:
        assert result.termination is Termination.GAP_REACHED
        assert 0 < result.gap <= gap


def test_a_gap_is_relative_to_the_objective():
    # Coverage forces the wide width, worth 1 each; the relaxation does not know and says 2000.
    problem = problems.measured(
        [1, 1], (0.5, 1.0), 1, [[1000, 1], [1000, 1]], constraints=[Coverage({1.0: 1})]
    )
    result = solve(problem, "pulp", gap=0.05)
    assert result.gap <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("solver", EXACT)
def test_gap_zero_asks_for_the_proven_optimum(solver):
    # HiGHS' own default gap of 1e-4 would end this problem 4e-5 above the incumbent's bound.
    result = solve(hard(), solver)
    assert result.termination is Termination.OPTIMAL
    assert result.objective == pytest.approx(1408.610467713543, rel=1e-12)


def test_the_greedy_backend_itself_claims_no_more_than_it_knows():
    problem = trap()
    claim = registry.load("greedy").solve(problem, Request(problem))
    assert claim.termination is Termination.GAP_REACHED
    assert claim.bound == pytest.approx(11)


def test_greedy_states_a_true_gap_and_never_more():
    result = solve(trap(), "greedy")
    assert result.termination is Termination.GAP_REACHED
    assert result.gap == pytest.approx(11 / 7 - 1)
    full = solve(problems.knapsack([(6, 7), (5, 5)], 11), "greedy")
    assert full.termination is Termination.OPTIMAL


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"time_limit_s": -1}, "time_limit_s"),
        ({"time_limit_s": np.nan}, "time_limit_s"),
        ({"gap": -0.1}, "gap"),
        ({"gap": 1}, "gap"),
        ({"gap": np.nan}, "gap"),
    ],
)
def test_bad_limits(arguments, words):
    with pytest.raises(InputError, match=words):
        solve(trap(), "highs", **arguments)


@pytest.mark.parametrize("solver", ["greedy", *EXACT])
def test_unknown_options_are_refused_by_name(solver):
    with pytest.raises(InputError, match="nonsense"):
        solve(trap(), solver, nonsense=3)


def test_unknown_options_of_pulps_highs_are_refused_by_name():
    with pytest.raises(InputError, match="nonsense"):
        solve(trap(), "pulp", pulp_solver="HiGHS", nonsense=3)


@pytest.mark.parametrize(
    ("solver", "options"),
    [("highs", {"threads": 1}), ("pulp", {"threads": 1}), ("cvxpy", {"threads": 1})],
)
def test_known_options_reach_the_solver(solver, options):
    assert solve(trap(), solver, **options).objective == 10


def test_an_unlimited_time_limit():
    for solver in ("greedy", *EXACT):
        assert solve(trap(), solver, time_limit_s=float("inf")).has_solution


def test_the_facts_of_an_allocation():
    result = solve(trap(), "highs")
    assert result.widths.tolist() == [0.5, 1.0, 1.0]
    assert result.spent == 10
    assert result.spent_share == 10 / 16
    assert result.seconds > 0
    assert repr(result) == (
        "Allocation(highs: optimal, objective 10, gap 0, spends 0.6250 of 0.625)"
    )
    assert result.fallback_from == ()


# ----------------------------------------------------------------------- choice of the solver


@pytest.fixture
def absent():
    line = registry.SolverRecord(
        "absent", "x:Y", "", requires=("no_such_module",), install="pip install it-please",
        constraints=(Coverage, Quota),
    )  # fmt: skip
    registry.register(line)
    yield "absent"
    registry.unregister("absent")


def test_a_module_of_a_package_that_is_absent_is_absent():
    record = registry.SolverRecord("absent", "x:Y", "", requires=("no_such_package.module",))
    assert not record.available
    assert record.missing == ["no_such_package.module"]


def test_three_distinct_solver_errors(absent):
    with pytest.raises(
        UnknownSolverError,
        match=r"'nobody'.*cpsat, cvxpy, exact, flow, greedy, highs, pulp, scip, or auto",
    ):
        solve(trap(), "nobody")
    with pytest.raises(SolverNotInstalledError, match=r"no_such_module.*pip install it-please"):
        solve(trap(), absent)
    with pytest.raises(UnsupportedConstraintError, match=r"'greedy'.*Quota.*use exact or highs"):
        solve(trap(constraints=[Quota({1.0: 3})]), "greedy")
    kinds = {UnknownSolverError, SolverNotInstalledError, UnsupportedConstraintError}
    for kind in kinds:
        assert not any(issubclass(kind, other) for other in kinds - {kind})
    with pytest.raises(UnknownSolverError):
        registry.unregister("nobody")


def test_pulps_own_solvers_are_named():
    with pytest.raises(InputError, match=r"'SOPLEX'.*COIN_CMD"):
        solve(trap(), "pulp", pulp_solver="SOPLEX")
    with pytest.raises(SolverNotInstalledError, match=r"GUROBI_CMD.*choose one of"):
        solve(trap(), "pulp", pulp_solver="GUROBI_CMD")


class OneWide:
    """A constraint of one's own: exactly one client at the widest width."""

    def rows(self, terms):
        wide = np.zeros(terms.shape, dtype=np.int64)
        wide[:, -1] = 1
        return (Row("exactly one is wide", wide, lower=1, upper=1),)


class Odd:
    """A preference that nobody knows."""

    feature = "Odd"


@pytest.mark.parametrize("solver", ["exact", *EXACT])
def test_rows_of_a_constraint_of_ones_own_are_taken(solver):
    # Items worth 7, 5, 5: the first alone.
    assert solve(trap(constraints=[OneWide()]), solver).choice.tolist() == [1, 0, 0]


def test_who_does_not_translate_rows_refuses_them():
    with pytest.raises(UnsupportedConstraintError, match=r"'greedy'.*OneWide: use exact or highs"):
        solve(trap(constraints=[OneWide()]), "greedy")


def test_a_preference_that_nobody_knows():
    with pytest.raises(UnsupportedConstraintError, match=r"Odd: add a solver.*register"):
        solve(trap(constraints=[Odd()]), "highs")


def test_a_fallback_is_recorded(absent):
    result = solve(trap(), absent, fallback=["highs"])
    assert result.solver == "highs"
    assert len(result.fallback_from) == 1
    assert "no_such_module" in result.fallback_from[0]
    assert solve(trap(), "highs", fallback="greedy").fallback_from == ()


def test_no_solution_leads_to_the_fallback():
    problem = hard()
    result = solve(problem, "highs", time_limit_s=0, fallback=["cvxpy", "pulp"])
    assert result.solver == "pulp"
    assert [line.split(":")[0] for line in result.fallback_from] == ["highs", "cvxpy"]
    assert "time limit" in result.fallback_from[0]
    assert not result.has_solution


def test_a_missing_last_fallback_raises(absent):
    with pytest.raises(SolverNotInstalledError):
        solve(hard(), "highs", time_limit_s=0, fallback=absent)


def test_options_are_for_the_first_solver_alone():
    result = solve(trap(), "pulp", pulp_solver="GUROBI_CMD", fallback="greedy")
    assert result.solver == "greedy"


def test_a_solver_named_twice_does_not_cut_the_chain(liar):
    name = liar(lambda problem, request: Answer(Termination.TIME_LIMIT))
    assert solve(trap(), name, fallback=["highs", name]).solver == "highs"


def test_auto_chooses_by_size_and_constraints(monkeypatch):
    few = Clients([1, 1])
    crowd = Clients(np.ones(5000, dtype=int))
    arguments = {"widths": np.arange(1, 6) / 5, "budget": 0.5, "utility": hasa.utility.alpha_fair()}
    assert solve(AllocationProblem.build(few, **arguments)).solver == "exact"
    covered = AllocationProblem.build(few, **arguments, constraints=[Quota({1.0: 1})])
    assert solve(covered).solver == "highs"
    without = replace(registry.find_solver("exact"), requires=("no_such_module",))
    monkeypatch.setitem(registry.SOLVERS, "exact", without)
    assert solve(AllocationProblem.build(few, **arguments)).solver == "highs"
    assert solve(AllocationProblem.build(crowd, **arguments)).solver == "greedy"
    result = solve(trap(), "highs", fallback="auto")
    assert result.solver == "highs"


# -------------------------------------------------------------------------------- infeasible


@pytest.mark.fuzz
def test_the_budget_that_is_named_works_and_a_smaller_one_does_not():
    for seed in many(60):
        rng = np.random.default_rng(seed)
        samples = rng.integers(1, 10 ** int(rng.integers(1, 10)), 5)
        menu = np.sort(rng.choice(np.arange(1, 100), 3, replace=False)) / 100
        build = lambda budget: AllocationProblem.build(  # noqa: E731
            Clients(samples),  # noqa: B023
            widths=menu,  # noqa: B023
            budget=budget,
            utility=hasa.utility.alpha_fair(),
        )
        problem = build(menu[0] * 0.7)
        with pytest.raises(InfeasibleError) as caught:
            solve(problem)
        message = str(caught.value)
        assert caught.value.limits == ("budget",)
        least = int(problem.cheapest.sum())
        assert f"short by {least - problem.limit} of {problem.full_cost}" in message
        named = float(re.search(r"at least (\d*\.?\d+)", message)[1])
        assert solve(build(named)).has_solution
        assert named <= menu[0] * 1.002


@pytest.mark.parametrize(
    "known", [known for known in catalogue.INFEASIBLE if len(known.conflict) > 1],
    ids=lambda known: known.name,
)  # fmt: skip
def test_a_conflict_is_minimal_and_its_remedy_works(known, brute):
    problem = known.build()
    with pytest.raises(InfeasibleError) as caught:
        solve(problem, "highs")
    labels = caught.value.limits
    limits = {row.label: row for row in problem.limits}
    assert set(labels) <= set(limits)
    assert all(label in str(caught.value) for label in labels)

    def without(dropped: set[str], row=None) -> float | None:
        kept = [limits[label] for label in labels if label not in dropped]
        kept += [] if row is None else [row]
        free = replace(problem, limit=problem.full_cost * 10, rows=tuple(kept), constraints=())
        return brute(free)

    assert without(set()) is None
    for label in labels:
        assert without({label}) is not None

    message = str(caught.value)
    assert "Remedy: " in message
    budget = re.search(r"raise the budget from [\d.]+ to ([\d.]*\d)", message)
    other = re.search(r"(lower|raise) the (limit|share) of \((.*)\) from (\S+) to (\S+)", message)
    if budget:
        share = hasa.AllocationProblem.build(
            problem.clients,
            widths=problem.widths,
            budget=float(budget[1]),
            utility=hasa.utility.alpha_fair(),
            constraints=problem.constraints,
        )
        assert solve(share, "highs").has_solution
    else:
        row = limits[other[3]]
        side = "lower" if other[1] == "lower" else "upper"
        whole = row.share.of if other[2] == "share" else 1
        old, new = (Fraction(number) * whole for number in other.group(4, 5))
        assert getattr(row, side) == math.ceil(old)
        new = math.ceil(new)

        def eased(to: int) -> float | None:
            rows = [replace(own, **{side: to}) if own is row else own for own in problem.rows]
            return brute(replace(problem, rows=tuple(rows)))

        assert eased(new) is not None
        assert eased(new + (1 if side == "lower" else -1)) is None


def test_several_conflicts_at_once_name_no_single_remedy():
    problem = problems.measured(
        [1, 1],
        (0.5, 1.0),
        1,
        [[0, 1], [0, 1]],
        constraints=[Quota({0.5: 0}), Quota({1.0: 0}), Coverage({1.0: 1})],
    )
    with pytest.raises(InfeasibleError, match="Remedy") as caught:
        solve(problem, "highs")
    assert len(caught.value.limits) == 2


def test_every_refusal_is_a_hasa_error():
    for call in (
        lambda: solve(trap(), "nobody"),
        lambda: solve(trap(), gap=2),
        lambda: solve(problems.knapsack([(1, 1)], 1), "highs", warm_start=[9]),
    ):
        with pytest.raises(HasaError):
            call()


def test_a_solver_that_cannot_be_loaded_leads_to_the_fallback(monkeypatch):
    broken = replace(registry.find_solver("exact"), target=_raise_runtime_error)
    monkeypatch.setitem(registry.SOLVERS, "exact", broken)
    with pytest.raises(SolverNotInstalledError, match=r"cannot be loaded here \(no locator"):
        solve(trap(), "exact")


def test_auto_survives_a_broken_exact_solver(monkeypatch):
    original = registry.load
    monkeypatch.setattr(
        registry, "load", lambda name: _refuse(name) if name == "exact" else original(name)
    )
    result = solve(trap())
    assert result.solver == "greedy"
    assert result.fallback_from[0].startswith("exact: cannot be loaded")


def _raise_runtime_error():
    raise RuntimeError("no locator available")


def _refuse(name):
    raise SolverNotInstalledError("cannot be loaded")
