"""Halves that meet in the middle: true optima, true bounds, and an end in time."""

from __future__ import annotations

import itertools
import sys
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from support import TIMES
from support.limited_problems import KINDS, limited_problem, optimum, tolerance

import hasa_opt as hasa
from hasa_opt._utils.deadline import Deadline, OutOfTime
from hasa_opt.problem.limits import RobustRow
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Termination
from hasa_opt.solvers.base import Request

pytest.importorskip("numba")
from hasa_opt.solvers.exact import ExactBackend, closing, halves
from hasa_opt.solvers.exact.kernels.meeting import Moves, least_lossy, met

ON = np.zeros(1, dtype=bool)
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def moves(rng: np.random.Generator, n_clients: int, n_limits: int) -> Moves:
    """Clients of one to four further options, in the order that lists take them."""
    counts = rng.integers(2, 6, n_clients)
    regret = [np.append(0.0, np.sort(rng.random(count - 1))) for count in counts]
    regret.sort(key=lambda own: own[1])
    first = np.cumsum([0, *(own.size for own in regret)])
    table = rng.integers(-9, 10, (first[-1], n_limits))
    table[first[:-1]] = 0
    return Moves(first, np.concatenate(regret), table)


def all_of(own: Moves) -> list[tuple[float, tuple[int, ...]]]:
    """Loss and what is taken of every combination."""
    options = [range(start, stop) for start, stop in itertools.pairwise(own.first)]
    return sorted(
        (float(own.regret[list(each)].sum()), tuple(own.table[list(each)].sum(axis=0).tolist()))
        for each in itertools.product(*options)
    )


@pytest.mark.parametrize("seed", range(20))
def test_lists_are_the_least_lossy_in_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    own = moves(rng, int(rng.integers(1, 6)), 3)
    every = all_of(own)
    size = int(rng.integers(1, len(every) + 2))
    listed = least_lossy(own, size, np.inf, ON)
    assert listed.loss == pytest.approx([loss for loss, _ in every[:size]])
    assert {tuple(row) for row in listed.taken.tolist()} <= {taken for _, taken in every}
    rest = every[size][0] if size < len(every) else np.inf
    assert listed.rest == pytest.approx(rest)
    ceiling = every[len(every) // 2][0] - 1e-9
    below = least_lossy(own, len(every) + 1, ceiling, ON)
    assert below.loss.size == sum(loss < ceiling for loss, _ in every)
    assert below.rest == np.inf


@pytest.mark.parametrize("seed", range(20))
def test_the_best_pair_is_met(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, two = (least_lossy(moves(rng, 4, 3), 400, np.inf, ON) for _ in range(2))
    room, price = rng.integers(-2, 9, 3), rng.random(3) * [1, 1, 0]
    left = room - one.taken[:, None] - two.taken[None]
    loss = one.loss[:, None] + two.loss + (price * left).sum(axis=-1)
    loss[(left < 0).any(axis=-1)] = np.inf
    at = met(one, two, room, price, np.inf, ON)
    assert loss.min() < np.inf
    assert loss[at] == pytest.approx(loss.min())
    assert met(one, two, room, price, loss.min(), ON) == (-1, -1)


@pytest.mark.parametrize("seed", range(5))
def test_few_clients_move_at_once_and_only_to_better_allocations(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(halves, "_MOVING", (3, 5))
    rng = np.random.default_rng(seed)
    costs = {name: rng.integers(1, 30, (12, 4)) for name in "ab"}
    problem = hasa.AllocationProblem.build(
        hasa.Clients([1] * 12),
        menu=hasa.Menu(list("wxyz"), costs=costs),
        utility=hasa.utility.measured(costs["a"] + costs["b"] + rng.random((12, 4))),
        constraints=[hasa.Budget(name, 170) for name in "ab"],
    )
    request = Request(problem, time_limit_s=30)
    request.offer((costs["a"] + costs["b"]).argmin(axis=1))
    steps = [request.best.choice]
    original = Request.offer

    def offer(self: Request, choice: Any, source: str = "") -> None:
        original(self, choice, source)
        steps.append(self.best.choice)

    monkeypatch.setattr(Request, "offer", offer)
    assert request.dual is not None
    halves._search_near(request, request.dual, rng, 0.3)
    worth = [problem.evaluate(choice) for choice in steps]
    assert all(found.feasible for found in worth)
    assert [found.objective for found in worth] == sorted(found.objective for found in worth)
    assert max((one != two).sum() for one, two in itertools.pairwise(steps)) in (1, 2, 3, 4)
    best = hasa.solve(problem, "highs").objective
    assert worth[0].objective < worth[-1].objective <= best + 1e-9


@pytest.mark.slow
@pytest.mark.fuzz
@pytest.mark.parametrize("sizes", [(1 << 12,), (2, 3, 5)], ids=["whole", "cut"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if "robust" not in kind])
def test_halves_alone_tell_the_truth(
    kind: str, sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "_FEW_COLUMNS", -1)
    monkeypatch.setattr(closing, "_MORE_COLUMNS", -1)
    monkeypatch.setattr(halves, "_SIZES", sizes)
    proven = solved = 0
    for seed in range(16 * TIMES):
        problem = limited_problem(kind, 30_000 + seed)
        best = optimum(problem)
        if best is None or any(isinstance(row, RobustRow) for row in problem.rows):
            continue
        answer = ExactBackend().solve(problem, Request(problem))
        if answer.choice is None:
            continue
        found, room = problem.evaluate(answer.choice), tolerance(problem)
        assert found.feasible
        assert found.objective - room <= best <= answer.bound + room
        if answer.termination is Termination.OPTIMAL:
            assert found.objective >= best - room
            proven += 1
        solved += 1
    assert solved
    assert proven >= 0.9 * solved or len(sizes) > 1


@pytest.mark.slow
def test_what_halves_leave_open_is_proven_by_branch_and_bound() -> None:
    rng = np.random.default_rng(0)
    problem = AllocationProblem.build(
        hasa.Clients(rng.integers(20, 2000, 200)),
        widths=np.linspace(0.3, 1, 8).round(2),
        budget=0.5,
        utility=hasa.utility.hasa(rng.random(200)),
        constraints=[hasa.Coverage({1.0: 0.1, 0.7: 0.3})],
    )
    request = Request(problem)
    answer = ExactBackend().solve(problem, request)
    assert answer.termination is Termination.OPTIMAL
    assert request.dual is not None
    *_, left = halves.met_in_the_middle(request, request.dual)
    assert left > answer.bound


@pytest.fixture(scope="module")
def several() -> ModuleType:
    """The benchmark of hard problems under several budgets."""
    spec = spec_from_file_location("bench_several", BENCHMARKS / "bench_several.py")
    assert spec is not None
    assert spec.loader is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        module = module_from_spec(spec)
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
    return module


def solved(problem: AllocationProblem, **more: object) -> hasa.Allocation:
    return hasa.solve(problem, "exact", **more)


@pytest.mark.slow
def test_close_to_the_best_that_is_known(several: ModuleType) -> None:
    """Without a time limit, in tenths of a second, nearer than repair alone."""
    known = [line for line in several.references() if line["resources"] == 10]
    for line in known[:2]:
        size = [int(line[key]) for key in ("classes", "items", "resources", "seed")]
        problem = several.knapsack(*size)
        request = Request(problem)
        result = ExactBackend().solve(problem, request)
        assert request.dual is not None
        assert request.dual.bound == pytest.approx(line["bound"], abs=0.01)
        assert result.objective >= (1 - 5e-4) * line["exact"]
        assert line["exact"] <= result.bound < request.dual.bound - 1


@pytest.mark.slow
def test_whole_utilities_prove_an_optimum_that_bounds_alone_do_not(several: ModuleType) -> None:
    result = solved(several.knapsack(500, 10, 5, 16))
    assert (result.termination, result.objective) == (Termination.OPTIMAL, 160_734)


@pytest.mark.slow
def test_incumbents_rise_until_somebody_asks_to_stop(several: ModuleType) -> None:
    seen: list[hasa.Progress] = []

    def watch(progress: hasa.Progress) -> bool:
        seen.append(progress)
        return len({each.bound for each in seen}) > 3

    problem = several.knapsack(100, 10, 30, 5)
    result = solved(problem, time_limit_s=60.0, on_progress=watch)
    assert result.seconds < 30
    assert result.termination is not Termination.OPTIMAL
    values = [each.incumbent for each in seen if each.incumbent is not None]
    assert values == sorted(values)
    assert [each.bound for each in seen] == sorted((each.bound for each in seen), reverse=True)
    assert result.objective >= values[-1]


@pytest.mark.slow
def test_ends_at_the_time_limit_with_the_best_found(several: ModuleType) -> None:
    problem = several.knapsack(100, 10, 30, 5)
    brief = solved(problem)
    started = time.perf_counter()
    result = solved(problem, time_limit_s=2.0)
    assert time.perf_counter() - started < 20.0
    assert result.termination is Termination.TIME_LIMIT
    assert result.objective >= brief.objective


@pytest.mark.slow
def test_ctrl_c_keeps_the_best(several: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = several.knapsack(100, 10, 10, 3)
    rounds = iter(range(2))
    ordinary = Deadline.heed

    def interrupted(self: Deadline, call: Any, stop: Any) -> Any:
        if next(rounds, None) is None:
            raise KeyboardInterrupt
        return ordinary(self, call, stop)

    monkeypatch.setattr(Deadline, "heed", interrupted)
    result = solved(problem, time_limit_s=60.0)
    assert result.termination is Termination.INTERRUPTED
    assert result.has_solution


@pytest.mark.slow
def test_costs_of_any_size(several: ModuleType) -> None:
    """Weights that floating-point solvers do not tell apart."""
    unit = 300_000_007
    small = several.knapsack(100, 10, 10, 3)
    table = [row.coefficients * unit for row in small.limits]
    menu = hasa.Menu(
        small.menu.names, costs={f"w{at}": own for at, own in enumerate(table)}, per="client"
    )
    limits = [hasa.Budget(f"w{at}", row.upper * unit) for at, row in enumerate(small.limits)]
    large = AllocationProblem.build(
        small.clients, menu=menu, utility=hasa.utility.measured(small.utilities), constraints=limits
    )
    assert solved(large).objective == pytest.approx(solved(small).objective, rel=5e-4)


@pytest.mark.slow
def test_what_is_told_to_stop_hands_over_what_it_has() -> None:
    halt = [False]

    def call() -> str:
        while not halt[0]:
            time.sleep(0.01)
        return "so far"

    def stop() -> None:
        halt[0] = True

    assert Deadline.after(0.05).heed(call, stop) == ("so far", False)
    assert Deadline.after(60.0).heed(lambda: "all", stop) == ("all", True)
    with pytest.raises(OutOfTime):
        Deadline.after(0.0).heed(lambda: time.sleep(2.0), stop)
