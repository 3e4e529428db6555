"""The certificate of a saved result: what is optimal is proven, and no lie passes."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import many
from support.limited_problems import KINDS, limited_problem, optimum
from test_stored import claim, plain, signed_again

import hasa_opt as hasa
from hasa_opt import Allocation, AllocationProblem, Clients, InfeasibleError, Termination, utility
from hasa_opt.problem import certificate

SMALL_FILE = Path(__file__).parents[2] / "examples" / "verify.py"


def verdict(result: Allocation, folder: Path) -> tuple[bool, str]:
    result.problem.save(folder / "problem")
    result.save(folder / "result")
    return certificate.verify(str(folder / "problem"), str(folder / "result"))


def solved(seed: int) -> Allocation | None:
    """An optimum of a random problem; None if there is no allocation."""
    try:
        problem = limited_problem(KINDS[seed % len(KINDS)], seed)
        return hasa.solve(problem, ("exact", "highs")[seed % 2])
    except InfeasibleError:
        return None


def holding(problem: AllocationProblem, choice: np.ndarray, **claims: Any) -> Allocation:
    """A result of nobody's, at prices of 0 unless others are given."""
    given = {"bound": np.inf, "prices": np.zeros(len(problem.limits))} | claims
    ended = given.pop("termination", Termination.TIME_LIMIT)
    return Allocation(
        problem, "mine", ended, seconds=0.0, held=choice, totals=problem.evaluate(choice), **given
    )


def feasible(problem: AllocationProblem, rng: np.random.Generator) -> np.ndarray | None:
    """A random allocation within the limits; None: none was drawn."""
    for _ in range(200):
        choice = np.where(problem.admissible, rng.random(problem.costs.shape), -1).argmax(axis=1)
        if problem.evaluate(choice).feasible:
            return choice
    return None


def distance(words: str) -> float:
    """How far from the optimum a verdict says that a result is at most."""
    if words == "optimal":
        return 0.0
    found = re.search(r"at most (\S+) from the optimum", words)
    assert found is not None, words
    return float(found[1])


# ------------------------------------------------------------------------------------- proofs


@pytest.mark.fuzz
def test_optima_are_proven(tmp_path: Path) -> None:
    seen = Counter(
        verdict(result, tmp_path) for seed in many(27) if (result := solved(seed)) is not None
    )
    assert seen.pop((True, "optimal")) > 15
    assert not seen


@pytest.mark.slow
def test_a_thousand_clients_under_two_budgets_are_proven(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = np.sort(rng.integers(1, 1000, (1000, 5)), axis=1)
    problem = AllocationProblem.build(
        Clients(rng.integers(20, 2000, 1000)),
        widths=[0.2, 0.4, 0.6, 0.8, 1],
        budget=0.5,
        utility=utility.hasa(rng.random(1000)),
        constraints=[hasa.Budget(table, int(table[:, 2].sum()))],
    )
    assert verdict(hasa.solve(problem, "exact"), tmp_path) == (True, "optimal")


@pytest.mark.fuzz
def test_no_price_makes_a_distance_too_small(tmp_path: Path) -> None:
    """Whatever prices a file states, whatever it holds, the optimum is within the distance."""
    rng, far, close = np.random.default_rng(1), 0, 0
    for seed in many(36):
        problem = limited_problem(KINDS[seed % len(KINDS)], seed)
        best, choice = optimum(problem), feasible(problem, rng)
        if choice is None or best is None:
            continue
        prices = rng.normal(size=len(problem.limits)) * problem.span / problem.limit
        held = holding(problem, choice, prices=prices)
        proven, words = verdict(held, tmp_path)
        missing = best - held.objective
        rounding = 1e-12 * problem.magnitude
        assert proven, words
        assert distance(words) >= missing - rounding, (seed, words, missing)
        far += missing > rounding
        close += distance(words) <= missing + rounding + 1e-2 * abs(missing)
    assert far > 8
    assert close > 8


@pytest.mark.fuzz
def test_few_states_prove_less_and_nothing_false(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificate, "STATES", 3)
    seen = Counter[str]()
    for seed in many(24):
        problem = limited_problem(KINDS[seed % len(KINDS)], seed, n_clients=(8, 12))
        best, choice = optimum(problem), feasible(problem, np.random.default_rng(seed))
        if choice is None or best is None:
            continue
        held = holding(problem, choice, bound=best)
        proven, words = verdict(held, tmp_path)
        assert distance(words) >= best - held.objective - 1e-12 * problem.magnitude
        assert proven == (not words.startswith("unproven: "))
        seen[words.split()[0]] += 1
    assert seen["unproven:"] > 3


def test_a_stated_bound_is_proven_where_the_optimum_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less is left to enumerate where less is stated."""
    rng = np.random.default_rng(3)
    problem = AllocationProblem.build(
        Clients(rng.integers(50, 500, 60)), widths=[0.25, 0.5, 0.75, 1], budget=0.6,
        utility=utility.measured(np.sort(rng.random((60, 4)), axis=1)),
    )  # fmt: skip
    best = hasa.solve(problem, "highs")
    worse = best.choice.copy()
    worse[best.choice.argmax()] -= 1
    short = best.objective - problem.evaluate(worse).objective
    monkeypatch.setattr(certificate, "STATES", 1000)
    for more, known in ((1e-3, True), (0.0, True), (-1e-3, False)):
        held = holding(problem, worse, prices=best.prices, bound=best.objective + more)
        proven, words = verdict(held, tmp_path)
        assert proven == known
        assert short <= distance(words) < 1.01 * short
    unstated = holding(problem, worse, prices=best.prices)
    assert distance(verdict(unstated, tmp_path)[1]) > 1.1 * short


def with_limits(*limits: Any) -> AllocationProblem:
    rng = np.random.default_rng(2)
    return AllocationProblem.build(
        Clients(rng.integers(50, 500, 12)), widths=[0.25, 0.5, 1], budget=0.6,
        utility=utility.measured(np.sort(rng.random((12, 3)), axis=1)), constraints=limits,
    )  # fmt: skip


def test_a_robust_limit_is_checked_and_bounded(tmp_path: Path) -> None:
    problem = with_limits(hasa.Robust(3, 0.2))
    result = hasa.solve(problem, "highs")
    proven, words = verdict(result, tmp_path)
    assert proven == (words == "optimal")
    assert distance(words) < 0.05 * problem.span
    nominal = hasa.solve(with_limits(), "highs").choice
    assert not problem.evaluate(nominal).feasible
    assert verdict(holding(problem, nominal), tmp_path)[1].startswith("false: ")


def test_what_is_not_proven_is_said(tmp_path: Path) -> None:
    fair = hasa.solve(with_limits(hasa.Fairness("maxmin")), "highs")
    assert verdict(fair, tmp_path) == (
        False, "unproven: it keeps every limit; of fairness nothing is proven"
    )  # fmt: skip
    best = hasa.solve(with_limits(), "highs")
    nothing = Allocation(best.problem, "mine", Termination.TIME_LIMIT, np.inf, best.prices, 1.0)
    assert verdict(nothing, tmp_path) == (False, "false: it holds no allocation")
    best.problem.save(tmp_path / "problem")
    for path in (tmp_path / "problem", tmp_path / "none", SMALL_FILE):
        assert certificate.verify(str(tmp_path / "problem"), str(path))[0] is False


# -------------------------------------------------------------------------------------- lies


class NoLieError(Exception):
    """This kind of lie cannot be told of this result."""


def retold(result: Allocation, path: Path, choice: np.ndarray | None = None, **claims: Any) -> None:
    """Save a result with another choice, or other claims, and all checksums right."""
    problem = result.problem

    def change(content: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        told = content["result"]
        if choice is not None:
            arrays[told["choice"]] = choice
            within = np.clip(choice, 0, len(problem.menu) - 1)
            totals = problem.evaluate(within)
            told |= {"objective": totals.objective, "spent": totals.spent}
            told |= {"bound": totals.objective, "termination": "optimal"}
        told.update(claims)

    result.save(path)
    signed_again(path, change, "Allocation")


def over_a_limit(result: Allocation, path: Path, rng: np.random.Generator) -> None:
    problem = result.problem
    for _ in range(100):
        choice = result.choice.copy()
        at = rng.integers(choice.size, size=int(rng.integers(1, choice.size + 1)))
        choice[at] = np.where(
            problem.admissible[at], rng.random(problem.costs[at].shape), -1
        ).argmax(1)
        if not problem.evaluate(choice).feasible:
            return retold(result, path, choice)
    raise NoLieError


def wrong_objective(result: Allocation, path: Path, rng: np.random.Generator) -> None:
    size = float(
        np.abs(result.problem.utilities[np.arange(len(result.choice)), result.choice]).sum()
    )
    off = float(rng.choice([-1, 1])) * (size or 1) * 10 ** rng.uniform(-12, 3)
    retold(
        result, path, objective=result.objective + off, bound=max(result.bound, result.bound + off)
    )


def bound_too_good(result: Allocation, path: Path, rng: np.random.Generator) -> None:
    """A worse allocation that is said to be the best, or nearly."""
    problem = result.problem
    for _ in range(100):
        choice = result.choice.copy()
        at = rng.integers(choice.size, size=int(rng.integers(1, 4)))
        choice[at] = np.where(
            problem.admissible[at], rng.random(problem.costs[at].shape), -1
        ).argmax(1)
        totals = problem.evaluate(choice)
        short = result.objective - totals.objective
        if totals.feasible and short > 1e-9 * problem.magnitude:
            if rng.random() < 0.5:
                return retold(result, path, choice)
            bound = totals.objective + short * rng.random() * 0.99
            return retold(result, path, choice, bound=bound, termination="time limit")
    raise NoLieError


def out_of_the_menu(result: Allocation, path: Path, rng: np.random.Generator) -> None:
    choice = result.choice.copy()
    choice[rng.integers(choice.size)] = rng.choice([-1, len(result.problem.menu), 2**40, -(2**40)])
    retold(result, path, choice)


def forbidden_option(result: Allocation, path: Path, rng: np.random.Generator) -> None:
    clients, options = np.nonzero(~result.problem.admissible)
    if not clients.size:
        raise NoLieError
    at, choice = rng.integers(clients.size), result.choice.copy()
    choice[clients[at]] = options[at]
    retold(result, path, choice)


def another_problem(result: Allocation, path: Path, rng: np.random.Generator) -> None:
    """The result is true, for a problem that is not the one in question."""

    def change(content: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        if rng.random() < 0.5:
            content["problem"]["limit"] += 1
        else:
            arrays["utilities"][0] += 1.0

    result.save(path)
    signed_again(path, change, "Allocation")


LIES = (over_a_limit, wrong_objective, bound_too_good, out_of_the_menu, forbidden_option,
        another_problem)  # fmt: skip


@pytest.mark.fuzz
def test_every_lie_is_found(tmp_path: Path) -> None:
    """1,000 in ``make nightly``."""
    told, seed, wanted = Counter[str](), 0, len(many(50))
    while told.total() < wanted:
        seed += 1
        result, rng = solved(seed), np.random.default_rng(seed)
        if result is None:
            continue
        assert verdict(result, tmp_path) == (True, "optimal")
        for lie in LIES:
            try:
                lie(result, tmp_path / "result", rng)
            except NoLieError:
                continue
            proven, words = certificate.verify(str(tmp_path / "problem"), str(tmp_path / "result"))
            assert not proven, (seed, lie.__name__, words)
            assert words.startswith(("false: ", "unproven: "))
            told[lie.__name__] += 1
    assert len(told) == len(LIES)


def told(name: str, value: Any, path: Path) -> tuple[bool, str]:
    result = plain()
    result.problem.save(path / "problem")
    result.save(path / "result")
    signed_again(path / "result", claim(name, value), "Allocation")
    return certificate.verify(str(path / "problem"), str(path / "result"))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("objective", 0.5, "false: it is worth -"),
        ("objective", "-1.0", "false: these are not both files of save"),
        ("spent", 3, "false: it costs"),
        ("bound", -99.0, "false: it is worth more than it says that any is"),
        ("choice", None, "false: it holds no allocation"),
        ("choice", "utilities", "false: utilities is not what it should be"),
        ("prices", "result/choice", "false: result/choice is not what it should be"),
    ],
)
def test_lies_have_words(tmp_path: Path, name: str, value: Any, words: str) -> None:
    assert told("seconds", 0.5, tmp_path) == (True, "optimal")
    proven, found = told(name, value, tmp_path)
    assert not proven
    assert found.startswith(words), found


# ------------------------------------------------------------------------------ the small file


def test_the_small_file_needs_nothing_but_python() -> None:
    tree = ast.parse(SMALL_FILE.read_text(encoding="utf-8"))
    modules = {
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names] if isinstance(node, ast.Import)
            else [node.module or "."] if isinstance(node, ast.ImportFrom) else []
        )
    }  # fmt: skip
    assert "fractions" in modules
    assert {name.split(".")[0] for name in modules} <= sys.stdlib_module_names


def test_the_small_file_runs_by_itself(tmp_path: Path) -> None:
    result = plain()
    result.problem.save(tmp_path / "problem")
    result.save(tmp_path / "result")
    command = [sys.executable, "-I", "-S", str(SMALL_FILE), "problem", "result"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "optimal\n", "")
    signed_again(tmp_path / "result", claim("spent", 1), "Allocation")
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (1, f"false: it costs {result.spent}\n")
