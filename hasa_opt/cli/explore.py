"""The command ``hasa-opt explore``: a page to play with, of allocations at many budgets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hasa_opt.cli.options import (
    AsJson,
    ClientsFile,
    CostName,
    CoverageShare,
    Delimiter,
    Encoding,
    Fair,
    Full,
    Gap,
    Limits,
    OptionsFile,
    RoomOfColumn,
    SameColumn,
    Score,
    Shares,
    TimeLimit,
    UtilityName,
    UtilityTable,
    WidthsOrNone,
    busy,
    check_output,
    print_json,
    reading,
    say,
    solver_name,
)
from hasa_opt.cli.problems import Asked
from hasa_opt.solving.frontiers import frontier

__all__ = ["explore"]


def explore(
    clients: ClientsFile,
    output: Annotated[Path, typer.Option("-o", "--output", help="HTML to write.")] = Path(
        "explore.html"
    ),
    steps: Annotated[
        int,
        typer.Option(min=2, help="Budgets, from the least with an allocation to the costliest."),
    ] = 300,
    options: OptionsFile = None,
    full: Full = None,
    budget: Shares = None,
    limit: Limits = None,
    widths: WidthsOrNone = None,
    solver: Annotated[str, typer.Option(help="A name that `hasa-opt solvers` lists.")] = "auto",
    utility: UtilityName = "hasa",
    utilities: UtilityTable = None,
    score: Score = "jensen_shannon",
    cost_name: CostName = None,
    coverage: CoverageShare = None,
    same_option: SameColumn = None,
    capacity: RoomOfColumn = None,
    fairness: Fair = None,
    time_limit_s: TimeLimit = None,
    gap: Gap = 0.0,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    as_json: AsJson = False,
) -> None:
    """Write a page to play with: who gets what at each budget, moved through by a slider.

    The first budget is the one that moves, whatever its value; other limits stay as they are.
    """
    asked = Asked(
        clients=clients,
        options=options,
        full=full,
        budget=budget,
        limit=limit,
        widths=widths,
        utility=utility,
        utilities=utilities,
        score=score,
        cost_name=cost_name,
        coverage=coverage,
        same_option=same_option,
        capacity=capacity,
        fairness=fairness,
        reading=reading(encoding, delimiter),
    )
    check_output(output, asked.files)
    problem = asked.problem
    with busy(f"solving {len(problem)} clients at {steps} budgets"):
        found = frontier(problem, steps, solver_name(solver), time_limit_s=time_limit_s, gap=gap)
        page = found.explore(output)
    size = page.stat().st_size
    if as_json:
        print_json({"page": str(page), "bytes": size, "budgets": found.budgets.tolist()})
    else:
        say(f"{page}: {found!r}, {size / 1e6:.2f} MB")
