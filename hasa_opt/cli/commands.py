"""The command ``hasa-opt``: score, allocate, compare, headroom, study, flower.

Exit codes: 0 success, 1 infeasible or failed, 2 bad input.
"""

from __future__ import annotations

import csv
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from hasa_opt._utils.checks import FloatArray
from hasa_opt._utils.files import file_target, writing
from hasa_opt._utils.native import own_stdout
from hasa_opt.cli.headroom import headroom
from hasa_opt.cli.options import (
    MENU,
    AsJson,
    Budget,
    ClientsFile,
    CostName,
    CoverageShare,
    Fair,
    Gap,
    Score,
    TimeLimit,
    Widths,
    busy,
    print_json,
    solving,
    split_numbers,
)
from hasa_opt.cli.study import flower, study
from hasa_opt.clients.clients import Clients
from hasa_opt.clients.counts import Counts
from hasa_opt.errors import (
    HasaError,
    InfeasibleError,
    InputError,
    MissingExtraError,
    NoSolutionError,
    SolverNotInstalledError,
    StorageError,
)
from hasa_opt.problem import cost, utility
from hasa_opt.problem.choices import Coverage
from hasa_opt.problem.limits import Constraint, Fairness
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Allocation
from hasa_opt.rules.paper import PaperRule, paper_rule
from hasa_opt.rules.scores import SCORES, explained_by_size
from hasa_opt.solvers import registry
from hasa_opt.solving.comparison import compare as compare_solvers
from hasa_opt.solving.solver import solve

__all__ = ["app", "main"]

app = typer.Typer(
    help="Decide which subnet width each federated client trains, and measure what it is worth.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    suggest_commands=False,  # click does so by itself
)
_MUCH = 0.5
"""Share of a ranking that sample size explains, above which the user is warned: the larger half."""
_FAILURES = (
    InfeasibleError,
    MissingExtraError,
    NoSolutionError,
    SolverNotInstalledError,
    StorageError,
)


def main() -> None:
    """Run the command line; a user's mistake gives one line on stderr, never a traceback."""
    errors = Console(stderr=True, soft_wrap=True, highlight=False)

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        errors.print(f"[bold yellow]warning:[/] {escape(str(message))}")

    try:
        with own_stdout(), warnings.catch_warnings():
            warnings.showwarning = show
            app()
    except _FAILURES as error:
        errors.print(f"[bold red]failed:[/] {escape(str(error))}")
        sys.exit(1)
    except HasaError as error:
        errors.print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(2)
    except OSError as error:
        errors.print(f"[bold red]failed:[/] {escape(str(error))}")
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("interrupted; a study goes on where it was if the same command is given again")
        sys.exit(130)


@app.command()
def solvers(as_json: AsJson = False) -> None:
    """List the solvers: what each is for, whether it is installed, how to install it."""
    known = registry.solvers()
    if not as_json:
        Console().print(known)
        return
    print_json(
        [
            {
                "name": record.name,
                "available": record.available,
                "capabilities": [flag.name for flag in record.capabilities],
                "constraints": record.taken(),
                "constraints_alone": record.taken("alone"),
                "install": record.install,
                "summary": record.summary,
            }
            for record in known
        ]
    )


@app.command()
def score(clients: ClientsFile, score: Score = "jensen_shannon", as_json: AsJson = False) -> None:
    """Score how heterogeneous each client's training data is, and how surely.

    The excess is what is beyond chance at this sample size, in units of its spread.
    """
    read = Clients.read_csv(clients)
    chosen = _scores(read, score, clients)
    counts = _counts(read, clients)
    beyond, share = SCORES["excess"](counts), explained_by_size(chosen, counts.sum(axis=1))
    if as_json:
        print_json(
            [
                {
                    "name": read.name(row),
                    "samples": int(read.samples[row]),
                    "excess": float(beyond[row]),
                    score: float(chosen[row]),
                    "explained_by_size": share,
                }
                for row in range(len(read))
            ]
        )
    else:
        columns = {score: lambda row: f"{chosen[row]:.6f}"}
        columns["excess"] = lambda row: f"{beyond[row]:.2f}"
        Console().print(read.table(columns))
    if share > _MUCH and len(read) > 2:
        _warn_of_size(score, share)


@app.command()
def allocate(
    clients: ClientsFile,
    budget: Budget = 0.5,
    widths: Widths = MENU,
    solver: Annotated[str, typer.Option(help="A name that `hasa-opt solvers` lists.")] = "auto",
    score: Score = "jensen_shannon",
    cost_name: CostName = "width",
    coverage: CoverageShare = None,
    fairness: Fair = None,
    time_limit_s: TimeLimit = None,
    gap: Gap = 0.0,
    fallback: Annotated[str | None, typer.Option(help="Solver to try if the first fails.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="CSV to write.")] = None,
    as_json: AsJson = False,
) -> None:
    """Give each client a width within the budget."""
    limits = _limits(coverage, fairness)
    scores, problem = _problem(clients, budget, widths, score, cost_name, limits)
    _check_writable(output, clients)
    with solving(f"solving {problem!r}") as on_progress:
        result = solve(
            problem,
            solver,
            time_limit_s=time_limit_s,
            gap=gap,
            fallback=fallback,
            on_progress=on_progress,
        )
    chosen = result.widths
    if output is not None:
        _write_widths(output, problem.clients, chosen)
    if as_json:
        print_json(_allocation_record(problem.clients, result))
        return
    rule = _rule(problem, scores) if cost_name == "width" else None
    console = Console()
    console.print(result.table({"HASA rule": rule.widths} if rule else {}))
    for line in (result.summary, str(rule or result.message)):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


@app.command()
def compare(
    clients: ClientsFile,
    solver: Annotated[
        list[str] | None, typer.Option(help="Repeat for several; default: all installed.")
    ] = None,
    budget: Budget = 0.5,
    widths: Widths = MENU,
    score: Score = "jensen_shannon",
    cost_name: CostName = "width",
    coverage: CoverageShare = None,
    fairness: Fair = None,
    time_limit_s: TimeLimit = 60.0,
    gap: Gap = 0.0,
    as_json: AsJson = False,
) -> None:
    """Run several solvers on one problem and verify each of them."""
    _, problem = _problem(clients, budget, widths, score, cost_name, _limits(coverage, fairness))
    with busy(f"comparing solvers on {problem!r}"):
        table = compare_solvers(problem, solver, time_limit_s=time_limit_s, gap=gap)
    if as_json:
        print_json({"verdict": table.verdict, "rows": table.records()})
    else:
        Console().print(table)


app.command()(headroom)
app.command()(study)
app.add_typer(flower, name="flower")


def _problem(
    path: Path, budget: float, widths: str, score: str, cost_name: str, limits: list[Constraint]
) -> tuple[FloatArray, AllocationProblem]:
    """The scores of the clients, and the problem that they make."""
    priced = cost.named(cost_name)
    clients = Clients.read_csv(path)
    scores = _scores(clients, score, path)
    problem = AllocationProblem.build(
        clients,
        widths=split_numbers(widths, "--widths"),
        budget=budget,
        utility=utility.hasa(scores),
        cost=priced,
        constraints=limits,
    )
    return scores, problem


def _limits(coverage: list[str] | None, fairness: str | None) -> list[Constraint]:
    shares: dict[float, float] = {}
    for text in coverage or ():
        width, share = _pair(text)
        if width in shares:
            raise InputError(f"--coverage names width {width:g} twice: leave one out")
        shares[width] = share
    limits: list[Constraint] = [Coverage(shares)] if shares else []
    return limits if fairness is None else [*limits, Fairness(fairness)]


def _scores(clients: Clients, name: str, path: Path) -> FloatArray:
    if name not in SCORES:
        raise InputError(f"--score {name!r} is not known: choose from {', '.join(SCORES)}")
    return SCORES[name](_counts(clients, path))


def _counts(clients: Clients, path: Path) -> Counts:
    if clients.counts is None:
        raise InputError(
            f"{path} has no label counts to score: add columns count:LABEL, or name, label, count"
        )
    return clients.counts


def _warn_of_size(score: str, share: float) -> None:
    reason = "chance makes small samples look different"
    remedy = "--score debiased ranks by how much a client differs beyond chance at its size"
    if score == "excess":
        reason = "a larger sample makes the same difference surer"
    else:
        remedy = f"--score excess ranks by how surely a client differs, {remedy}"
    Console(stderr=True, soft_wrap=True, highlight=False).print(
        f"[bold yellow]warning:[/] sample size explains {share:.0%} of the ranking by {score} "
        f"(squared rank correlation); {reason}: {remedy}"
    )


def _rule(problem: AllocationProblem, scores: FloatArray) -> PaperRule:
    """The paper's rule between the ends of the menu, under the same budget and caps."""
    clients, widths = problem.clients, (float(problem.widths[0]), float(problem.widths[-1]))
    return paper_rule(
        scores, clients.samples, budget=problem.share, widths=widths, caps=clients.caps(widths[1])
    )


def _pair(text: str) -> tuple[float, float]:
    try:
        width, share = (float(part) for part in text.split("="))
    except ValueError as error:
        raise InputError(f"--coverage {text!r}: give WIDTH=SHARE, for example 0.8=0.1") from error
    return width, share


def _check_writable(path: Path | None, source: Path) -> None:
    if path is None:
        return
    if file_target(path).resolve() == source.resolve():
        raise InputError(f"{path} is the input: give another name, so that nothing is lost")


def _write_widths(path: Path, clients: Clients, widths: FloatArray) -> None:
    with writing(path) as file:
        out = csv.writer(file)
        out.writerow(["name", "samples", "width"])
        for row, width in enumerate(widths.tolist()):
            out.writerow([clients.name(row), int(clients.samples[row]), width])


def _allocation_record(clients: Clients, result: Allocation) -> dict[str, Any]:
    return {
        "solver": result.solver,
        "termination": str(result.termination),
        "incumbent_from": result.incumbent_from,
        "objective": result.objective,
        "bound": result.bound,
        "gap": result.gap,
        "spent": result.spent,
        "limit": result.problem.limit,
        "spent_share": result.spent_share,
        "price": result.price,
        "seconds": result.seconds,
        "widths": {clients.name(row): width for row, width in enumerate(result.widths.tolist())},
    }
