"""The min-cost flow: quotas alone."""

from __future__ import annotations

import time

import numpy as np
import pytest
from support.hard_problems import large

import hasa_opt as hasa
from hasa_opt import AllocationProblem, Clients, Coverage, Quota, Termination, solve
from hasa_opt._utils.deadline import Deadline
from hasa_opt.errors import InfeasibleError, InputError, UnsupportedConstraintError
from hasa_opt.solvers import flow, registry
from hasa_opt.solvers.base import Request
from hasa_opt.testing import problems


def contested(seed: int, scale: float = 1.0, n_clients: int | None = None) -> AllocationProblem:
    """Everybody wants the same widths; masks, ties and any sign of utility."""
    rng = np.random.default_rng(seed)
    n_clients = int(rng.integers(1, 40)) if n_clients is None else n_clients
    n_widths = int(rng.integers(2, 7))
    menu = np.arange(1, n_widths + 1) / n_widths
    shape = (n_clients, n_widths)
    table = {
        0: lambda: rng.integers(-2, 3, shape).astype(float),
        1: lambda: np.cumsum(rng.random(shape), axis=1),
        2: lambda: rng.normal(size=shape) - np.arange(n_widths),
    }[seed % 3]()
    quota = rng.multinomial(n_clients + int(rng.integers(0, 4)), rng.dirichlet(np.ones(n_widths)))
    quotas = [Quota({float(width): int(most) for width, most in zip(menu, quota, strict=True)})]
    quotas.append(Quota({float(menu[0]): int(quota[0] + rng.integers(0, 2))}))
    masks = []
    if rng.random() < 0.5 and n_clients > 2:
        masks = [hasa.Forbidden({0: float(menu[0])}), hasa.Fixed({1: float(menu[-1])})]
    return AllocationProblem.build(
        Clients(rng.integers(1, 50, n_clients)),
        widths=menu,
        budget=1.0,
        utility=hasa.utility.measured(table * scale),
        constraints=[*quotas, *masks],
    )


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "seeds"), [(1.0, 50), (1e-12, 15), (1e12, 15)])
def test_agrees_with_highs(scale, seeds):
    ended = {"optimal": 0, "infeasible": 0}
    for seed in range(seeds):
        problem = contested(seed, scale)
        best = registry.load("highs").solve(problem, Request(problem))
        claim = registry.load("flow").solve(problem, Request(problem))
        assert claim.termination is best.termination
        ended[str(claim.termination)] += 1
        if claim.termination is Termination.OPTIMAL:
            found = problem.evaluate(claim.choice)
            room = 1e-9 * max(problem.span, scale)
            assert found.feasible
            assert claim.objective == pytest.approx(found.objective, abs=room)
            assert claim.objective == pytest.approx(best.objective, abs=room)
            assert claim.bound >= best.objective - room
    assert ended["optimal"] >= seeds / 2
    assert ended["infeasible"] >= 1


def test_an_infeasible_quota_is_explained():
    problem = problems.measured(
        [1, 1], (0.5, 1.0), 1, [[0, 3]] * 2, constraints=[Quota({1.0: 0, 0.5: 0})]
    )
    with pytest.raises(InfeasibleError, match="Quota"):
        solve(problem, "flow")


def test_a_client_makes_room_for_another_by_moving_on():
    table = [[0, 5, 9], [0, 8, 9], [0, 1, 9]]
    problem = problems.measured(
        [1, 1, 1], (0.25, 0.5, 1.0), 1, table, constraints=[Quota({1.0: 1, 0.5: 1})]
    )
    result = solve(problem, "flow")
    assert result.widths.tolist() == [0.25, 0.5, 1.0]
    assert result.termination is Termination.OPTIMAL


def test_a_gap_that_is_left_is_told(monkeypatch):
    monkeypatch.setattr(flow._Distances, "prices", lambda self: np.zeros(2))
    problem = problems.measured(
        [1, 1], (0.5, 1.0), 1, [[0, 3], [0, 2]], constraints=[Quota({1.0: 1, 0.5: 1})]
    )
    answer = registry.load("flow").solve(problem, Request(problem))
    assert (answer.objective, answer.bound) == (3, 5)
    assert answer.termination is Termination.GAP_REACHED


@pytest.mark.parametrize("noise", [0.0, 1e-16])
def test_no_circle_of_rounding_errors_hides_the_way_out(noise):
    loss = np.full((4, 4), np.inf)
    loss[0, 1], loss[1, 0], loss[1, 2], loss[2, 3] = 0.1, -0.1 - noise, 5.0, 0.0
    distances = flow._Distances(loss)
    assert distances.chain(0) == [(0, 1), (1, 2), (2, 3)]
    assert flow._Distances(loss[:3, :3]).chain(0) == [(0, 1), (1, 2)]
    loss[1, 2] = np.inf
    assert flow._Distances(loss).chain(0) is None


def test_the_bound_holds_at_any_price():
    for seed in range(12):
        problem = contested(seed)
        try:
            best = solve(problem, "highs").objective
        except InfeasibleError:
            continue
        prices = np.random.default_rng(seed).random(problem.widths.size) * 3
        assert flow._bound(problem, prices, flow._quotas(problem)) >= best - 1e-9


def test_a_soft_ban_does_not_hide_the_other_differences():
    rng = np.random.default_rng(3)
    table = rng.random((200, 4))
    found = {}
    for solver, ban in (("flow", -1e15), ("highs", -100)):
        table[::7, 0] = ban
        problem = AllocationProblem.build(
            Clients(np.ones(200, dtype=int)),
            widths=(0.25, 0.5, 0.75, 1.0),
            budget=1.0,
            utility=hasa.utility.measured(table),
            constraints=[Quota({1.0: 20, 0.75: 30, 0.5: 60})],
        )
        found[solver] = solve(problem, solver).objective
    assert found["flow"] == pytest.approx(found["highs"], abs=1e-8)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"budget": 0.9}, r"'flow'.*budget 0.9.*use highs, or raise the budget to 1,"),
        ({"constraints": [Coverage({1.0: 0.5})]}, r"'flow'.*Coverage.*use exact or highs or "),
    ],
)
def test_what_it_cannot_take_is_refused_by_name(change, words):
    arguments = {"budget": 1.0, "constraints": [Quota({1.0: 1})]} | change
    problem = AllocationProblem.build(
        Clients([1, 2]), widths=(0.5, 1.0), utility=hasa.utility.alpha_fair(), **arguments
    )
    with pytest.raises(UnsupportedConstraintError, match=words):
        solve(problem, "flow")
    with pytest.raises(UnsupportedConstraintError, match=words):
        solve(problem, "highs", fallback="flow")  # before the first one has worked


def test_the_budget_that_is_named_suffices():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        arguments = {
            "clients": Clients(rng.integers(1, 10**5, 3), max_width=rng.choice([0.4, 0.9, 1], 3)),
            "widths": (0.3, 1.0),
            "utility": hasa.utility.alpha_fair(),
        }
        problem = AllocationProblem.build(**arguments, budget=0.3)
        if problem.dearest <= problem.limit:
            continue
        with pytest.raises(UnsupportedConstraintError) as caught:
            solve(problem, "flow")
        named = float(str(caught.value).split("raise the budget to ")[1].split(",")[0])
        result = solve(AllocationProblem.build(**arguments, budget=named), "flow")
        assert result.termination is Termination.OPTIMAL


def test_the_time_limit_holds():
    problem = contested(1, n_clients=30_000)
    began = time.perf_counter()
    result = solve(problem, "flow", time_limit_s=0)
    assert time.perf_counter() - began < 10
    best = solve(problem, "highs").objective
    if result.termination is Termination.OPTIMAL:  # within the grace of a few hundredths
        assert result.objective == pytest.approx(best)
    else:
        assert result.termination is Termination.TIME_LIMIT
    assert result.bound >= best - 1e-9
    assert solve(contested(1), "flow").termination is Termination.OPTIMAL


def test_out_of_time_it_still_has_a_bound(monkeypatch):
    problem = contested(1, n_clients=30)
    late = Request(problem, deadline=Deadline(time.perf_counter() + 60))
    monkeypatch.setattr(Deadline, "passed", True)
    claim = registry.load("flow").solve(problem, late)
    assert claim.termination is Termination.TIME_LIMIT
    assert claim.choice is None
    monkeypatch.undo()
    assert claim.bound > solve(problem, "highs").objective


@pytest.mark.slow
def test_twenty_thousand_clients_are_proven():
    problem = large(20_000, budget=0.8, constraints=[Quota({0.8: 4_000})])
    assert solve(problem, "flow").termination is Termination.OPTIMAL


def test_it_takes_no_options():
    with pytest.raises(InputError, match="nonsense"):
        solve(contested(1), "flow", nonsense=3)
