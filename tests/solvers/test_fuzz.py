"""Hostile input ends in a HasaError that names the value, or in an answer that breaks no limit."""

from __future__ import annotations

import os
import time
import warnings
from decimal import Decimal
from fractions import Fraction

import networkx as nx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support import TIMES
from support.hard_problems import large

import hasa_opt as hasa
from hasa_opt import AllocationProblem, Clients, Coverage, Quota, SiteBudgets, cost, utility
from hasa_opt import problem as constraints
from hasa_opt.errors import HasaError, UnsupportedConstraintError
from hasa_opt.solvers import registry
from hasa_opt.solvers.registry import Capability

FUZZ = settings(
    max_examples=150 * TIMES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
WORST = {
    "none": None,
    "text": "abc",
    "number in text": "0.5",
    "bytes": b"0.5",
    "true": True,
    "object": object(),
    "fraction": Fraction(1, 3),
    "decimal": Decimal("0.3"),
    "decimal nan": Decimal("nan"),
    "decimal signalling": Decimal("snan"),
    "complex": 1 + 2j,
    "numpy float32": np.float32(0.35),
    "numpy int8": np.int8(1),
    "numpy datetime": np.datetime64("2020-01-01"),
    "zero": 0,
    "negative zero": -0.0,
    "negative": -1.5,
    "subnormal": 5e-324,
    "tiny": 1e-300,
    "huge": 1e308,
    "2**63": 2**63,
    "10**400": 10**400,
    "nan": float("nan"),
    "inf": float("inf"),
    "minus inf": float("-inf"),
    "half": 0.5,
    "list": [0.5],
    "empty list": [],
    "ragged": [[1], [1, 2]],
    "list of none": [None, None, None],
    "list of text": ["a", "b", "c"],
    "list of mixed": [1, "b", None],
    "list of nan": [float("nan")] * 3,
    "list of inf": [1, float("inf"), 2],
    "list of huge": [2**63, 1, 1],
    "list of larger": [10**30, 1, 1],
    "list of 1e308": [1e308] * 3,
    "list of 2**62": [2**62] * 3,
    "list of negatives": [-1, -2, -3],
    "list of subnormals": [5e-324] * 3,
    "list of alike": [0.5, 0.5, 0.5],
    "list of fractions": [Fraction(1, 4), Fraction(1, 2), Fraction(1)],
    "list of decimals": [Decimal("0.25"), Decimal("0.5"), Decimal("1")],
    "list of complex": [1j, 1, 1],
    "list of bools": [True, False, True],
    "too long": [1, 2, 3, 4],
    "too deep": [[[1.0]]],
    "matrix": [[1.0, 2.0, 3.0]] * 3,
    "object array": np.array([1, object(), None], dtype=object),
    "structured": np.zeros(3, dtype=[("a", int)]),
    "datetimes": np.array(["2020-01-01"] * 3, dtype="datetime64[D]"),
    "masked": np.ma.masked_array([1.0, 2.0, 3.0], mask=[0, 1, 0]),
    "float32": np.array([0.2, 0.35, 0.9], dtype=np.float32),
    "float16": np.array([0.2, 0.35, 0.9], dtype=np.float16),
    "long double": np.array([0.2, 0.35, 0.9], dtype=np.longdouble),
    "uint64": np.array([2**64 - 1, 1, 1], dtype=np.uint64),
    "int8": np.array([100, 100, 100], dtype=np.int8),
    "strided": np.arange(6)[::2] + 1,
    "reversed": np.arange(1, 4)[::-1],
    "set": {1, 2, 3},
    "dict": {1.0: 1},
    "dict of nonsense": {"a": "b", None: object()},
    "dict of nan": {float("nan"): float("nan")},
    "generator": (x for x in ()),
    "function": len,
    "class": int,
}


def sound(problem: AllocationProblem, result: hasa.Allocation) -> None:
    """A valid allocation within all limits and below its bound, or none and why."""
    if not result.has_solution:
        assert result.termination is not hasa.Termination.OPTIMAL
        return
    found = problem.evaluate(result.choice)
    assert found.feasible, found.violations
    assert np.isfinite(found.objective)
    assert found.objective <= result.bound
    assert result.gap >= 0


def attempt(call) -> str:
    """Run a call; ``"answer"`` if it ends well, else the name of its HasaError."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            call()
        except HasaError as error:
            refusal = error
        else:
            return "answer"
    assert len(str(refusal)) > 15, "a message that says nothing"
    return type(refusal).__name__


def build(clients=None, **changed) -> AllocationProblem:
    arguments = {
        "widths": (0.25, 0.5, 1.0),
        "budget": 0.6,
        "utility": utility.alpha_fair(),
    } | changed
    return AllocationProblem.build(Clients([3, 1, 2]) if clients is None else clients, **arguments)


def fitting(solver: str) -> dict:
    """What a problem needs for a solver to take it: a flow wants a budget that cannot bind."""
    slack = Capability.SLACK_BUDGET in registry.find_solver(solver).capabilities
    return {"budget": 1, "constraints": [Quota({1.0: 2})]} if slack else {}


def solved(clients=None, **changed) -> None:
    problem = build(clients, **changed)
    sound(problem, hasa.solve(problem, "highs" if problem.rows else "exact"))


COUNTS = [[1, 2], [3, 4], [5, 6]]
SITED = Clients([3, 1, 2], site=["a", "b", "c"])
TREE = nx.DiGraph([("all", site) for site in "abc"])
ARGUMENTS = {
    "samples": lambda bad: solved(Clients(bad)),
    "counts": lambda bad: solved(Clients([3, 1, 2], counts=bad)),
    "from_counts": lambda bad: solved(Clients.from_counts(bad)),
    "max_width": lambda bad: solved(Clients([3, 1, 2], max_width=bad)),
    "names": lambda bad: solved(Clients([3, 1, 2], names=bad)),
    "site": lambda bad: solved(Clients([3, 1, 2], site=bad)),
    "labels": lambda bad: solved(Clients([3, 1, 2], counts=COUNTS, labels=bad)),
    "clients": lambda bad: AllocationProblem.build(
        bad, widths=[1.0], budget=1, utility=utility.alpha_fair()
    ),
    "widths": lambda bad: solved(widths=bad),
    "budget": lambda bad: solved(budget=bad),
    "with_budget": lambda bad: hasa.solve(build().with_budget(bad)),
    "utility": lambda bad: solved(utility=bad),
    "hasa scores": lambda bad: solved(utility=utility.hasa(bad)),
    "hasa widths": lambda bad: solved(utility=utility.hasa([1, 2, 3], widths=bad)),
    "alpha_fair weights": lambda bad: solved(utility=utility.alpha_fair(bad)),
    "alpha": lambda bad: solved(utility=utility.alpha_fair(alpha=bad)),
    "saturating scores": lambda bad: solved(utility=utility.saturating(bad)),
    "tau": lambda bad: solved(utility=utility.saturating([1, 2, 3], tau=bad)),
    "measured": lambda bad: solved(utility=utility.measured(bad)),
    "utility gives": lambda bad: solved(utility=lambda clients, menu: bad),
    "cost": lambda bad: solved(cost=bad),
    "cost gives": lambda bad: solved(cost=lambda clients, units, denominator: bad),
    "cost table gives": lambda bad: solved(
        cost=lambda clients, units, denominator: cost.CostTable(bad, bad)
    ),
    "cost table": lambda bad: solved(cost=cost.table(bad)),
    "full": lambda bad: solved(cost=cost.table([1, 2, 3], full=bad)),
    "constraints": lambda bad: solved(constraints=bad),
    "constraint": lambda bad: solved(constraints=[bad]),
    "Coverage": lambda bad: solved(constraints=[Coverage(bad)]),
    "Coverage width": lambda bad: solved(constraints=[Coverage({key(bad): 0.1})]),
    "Coverage share": lambda bad: solved(constraints=[Coverage({1.0: bad})]),
    "Quota": lambda bad: solved(constraints=[Quota(bad)]),
    "Quota limit": lambda bad: solved(constraints=[Quota({1.0: bad})]),
    "Budget resource": lambda bad: solved(constraints=[constraints.Budget(bad, 5)]),
    "Budget limit": lambda bad: solved(constraints=[constraints.Budget([1, 2, 3], bad)]),
    "SiteBudgets tree": lambda bad: solved(SITED, constraints=[SiteBudgets(bad, {})]),
    "SiteBudgets limits": lambda bad: solved(SITED, constraints=[SiteBudgets(TREE, bad)]),
    "SiteBudgets limit": lambda bad: solved(SITED, constraints=[SiteBudgets(TREE, {"a": bad})]),
    "Robust gamma": lambda bad: solved(constraints=[constraints.Robust(bad, 0.1)]),
    "Robust deviation": lambda bad: solved(constraints=[constraints.Robust(1, bad)]),
    "Fairness": lambda bad: solved(constraints=[constraints.Fairness(bad)]),
    "Switches previous": lambda bad: solved(constraints=[constraints.Switches(bad, 1)]),
    "Switches at_most": lambda bad: solved(constraints=[constraints.Switches([1.0] * 3, bad)]),
    "MinWidth": lambda bad: solved(constraints=[constraints.MinWidth(bad)]),
    "Fixed": lambda bad: solved(constraints=[constraints.Fixed(bad)]),
    "Fixed client": lambda bad: solved(constraints=[constraints.Fixed({key(bad): 0.5})]),
    "Fixed width": lambda bad: solved(constraints=[constraints.Fixed({0: bad})]),
    "Forbidden": lambda bad: solved(constraints=[constraints.Forbidden(bad)]),
    "Forbidden widths": lambda bad: solved(constraints=[constraints.Forbidden({0: bad})]),
    "problem": lambda bad: hasa.solve(bad),
    "solver": lambda bad: hasa.solve(build(), bad),
    "time_limit_s": lambda bad: hasa.solve(build(), "highs", time_limit_s=bad),
    "gap": lambda bad: hasa.solve(build(), "highs", gap=bad),
    "warm_start": lambda bad: hasa.solve(build(), "highs", warm_start=bad),
    "fallback": lambda bad: hasa.solve(build(), "highs", fallback=bad),
    "max_states": lambda bad: hasa.solve(build(), "exact", max_states=bad),
    "pulp_solver": lambda bad: hasa.solve(build(), "pulp", pulp_solver=bad),
    "cpsat num_workers": lambda bad: hasa.solve(build(), "cpsat", num_workers=bad),
    "scip nodes": lambda bad: hasa.solve(build(), "scip", **{"limits/nodes": bad}),
    "highs threads": lambda bad: hasa.solve(build(), "highs", threads=bad),
    "evaluate": lambda bad: build().evaluate(bad),
    "frontier problem": lambda bad: hasa.frontier(bad, [0.5, 0.6]),
    "frontier budgets": lambda bad: hasa.frontier(build(), bad),
    "compare problem": lambda bad: hasa.compare(bad),
    "compare solvers": lambda bad: hasa.compare(build(), bad),
    "rule scores": lambda bad: hasa.rules.hasa(bad, [3, 1, 2]),
    "rule samples": lambda bad: hasa.rules.hasa([1, 2, 3], bad),
    "rule budget": lambda bad: hasa.rules.hasa([1, 2, 3], [3, 1, 2], budget=bad),
    "rule widths": lambda bad: hasa.rules.hasa([1, 2, 3], [3, 1, 2], widths=bad),
    "rule caps": lambda bad: hasa.rules.hasa([1, 2, 3], [3, 1, 2], caps=bad),
    "rule passes": lambda bad: hasa.rules.hasa([1, 2, 3], [3, 1, 2], passes=bad),
    "uniform samples": lambda bad: hasa.rules.uniform(bad),
    "capacity caps": lambda bad: hasa.rules.capacity([3, 1, 2], caps=bad),
    "reverse scores": lambda bad: hasa.rules.reverse(bad, [3, 1, 2]),
    "random seed": lambda bad: hasa.rules.random([3, 1, 2], seed=bad),
    "random samples": lambda bad: hasa.rules.random(bad, seed=0),
    "budget_miss": lambda bad: hasa.rules.budget_miss(bad, [3, 1, 2], budget=0.5),
    "score counts": lambda bad: hasa.scores.jensen_shannon(bad),
    "score alpha": lambda bad: hasa.scores.jensen_shannon(COUNTS, alpha=bad),
    "rank scores": lambda bad: hasa.scores.rank_normalize(bad),
}


def key(value: object) -> object:
    """A value that can stand in a mapping."""
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return value


@pytest.mark.slow
@pytest.mark.parametrize("argument", ARGUMENTS)
def test_every_argument_survives_every_hostile_value(argument):
    raw = {}
    outcomes = set()
    for name, bad in WORST.items():
        try:
            outcomes.add(attempt(lambda bad=bad: ARGUMENTS[argument](bad)))
        except Exception as error:
            raw[name] = f"{type(error).__name__}: {error}"
    assert not raw
    assert outcomes - {"answer"}, "nothing was refused: the value never reached a check"


# ----------------------------------------------------------------- hostile problems, all backends

NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from(
    [0.0, -0.0, 5e-324, 1e-300, 1e-12, 1e12, 1e150, 1e300, -1e300]
)


@pytest.mark.fuzz
@FUZZ
@given(
    table=hnp.arrays(
        st.sampled_from([np.float64, np.float32, np.int64]),
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=4),
    ),
    samples=hnp.arrays(np.int64, st.integers(0, 4)),
    budget=NUMBERS,
)
def test_any_arrays_end_in_a_refusal_or_a_sound_answer(table, samples, budget):
    def run():
        menu = np.arange(1, table.shape[1] + 1) / table.shape[1]
        problem = build(
            Clients(samples), widths=menu, budget=budget, utility=utility.measured(table)
        )
        sound(problem, hasa.solve(problem, "exact"))
        sound(problem, hasa.solve(problem, "greedy"))

    attempt(run)


@pytest.mark.fuzz
@FUZZ
@given(
    samples=st.lists(st.integers(1, 2**61), min_size=1, max_size=5),
    exponents=st.tuples(st.integers(-300, 300), st.integers(-20, 20)),
    budget=st.floats(0.05, 2),
    seed=st.integers(0, 2**32 - 1),
)
@pytest.mark.parametrize("solver", ["exact", "greedy", "highs"])
def test_any_scale_is_refused_or_answered_soundly(solver, samples, exponents, budget, seed):
    rng = np.random.default_rng(seed)
    scales = rng.integers(-abs(exponents[1]), abs(exponents[1]) + 1, (len(samples), 3))
    with np.errstate(over="ignore"):  # infinite is a scale, too
        table = rng.normal(size=scales.shape) * 10.0 ** exponents[0] * 10.0**scales

    def run():
        problem = build(Clients(samples), budget=budget, utility=utility.measured(table))
        sound(problem, hasa.solve(problem, solver))

    attempt(run)


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "reversed twice": lambda table: table[::-1, ::-1].copy()[::-1, ::-1],
    "strided": lambda table: np.repeat(table, 2, axis=1)[:, ::2],
    "read-only": lambda table: np.lib.stride_tricks.as_strided(table, writeable=False),
    "big-endian": lambda table: table.astype(">f8"),
    "objects": lambda table: table.astype(object),
    "lists": lambda table: table.tolist(),
    "unmasked": np.ma.masked_array,
}


@pytest.mark.parametrize("solver", [line.name for line in registry.solvers() if line.available])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_of_an_array_does_not_matter(solver, layout):
    rng = np.random.default_rng(0)
    table = np.cumsum(rng.random((6, 3)), axis=1)
    given = LAYOUTS[layout](table)
    before = np.array(given, dtype=float)
    clients = Clients(rng.integers(1, 9, 6))
    plain, hostile = (
        hasa.solve(build(clients, utility=utility.measured(values), **fitting(solver)), solver)
        for values in (table, given)
    )
    assert hostile.choice.tolist() == plain.choice.tolist()
    np.testing.assert_array_equal(np.array(given, dtype=float), before)  # left as it was


def test_single_precision_is_read_as_it_prints():
    rough = np.array([0.2, 0.35, 0.9], dtype=np.float32)
    assert build(widths=rough).widths.tolist() == [0.2, 0.35, 0.9]


@pytest.mark.parametrize("solver", [line.name for line in registry.solvers() if line.available])
def test_one_client_and_one_width(solver):
    result = hasa.solve(build(Clients([1]), widths=[1.0], budget=1), solver)
    assert result.choice.tolist() == [0]
    assert result.termination is hasa.Termination.OPTIMAL


# -------------------------------------------------------------------------------- time limits


def correlated(n_clients: int = 2000) -> AllocationProblem:
    """Worth nearly what it costs: hard for every branch and bound."""
    rng = np.random.default_rng(0)
    prices = np.cumsum(rng.integers(1, 10**6, (n_clients, 10)), axis=1)
    bonus = 1000.0 * np.cumsum(rng.integers(1, 3, prices.shape), axis=1)
    return build(
        Clients(np.ones(n_clients, dtype=int)),
        widths=np.arange(1, 11) / 10,
        budget=0.5,
        cost=cost.table(prices),
        utility=utility.measured(prices + bonus),
    )


SIZES = {
    "20,000": lambda: large(20_000),
    "20,000 covered": lambda: large(20_000, constraints=[Coverage({0.8: 0.1})]),
    "20,000 with quotas": lambda: large(20_000, budget=0.8, constraints=[Quota({0.8: 4_000})]),
    "200,000": lambda: large(200_000),
    "a million alike": lambda: large(10**6, alike=True),
    "correlated": correlated,
}


@pytest.fixture(scope="module")
def sizes():
    warm = large(25_000, constraints=[])
    for line in registry.solvers():
        if line.available:
            own = warm if line.name in ("exact", "greedy") else build(**fitting(line.name))
            hasa.solve(own, line.name)
    return {name: make() for name, make in SIZES.items()}


def crowding() -> float:
    """How many processes wait for each core, at least 1."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


@pytest.mark.parametrize(
    "room",
    [pytest.param(5.0, marks=pytest.mark.slow), pytest.param(0.4, marks=pytest.mark.nightly)],
)
@pytest.mark.parametrize("limit", [0, 0.3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("solver", [line.name for line in registry.solvers() if line.available])
def test_no_run_exceeds_its_limit(sizes, solver, size, limit, room):
    """Within 0.2 s where nothing else runs; a busy machine is allowed more."""
    problem = sizes[size]
    try:
        registry.check_constraints(problem, solver)
    except UnsupportedConstraintError as error:
        pytest.skip(str(error))
    taken = []
    for _ in range(4):  # what other processes take from us is not the library's
        allowed = 1.1 * limit + room * crowding()
        started = time.perf_counter()
        result = hasa.solve(problem, solver, time_limit_s=limit)
        taken.append(time.perf_counter() - started)
        sound(problem, result)
        if taken[-1] <= allowed:
            return
    raise AssertionError(f"{taken} s, {allowed:.2f} s allowed")
