"""The command ``hasa-opt explain``: why one client has its width, or its option."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from hasa_opt.cli.options import (
    AsJson,
    ClientsFile,
    CostName,
    CoverageShare,
    Delimiter,
    Encoding,
    Full,
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
    print_json,
    printing,
    reading,
    solver_name,
)
from hasa_opt.cli.problems import Asked
from hasa_opt.solving.explanation import Explanation
from hasa_opt.solving.explanation import explain as explained
from hasa_opt.solving.solver import solve

__all__ = ["explain"]


def explain(
    clients: ClientsFile,
    client: Annotated[str, typer.Option(help="Name of the client.")],
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
    time_limit_s: TimeLimit = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    as_json: AsJson = False,
) -> None:
    """Say why a client has its width, or its option, and what would give it the next better."""
    problem = Asked(
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
        fairness=None,
        reading=reading(encoding, delimiter),
    ).problem
    name = solver_name(solver)
    with busy(f"explaining {client!r} in {problem!r}"):
        result = solve(problem, name, time_limit_s=time_limit_s)
        found = explained(result, client, solver=name, time_limit_s=time_limit_s)
    if as_json:
        print_json(_record(found))
    else:
        printing().print(found, soft_wrap=True)


def _record(found: Explanation) -> dict[str, Any]:
    menu, forced = found.result.problem.menu, found.forced
    return {
        "client": found.client,
        "option": found.option,
        "next": None if found.then is None else menu.names[found.then],
        "gain": found.gain,
        "ruled_out": found.ruled_out,
        "obstacles": [asdict(obstacle) for obstacle in found.obstacles],
        "others_lose": None if forced is None else found.loss,
        "others_change": found.changes,
        "flips": [asdict(flip) for flip in found.flips],
        "searched": found.searched,
    }
