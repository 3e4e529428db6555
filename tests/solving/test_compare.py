"""One table, one verdict."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

import hasa_opt as hasa
from hasa_opt import Coverage, Quota, compare
from hasa_opt.errors import InfeasibleError, InputError, UnknownSolverError
from hasa_opt.problem.result import Termination
from hasa_opt.solvers import base, registry
from hasa_opt.solvers.base import Answer, Request
from hasa_opt.solvers.registry import SolverRecord
from hasa_opt.testing import catalogue, problems


def trap(**more) -> hasa.AllocationProblem:
    return problems.knapsack([(6, 7), (5, 5), (5, 5)], 10, **more)


def rendered(comparison: hasa.Comparison) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(comparison)
    return " ".join(console.export_text().split())


def test_all_installed_backends_by_default():
    heard = []
    comparison = compare(trap(), on_solver=heard.append)
    names = [row.solver for row in comparison.rows]
    assert names == heard == [line.name for line in registry.solvers() if line.available]
    rows = {row.solver: row for row in comparison.rows}
    for name in ("highs", "pulp", "cvxpy"):
        assert rows[name].termination == "optimal"
        assert rows[name].objective == rows[name].bound == pytest.approx(10)
        assert rows[name].gap == 0
    assert rows["greedy"].termination == "gap reached"
    assert rows["greedy"].gap == pytest.approx(11 / 7 - 1)
    assert rows.pop("flow").termination == "not run"  # the budget may bind
    assert all(row.claim_held and row.cpu_seconds >= 0 for row in rows.values())
    proven = ", ".join(name for name in names if name not in ("greedy", "flow"))
    assert comparison.verdict == f"{proven} agree on the optimum 10"


def test_the_cpu_seconds_of_child_processes_count(liar):
    def script(problem, request):
        code = "import time\nwhile time.process_time() < 0.2: pass"
        subprocess.run([sys.executable, "-S", "-c", code], check=True)
        return Answer(Termination.FAILED)

    assert compare(trap(), [liar(script)]).rows[0].cpu_seconds >= 0.15


def test_records_are_json():
    comparison = compare(trap(constraints=[Quota({1.0: 3})]), time_limit_s=5)
    text = json.dumps(comparison.records(), allow_nan=False)
    back = json.loads(text)
    assert [row["solver"] for row in back] == [row.solver for row in comparison.rows]
    refused = next(row for row in back if row["solver"] == "greedy")
    assert refused["termination"] == "not run"
    assert refused["objective"] is refused["claim_held"] is refused["gap"] is None
    assert "Quota" in refused["message"]


def test_what_a_solver_found_itself_stands_beside_what_is_known(liar):
    name = liar(lambda problem, request: Answer(Termination.TIME_LIMIT))
    comparison = compare(trap(), [name, "highs"])
    idle, other = comparison.rows
    assert (idle.objective, idle.own_objective, idle.incumbent_from) == (7, None, "greedy")
    assert (other.objective, other.own_objective, other.incumbent_from) == (10, 10, "highs")
    assert "own" in str(comparison)
    assert "found by" in str(comparison)


def test_records_without_a_solution_are_json_too(liar, monkeypatch):
    name = liar(lambda problem, request: Answer(Termination.TIME_LIMIT))
    monkeypatch.setattr(Request, "known", None)
    comparison = compare(trap(), [name])
    json.dumps(comparison.records(), allow_nan=False)
    assert comparison.rows[0].objective is None
    assert comparison.rows[0].gap is None
    assert comparison.verdict == "no solver found an allocation"


def test_an_absent_solver_has_a_row_that_says_how_to_install_it():
    line = SolverRecord("absent", "x:Y", "", requires=("no_such_module",), install="pip install z")
    registry.register(line)
    try:
        assert "absent" not in {row.solver for row in compare(trap()).rows}
        comparison = compare(trap(), ["absent", "highs"])
    finally:
        registry.unregister("absent")
    assert comparison.rows[0].termination == "not run"
    assert "pip install z" in comparison.rows[0].message
    assert "pip install z" in rendered(comparison)
    assert comparison.verdict == "highs proves the optimum 10"


def test_the_table_shows_rows_verdict_and_notes():
    text = rendered(compare(trap(constraints=[Coverage({1.0: 0.1})])))
    for words in (
        "solver",
        "CPU s",
        "greedy",
        "not run",
        "optimal",
        "held",
        "agree on the optimum",
    ):
        assert words in text
    assert "does not support the constraint Coverage" in text


def test_false_claims_are_named(liar):
    name = liar(lambda problem, request: Answer(Termination.OPTIMAL, np.array([0, 0, 0]), 0.0, 0.0))
    comparison = compare(trap(), [name, "highs"])
    assert comparison.rows[0].claim_held is False
    assert comparison.verdict == "highs proves the optimum 10; claims disproved: liar"
    assert "FALSE" in rendered(comparison)


def test_a_false_proof_is_named_in_the_verdict(liar):
    name = liar(lambda problem, request: Answer(Termination.OPTIMAL, np.array([1, 0, 0]), 7.0, 7.0))
    comparison = compare(trap(), [name, "highs"])
    assert comparison.verdict == "highs proves the optimum 10; claims disproved: liar"


def test_a_false_proof_beyond_the_audit_shows_as_a_disagreement(liar, monkeypatch):
    monkeypatch.setattr("hasa_opt.solving.verdict.better_exists", lambda *_: None)
    monkeypatch.setattr(base, "repaired", lambda *_: None)
    name = liar(lambda problem, request: Answer(Termination.OPTIMAL, np.array([1, 0, 0]), 7.0, 7.0))
    registry.register(replace(registry.find_solver(name), constraints=(Quota,)))
    widest = trap().widths[-1]
    comparison = compare(trap(constraints=[hasa.Quota({widest: 3})]), [name, "highs"])
    assert comparison.verdict == "the proven optima DISAGREE: 7 and 10 (liar, highs)"


def test_a_false_proof_beaten_by_a_mere_allocation_is_a_disagreement_too(liar):
    # Optimum 55 is found by greedy, which cannot prove it; the liar says that 50 is best.
    problem = problems.knapsack([(5, 50), (6, 12), (5, 5)], 10)
    name = liar(
        lambda problem, request: Answer(Termination.OPTIMAL, np.array([1, 0, 0]), 50.0, 50.0)
    )
    verdict = compare(problem, [name, "greedy"]).verdict
    assert "DISAGREE" in verdict or "disproved: liar" in verdict


def test_without_a_proof_the_gap_is_told():
    comparison = compare(trap(), ["greedy"])
    assert comparison.verdict == "no optimum is proven, the best allocation is within 0.57 of it"


def test_auto_is_shown_under_the_name_that_it_stands_for():
    assert compare(trap(), ["auto"]).rows[0].solver == "exact"


def test_errors():
    with pytest.raises(UnknownSolverError):
        compare(trap(), ["highs", "nobody"])
    with pytest.raises(InputError):
        compare(trap(), ["highs"], gap=3)
    with pytest.raises(InfeasibleError):
        compare(catalogue.INFEASIBLE[0].build())


def test_a_crash_is_one_row_of_the_table(liar):
    def script(problem, request):
        raise RuntimeError("boom")

    comparison = compare(trap(), [liar(script), "highs"])
    assert "boom" in comparison.rows[0].message
    assert comparison.rows[1].objective == 10


# --- Partitions ---------------------------------------------------------------------------------

SIMILARITY = np.array([[0, 2, 2, -1], [2, 0, -3, -1], [2, -3, 0, -1], [-1, -1, -1, 0]])
"""Best: one pair of the first three, worth 2."""


def test_all_backends_that_solve_partitions_by_default():
    heard = []
    comparison = compare(hasa.PartitionProblem.of(SIMILARITY), on_solver=heard.append)
    names = [row.solver for row in comparison.rows]
    able = {"greedy", "highs", "cpsat", "scip", "pulp", "cvxpy"}
    known = [line.name for line in registry.solvers() if line.available and line.name in able]
    assert names == heard == known
    for row in comparison.rows:
        assert (row.objective, row.bound, row.gap, row.claim_held) == (2, 2, 0, True)
        assert (row.own_objective, row.poorest) == (2, None)
    assert comparison.verdict == f"{', '.join(known)} agree on the optimum 2"
    assert json.loads(json.dumps(comparison.records(), allow_nan=False))


def test_the_problem_of_a_partition_is_compared_with_its_limits():
    found = hasa.partition(SIMILARITY, max_size=1)
    comparison = compare(found.problem, ["greedy", "flow"])
    assert comparison.rows[0].objective == 0
    assert comparison.rows[1].termination == "not run"
    assert "'flow' does not solve partitions" in comparison.rows[1].message


def test_lies_about_a_partition_are_told():
    class Liar:
        def solve(self, problem, request):
            return Answer(Termination.OPTIMAL, np.zeros(6, dtype=int), 0.0, 0.0, "liar: done")

    record = SolverRecord("liar", Liar, "lies", capabilities=registry.Capability.PARTITION)
    registry.register(record)
    try:
        comparison = compare(hasa.PartitionProblem.of(SIMILARITY), ["liar"])
    finally:
        registry.unregister("liar")
    (row,) = comparison.rows
    assert (row.claim_held, row.own_objective, row.incumbent_from) == (False, 0, "greedy")
    assert row.objective == 2
    assert comparison.verdict.endswith("claims disproved: liar")
    assert "found by" in str(comparison)


def test_where_no_partition_is_proven_the_best_is_named():
    rng = np.random.default_rng(0)
    upper = np.triu(rng.normal(size=(40, 40)), 1)
    problem = hasa.PartitionProblem.of(upper + upper.T)
    verdict = compare(problem, "greedy", time_limit_s=0.2).verdict
    assert verdict.startswith("no optimum is proven, the best partition is within ")


def test_what_is_no_problem_is_refused():
    with pytest.raises(InputError, match="problem is a ndarray"):
        compare(SIMILARITY)
