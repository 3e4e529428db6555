"""Loops of the exact solver, interpreted and compiled."""

from __future__ import annotations

import subprocess
import sys
import warnings
from importlib import import_module
from threading import get_ident

import numpy as np
import pytest

import hasa_opt as hasa
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.solvers.base import Request
from hasa_opt.solvers.exact import kernels
from hasa_opt.solvers.exact.kernels import multiplier

caching = pytest.importorskip("numba.core.caching")
backend = import_module("hasa_opt.solvers.exact.backend")


def random_problem(seed: int, n_clients: int, table: np.ndarray | None = None) -> AllocationProblem:
    rng = np.random.default_rng(seed)
    table = rng.random((n_clients, 5)) if table is None else table
    return AllocationProblem.build(
        hasa.Clients(rng.integers(1, 500, n_clients)),
        widths=[0.2, 0.4, 0.6, 0.8, 1.0],
        budget=float(rng.uniform(0.3, 0.8)),
        utility=hasa.utility.measured(table),
    )


def test_interpreted_loops_find_what_compiled_ones_do_to_the_last_bit() -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        n_clients = int(rng.integers(1, 60))
        ties = rng.integers(0, 4, (n_clients, 5)) / 4
        problem = random_problem(seed, n_clients, ties if seed % 2 else None)
        compiled = backend._solve_one(problem, Request(problem))
        problem.learnt.clear()
        with kernels.interpreted(np.inf):
            interpreted = backend._solve_one(problem, Request(problem))
        assert interpreted.choice.tolist() == compiled.choice.tolist()
        assert (interpreted.bound, interpreted.native) == (compiled.bound, compiled.native)
        assert type(interpreted.bound) is type(compiled.bound)


SMALL = """
import sys
import hasa_opt as hasa
problem = hasa.AllocationProblem.build(hasa.Clients(range(20, 120)), widths=[0.2, 0.5, 1.0],
    budget=0.5, utility=hasa.utility.alpha_fair())
for solver in ("exact", "auto"):
    result = hasa.solve(problem, solver)
    assert (result.solver, result.termination, result.claim_held) == ("exact", "optimal", True)
hasa.solve(problem, "exact", threads=2)
assert not {"numba", "scipy"} & set(sys.modules)
"""


def test_a_small_problem_is_solved_without_a_compiler() -> None:
    subprocess.run([sys.executable, "-c", SMALL], check=True)


def test_what_python_takes_too_long_over_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels.Kernel, "wanted", False)
    monkeypatch.setattr(kernels.Kernel, "spent_s", 1.0)
    asked = []
    monkeypatch.setattr(backend, "ready", lambda deadline: asked.append(deadline) is None)
    assert hasa.solve(random_problem(0, 30), "exact").termination == "optimal"
    assert len(asked) == 1


def test_loops_that_cannot_be_stored_run_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object) -> None:
        raise OSError("read-only")

    monkeypatch.setattr(caching._CacheLocator, "ensure_cache_path", refuse)
    monkeypatch.setattr(kernels.Kernel, "stored", True)
    loop = kernels.kernel(_doubled)
    assert loop.compiled(4) == 8
    assert not kernels.Kernel.stored
    backend._say_that_nothing_is_stored.cache_clear()
    large = random_problem(0, 5_000)
    with pytest.warns(UserWarning, match="NUMBA_CACHE_DIR"):
        assert hasa.solve(large, "exact").termination == "optimal"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert hasa.solve(large, "exact").termination == "optimal"


def _doubled(value):  # type: ignore[no-untyped-def]
    return 2 * value


def test_threads_change_nothing_to_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiplier, "_BLOCK", 1000)
    scanned: set[int] = set()
    found = []
    scan = multiplier.scan

    def seen(*arguments: object) -> object:
        scanned.add(get_ident())
        return scan(*arguments)

    monkeypatch.setattr(multiplier, "scan", seen)
    for threads in (1, 3):
        scanned.clear()
        problem = random_problem(0, 8000)
        request = Request(problem, options={"threads": threads})
        answer = backend.ExactBackend().solve(problem, request)
        found.append((answer.objective, answer.bound, *answer.prices, *answer.choice))
        assert (get_ident() in scanned) == (threads == 1)
    assert found[0] == found[1]
