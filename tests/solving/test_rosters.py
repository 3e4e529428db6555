"""Rosters against all rosters of a few clients and rounds, what a caller may give, and the loop."""

from __future__ import annotations

import re
import time
from itertools import product
from typing import Any

import numpy as np
import pytest
from support.killed_runs import split

import hasa_opt as hasa
from hasa_opt import InfeasibleError, InputError
from hasa_opt.errors import NoSolutionError
from hasa_opt.federated import Availability, Participation, run
from hasa_opt.models import MLP, fresh
from hasa_opt.solving.rosters import Roster, RosterProblem, roster
from hasa_opt.solving.rosters import solver as solving
from hasa_opt.tasks import Task

SHAPES = ((1, 4), (2, 3), (2, 5), (2, 6), (3, 2), (3, 3), (3, 4), (4, 2), (4, 3), (6, 2))
THREE = hasa.Clients([3, 2, 1], names=["phone", "watch", "camera"])


def random_instance(seed: int) -> dict[str, Any]:
    """At most twelve binaries, with any options."""
    rng = np.random.default_rng(seed)
    n, rounds = SHAPES[seed % len(SHAPES)]
    energy = rng.integers(0, 9, n)
    asked = {
        "available": rng.random((n, rounds)) < 0.8,
        "energy_each": rng.integers(1, 3 * rounds, n) + energy,
        "energy_total": int(rng.integers(0, 1 + energy.sum() * rounds)),
        "every": int(rng.integers(1, rounds + 2)),
        "share": float(rng.uniform(0.05, 0.8)),
    }
    kept = {name: value for name, value in asked.items() if rng.random() < 0.5}
    return {
        "clients": hasa.Clients(rng.integers(1, 30, n)),
        "energy": energy,
        "rounds": rounds,
    } | kept


def best_roster(
    clients: hasa.Clients,
    energy: Any,
    rounds: int,
    available: Any = None,
    energy_each: Any = None,
    energy_total: int | None = None,
    every: int | None = None,
    share: float | None = None,
) -> float | None:
    """The best objective of all rosters, None where there is none; by the definitions alone."""
    n, samples = len(clients), np.asarray(clients.samples)
    cells = np.array(list(product((False, True), repeat=n * rounds))).reshape(-1, n, rounds)
    per_client = energy * cells.sum(axis=2)
    least = np.einsum("i,kit->kt", samples, cells).min(axis=1) / samples.sum()
    kept = np.ones(len(cells), dtype=bool)
    if available is not None:
        kept &= ~(cells & ~available).any(axis=(1, 2))
    if energy_each is not None:
        kept &= (per_client <= energy_each).all(axis=1)
    if energy_total is not None:
        kept &= per_client.sum(axis=1) <= energy_total
    for first in range(0, rounds, every) if every else ():
        kept &= cells[:, :, first : first + every].any(axis=2).all(axis=1)
    if share is not None:
        kept &= least >= share
    if not kept.any():
        return None
    return float(least[kept].max() if share is None else per_client.sum(axis=1)[kept].min())


def check_bound(found: Roster, best: float) -> None:
    sign = 1 if found.problem.share is None else -1
    assert found.problem.faults(found.present) == []
    assert sign * found.objective <= sign * best + 1e-9
    assert sign * found.bound >= sign * best - 1e-9


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_highs_finds_the_best_of_all_rosters_and_prices_bound_it(first: int) -> None:
    feasible = near = 0
    for seed in range(first, first + 50):
        asked = random_instance(seed)
        best = best_roster(**asked)
        if best is None:
            for name in ("auto", "highs"):
                with pytest.raises(InfeasibleError):
                    roster(**asked, solver=name)
            with pytest.raises((InfeasibleError, NoSolutionError)):
                roster(**asked, solver="prices")
            continue
        feasible += 1
        exact = roster(**asked, solver="highs")
        check_bound(exact, best)
        assert exact.objective == pytest.approx(best, abs=1e-9), seed
        assert exact.gap < 1e-9, seed
        check_bound(roster(**asked), best)
        try:
            check_bound(roster(**asked, solver="prices"), best)
            near += 1
        except NoSolutionError:
            pass
    assert 10 < feasible < 50
    assert near >= 0.9 * feasible


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"clients": [1, 2, 3]}, "clients is a list: give a hasa_opt.Clients"),
        ({"rounds": 0}, "rounds 0 must be a whole number of at least 1"),
        ({"rounds": 2.0}, "rounds 2.0 must be a whole number of at least 1"),
        ({"energy": [1.0, 2.0, 3.0]}, "energy is float64(3,): give whole numbers, one or 3 of"),
        ({"energy": [1, 2]}, "energy is int64(2,): give whole numbers, one or 3 of them"),
        ({"energy": [1, -2, 3]}, "energy -2 is negative: give at least 0"),
        ({"energy": 2**52}, "energy or samples over the horizon exceed 2**53: use larger units"),
        ({"energy_each": 2**63}, "energy_each 9223372036854775808 exceeds 2**53: use larger units"),
        ({"energy_each": [1, 2]}, "energy_each is int64(2,): give whole numbers, one or 3 of them"),
        ({"energy_total": -1}, "energy_total -1 must be a whole number of at least 0"),
        ({"energy_total": 1.5}, "energy_total 1.5 must be a whole number of at least 0"),
        ({"every": 0}, "every 0 must be a whole number of at least 1"),
        ({"available": np.ones((3, 4))}, "available is float64(3, 4): give bools of shape (3, 4)"),
        ({"available": np.ones((4, 3), bool)}, "available is bool(4, 3): give bools of shape (3,"),
        ({"share": 0}, "share = 0.0 must be above 0 and at most 1"),
        ({"share": 1.5}, "share = 1.5 must be above 0 and at most 1"),
        ({"share": "half"}, "share 'half' must be a finite number"),
        ({"share": float("nan")}, "share nan must be a finite number"),
        ({"solver": "scip"}, "solver 'scip' is not known: use \"auto\", \"prices\" or \"highs\""),
        ({"time_limit_s": 0}, "time_limit_s = 0.0 must be above 0"),
        ({"time_limit_s": "1 s"}, "time_limit_s '1 s' must be a finite number"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_words(more: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        roster(**({"clients": THREE, "energy": 1, "rounds": 4} | more))


AWAY = np.array([[True] * 4, [False, False, True, True], [True] * 4])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"available": AWAY, "every": 2},
            "client 'watch' is not available in the 2 rounds from 0 on (1 such client(s)): raise",
        ),
        (
            {"energy_each": [9, 1, 9], "every": 2},
            "client 'watch' has the energy of 1 round(s), but must take part in 2: raise every or",
        ),
        (
            {"energy_total": 5, "every": 2},
            "energy_total 5 is below the 6 that it takes to have each client take part 2 time(s)",
        ),
        (
            {"energy_each": 2, "share": 0.7},
            "share 0.7 is above what any roster gives to each round (at most 0.5): ask for less",
        ),
        ({"energy_each": 1, "share": 0.4, "rounds": 2, "energy_total": 1}, "share 0.4 is above"),
    ],
)
def test_what_no_roster_keeps_is_refused_with_what_would(
    more: dict[str, Any], message: str
) -> None:
    with pytest.raises(InfeasibleError, match=re.escape(message)):
        roster(**({"clients": THREE, "energy": 1, "rounds": 4} | more))


def test_highs_proves_that_there_is_none_where_mixtures_would_do() -> None:
    """Of three equal clients, each in one of two rounds, one and a half would be in each."""
    clients = hasa.Clients([2, 2, 2])
    asked = {"energy": 1, "rounds": 2, "energy_each": 1, "share": 0.5}
    assert best_roster(clients, np.ones(3), 2, energy_each=1, share=0.5) is None
    with pytest.raises(InfeasibleError, match="no roster keeps the limits, as HiGHS proves"):
        roster(clients, **asked)
    with pytest.raises(NoSolutionError, match="no roster was found in 60 s that keeps the limits"):
        roster(clients, **asked, solver="prices")


def larger(seed: int, n: int = 60, rounds: int = 10) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    energy = rng.integers(50, 500, n)
    return {
        "clients": hasa.Clients(np.ceil(rng.lognormal(4, 1, n)).astype(int)),
        "energy": energy,
        "rounds": rounds,
        "energy_each": energy * rng.integers(2, 7, n),
        "energy_total": 3 * int(energy.sum()),
        "every": 5,
    }


@pytest.mark.parametrize("more", [{}, {"share": 0.25}])
def test_prices_are_near_their_bound_and_the_same_each_time(more: dict[str, Any]) -> None:
    asked = larger(0) | more
    one, two = (roster(**asked, solver="prices") for _ in range(2))
    assert one.problem.faults(one.present) == []
    assert one.gap < 0.02
    assert np.array_equal(one.present, two.present)
    assert one.bound == two.bound


def test_a_search_ends_with_its_time_and_is_never_worse_than_prices() -> None:
    asked = larger(1, n=200, rounds=20) | {"every": 10}
    near = roster(**asked, solver="prices")
    started = time.perf_counter()
    found = roster(**asked, solver="highs", time_limit_s=2)
    assert time.perf_counter() - started < 6
    assert found.problem.faults(found.present) == []
    assert near.objective <= found.objective <= found.bound <= near.bound


def test_a_time_that_is_up_at_once_leaves_a_true_bound() -> None:
    asked = larger(2) | {"energy_total": None}
    hasty = roster(**asked, time_limit_s=1e-6)
    found = roster(**asked, time_limit_s=2)
    assert hasty.problem.faults(hasty.present) == []
    assert hasty.objective <= found.objective <= hasty.bound


def test_faults_name_each_limit_that_is_broken() -> None:
    problem = RosterProblem(
        THREE, 2, 4, available=AWAY, energy_each=[8, 2, 8], energy_total=12, every=4, share=0.5
    )
    assert problem.faults(np.ones((3, 4), dtype=bool)) == [
        "a client takes part where it is not available",
        "a client takes part more often than its energy lets it",
        "the energy 24 is above the total 12",
    ]
    assert problem.faults(np.zeros((3, 4), dtype=bool)) == [
        "a client takes no part in rounds 0 and after",
        "a round has 0 samples, below the 3 asked for",
    ]


def test_what_highs_says_is_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = larger(3)
    near = roster(**asked, solver="prices")
    found = solving.milp(**solving._program(near.problem), options={"node_limit": 0})
    found.update(x=np.ones(near.present.size + 1), mip_dual_bound=None)
    monkeypatch.setattr(solving, "milp", lambda **_: found)
    lied = roster(**asked, solver="highs")
    assert lied.solver == "prices"
    assert np.array_equal(lied.present, near.present)


def test_arrays_of_the_caller_are_not_shared() -> None:
    able = np.ones((3, 4), dtype=bool)
    problem = RosterProblem(THREE, 1, 4, available=able)
    able[:] = False
    assert problem.available.all()


def test_a_row_of_the_frame_is_a_client_in_a_round() -> None:
    found = roster(THREE, [3, 2, 1], 2, energy_each=[3, 4, 1])
    frame = found.frame("pandas")
    assert list(frame.columns) == ["client", "round"]
    pairs = {(THREE.name(row), at) for row, at in zip(*np.nonzero(found.present), strict=True)}
    assert set(frame.itertuples(index=False, name=None)) == pairs
    assert len(frame) == found.present.sum() == 4
    assert found.shares.min() == found.objective == 0.5
    assert found.energy == 3 + 4 + 1
    assert repr(found) == "Roster(3 clients, 2 rounds, least share 0.5, gap 0, prices)"
    least = roster(THREE, [3, 2, 1], 2, share=0.5)
    assert (least.objective, least.bound, least.gap) == (6, 6, 0)
    assert "energy 6" in repr(least)
    nobody = roster(THREE, 1, 2, energy_total=0)
    assert (nobody.objective, nobody.gap, len(nobody.frame("pandas"))) == (0, 0, 0)


@pytest.mark.filterwarnings("ignore:round .* no update was left")
@pytest.mark.parametrize("empty", [[], [2]])
def test_the_loop_trains_exactly_who_is_on_the_roster(empty: list[int]) -> None:
    sizes = (30, 20, 40, 25, 10)
    parts = [[split(n, 10 * k + at) for at, n in enumerate(sizes)] for k in range(3)]
    names = tuple(f"client {row}" for row in range(5))
    task = Task("toy", names, *parts, np.ones((5, 3), dtype=np.int64), 3)
    clients = hasa.Clients(sizes, names=names)
    able = np.ones((5, 4), dtype=bool)
    able[:, empty] = False
    plan = roster(
        clients, [3, 1, 2, 2, 1], 4, available=able, energy_each=6, every=4, energy_total=22
    )
    model = fresh(MLP(6, 3, hidden=(8,)), seed=1)
    there = Participation(availability=Availability(traces=plan.traces()))
    history = run(model, task, np.ones(5), rounds=4, participation=there)
    assert np.array_equal(history.flops > 0, plan.present.T)
    nobody = np.flatnonzero(~plan.present.any(axis=0)).tolist()
    assert [(event.round, event.kind) for event in history.events] == [
        (at, "empty") for at in nobody
    ]
    assert set(empty) <= set(nobody)
    assert 0 < plan.present.sum() < plan.present.size
