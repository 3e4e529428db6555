"""Written programs: other solvers read them, as integers, and find our optimum."""

from __future__ import annotations

import csv
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import highspy
import numpy as np
import pulp
import pytest
from support import TIMES, many
from support.limited_problems import KINDS, limited_problem, tolerance
from support.marks import some_nightly

import hasa_opt as hasa
from hasa_opt import AllocationProblem, Clients, InfeasibleError, InputError, utility
from hasa_opt.errors import PrecisionError
from hasa_opt.solvers.bounds.programs import own_threads, silent_highs

ENDINGS = (".mps", ".lp")
_UTILITY = re.compile(r"utility = (\S+) - (\S+) \* objective")


def worth(path: Path, objective: float) -> float:
    found = _UTILITY.search(path.read_text(encoding="ascii"))
    assert found is not None
    return float(found[1]) - float(found[2]) * objective


def by_highs(path: Path) -> tuple[float, dict[str, float]]:
    """Utility and values of the optimum."""
    solver = silent_highs()
    solver.setOptionValue("output_flag", False)
    assert solver.readModel(str(path)) == highspy.HighsStatus.kOk
    solver.setOptionValue("mip_rel_gap", 0.0)  # the absolute one is 1e-6
    with own_threads():
        solver.run()
    assert solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
    names = [solver.getColName(at)[1] for at in range(solver.getNumCol())]
    values = np.array(solver.getSolution().col_value)
    return worth(path, solver.getObjectiveValue()), dict(zip(names, values, strict=True))


def by_cbc(path: Path) -> tuple[float, dict[str, float]]:
    bundled = getattr(pulp, "PULP_CBC_CMD", None)
    program = shutil.which("cbc") if bundled is None else bundled.pulp_cbc_path
    if program is None:
        pytest.skip("there is no CBC")
    out = path.with_suffix(".txt")
    command = [program, str(path), "preprocess", "off", "ratio", "0", "allow", "0", "solve",
               "solution", str(out)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    head, *lines = out.read_text().splitlines()
    assert head.startswith("Optimal"), head
    values = {line.split()[1]: float(line.split()[2]) for line in lines}
    return worth(path, float(head.split()[-1])), values


def by_scip(path: Path) -> tuple[float, dict[str, float]]:
    scip = pytest.importorskip("pyscipopt")
    model = scip.Model()
    model.hideOutput()
    model.readProblem(str(path))
    model.setParam("limits/gap", 0.0)
    model.optimize()
    assert model.getStatus() == "optimal"
    values = {column.name: model.getVal(column) for column in model.getVars()}
    return worth(path, model.getObjVal()), values


def choice_of(problem: AllocationProblem, values: dict[str, float]) -> np.ndarray:
    """The allocation that names of columns spell; who has no column takes the one option left."""
    chosen = np.where(problem.admissible, problem.utilities, -np.inf).argmax(axis=1)
    for name, value in values.items():
        found = re.match(r"x_(\d+)_(\d+)", name)
        if found and value > 0.5:
            chosen[int(found[1])] = int(found[2])
    return chosen


def check(problem: AllocationProblem, path: Path, read: Any) -> None:
    best = hasa.solve(problem, "highs")
    problem.write(path)
    objective, values = read(path)
    totals = problem.evaluate(choice_of(problem, values))
    assert totals.feasible, totals.violations
    assert abs(totals.objective - best.objective) <= 10 * tolerance(problem)
    assert abs(objective - best.objective) <= 10 * tolerance(problem)


def hard(**changes: Any) -> AllocationProblem:
    """A knapsack of which the relaxation is no allocation; names that no format takes."""
    rng = np.random.default_rng(0)
    names = ["phone A", "e1: \u00fc", "-x", "3 + 4", "x" * 300, *map(str, range(25))]
    settings = {
        "widths": [0.25, 0.5, 1],
        "budget": 0.6,
        "utility": utility.measured(rng.random((30, 3))),
    } | changes
    return AllocationProblem.build(Clients(rng.integers(50, 500, 30), names=names), **settings)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("read", [by_highs, by_cbc, by_scip], ids=lambda read: read.__name__)
def test_solvers_read_integers_and_find_the_optimum(tmp_path: Path, ending: str, read: Any) -> None:
    limits = [hasa.Coverage({0.5: 0.4}), hasa.Quota({1.0: 9}), hasa.Budget([3, 1, 7], 101)]
    for problem in (hard(), hard(constraints=limits), hard(constraints=[hasa.Robust(3, 0.2)])):
        check(problem, tmp_path / f"model{ending}", read)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    "read", some_nightly([by_highs, by_cbc, by_scip], [by_cbc]), ids=lambda read: read.__name__
)
def test_a_thousand_columns_are_read_as_integers(tmp_path: Path, ending: str, read: Any) -> None:
    rng = np.random.default_rng(3)
    problem = AllocationProblem.build(
        Clients(rng.integers(50, 500, 250)), widths=[0.25, 0.5, 0.75, 1], budget=0.6,
        utility=utility.measured(rng.random((250, 4))),
        constraints=[hasa.Budget([3, 1, 7, 2], 707)],
    )  # fmt: skip
    check(problem, tmp_path / f"model{ending}", read)


@pytest.mark.fuzz
def test_random_programs_read_back(tmp_path: Path) -> None:
    seen = 0
    for seed in many(24):
        try:
            problem = limited_problem(KINDS[seed % len(KINDS)], seed)
            hasa.solve(problem, "highs")
        except InfeasibleError:
            continue
        check(problem, tmp_path / f"model{ENDINGS[seed % 2]}", by_highs)
        seen += 1
    assert seen > 12 * TIMES


@pytest.mark.parametrize("ending", ENDINGS)
def test_large_numbers_are_written_in_digits(tmp_path: Path, ending: str) -> None:
    rng = np.random.default_rng(1)
    costs = rng.integers(1, 2**50, (8, 3))
    problem = AllocationProblem.build(
        Clients(np.ones(8, dtype=int)), widths=[0.25, 0.5, 1], budget=0.55,
        utility=utility.measured(rng.random((8, 3))),
        cost=hasa.cost.table(costs, full=int(costs.max(axis=1).sum())),
    )  # fmt: skip
    path = tmp_path / f"model{ending}"
    check(problem, path, by_highs)
    assert "limit_0_1" in path.read_text()
    numbers = re.findall(r"(?<![\w.])\d{12,}(?![\w.])", path.read_text())
    assert not numbers


def test_names_are_plain_and_a_table_beside_says_whose_they_are(tmp_path: Path) -> None:
    path, problem = tmp_path / "model.v2.lp", hard(constraints=[hasa.Quota({1.0: 9})])
    problem.write(path)
    names = re.findall(r"x_\d\w*", path.read_text(encoding="ascii"))
    assert {*names} == {f"x_{i}_{k}" for i in range(30) for k in range(3)}
    with (tmp_path / "model.v2.names.csv").open(encoding="utf-8", newline="") as file:
        table = {line["part"]: line["name"] for line in csv.DictReader(file)}
    clients, options = [*problem.clients.all_names], [*problem.menu.names]
    limits = [row.label for row in problem.limits]
    for part, called in (("client", clients), ("option", options), ("limit", limits)):
        assert [table.pop(f"{part}_{at}") for at in range(len(called))] == called
    assert not table


@pytest.mark.parametrize("size", [1e-300, 1e-9, 1.0, 3e12])
def test_no_utility_is_rounded(tmp_path: Path, size: float) -> None:
    """Losses in a unit that is a power of two: each is what it was, to the bit."""
    worth = np.random.default_rng(4).random((30, 3)) * size
    problem, path = hard(utility=utility.measured(worth)), tmp_path / "model.mps"
    problem.write(path)
    found = _UTILITY.search(path.read_text(encoding="ascii"))
    assert found is not None
    unit = float(found[2])
    assert math.frexp(unit)[0] == 0.5
    lines = re.findall(r"x_(\d+)_(\d+) loss (\S+)", path.read_text(encoding="ascii"))
    assert len(lines) == 90
    for client, option, loss in lines:
        own = problem.utilities[int(client)]
        assert float(loss) * unit == own.max() - own[int(option)]
    assert 500 < max(float(loss) for *_, loss in lines) <= 1000


def test_what_no_file_states_is_refused(tmp_path: Path) -> None:
    for name, words in (("model.txt", "'.txt': give a name in .mps or .lp"), ("model", "nothing")):
        with pytest.raises(InputError, match=words):
            hard().write(tmp_path / name)
    with pytest.raises(InputError, match=r"Fairness\(maxmin\) is met in several solves"):
        hard(constraints=[hasa.Fairness("maxmin")]).write(tmp_path / "model.lp")
    huge = np.full((30, 3), 2**52)
    table = hasa.cost.table(huge, full=2**57)
    with pytest.raises(PrecisionError, match=r"from 2\*\*53 on floats skip"):
        hard(cost=table, budget=1.0, constraints=[hasa.Robust(1, 0.1)]).write(tmp_path / "model.lp")
    assert not list(tmp_path.iterdir())
