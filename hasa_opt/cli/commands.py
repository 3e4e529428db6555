"""The command ``hasa-opt``: which commands there are, and those on allocations.

Exit codes: 0 success, 1 infeasible or failed, 2 bad input.
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib.metadata import version
from typing import Annotated, Any, NoReturn

import click
import typer
from rich.markup import escape

from hasa_opt._utils.column_files import write_columns
from hasa_opt._utils.native import own_stdout
from hasa_opt.cli.explain import explain
from hasa_opt.cli.explore import explore
from hasa_opt.cli.headroom import headroom
from hasa_opt.cli.options import (
    AsJson,
    ChangesFile,
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
    Output,
    Previous,
    RoomOfColumn,
    SameColumn,
    Score,
    Shares,
    TimeLimit,
    UtilityName,
    UtilityTable,
    WidthsOrNone,
    as_options,
    busy,
    check_output,
    clients_of,
    earlier,
    print_json,
    printing,
    reading,
    say,
    show,
    solver_name,
    solver_names,
    solving,
)
from hasa_opt.cli.partition import partition
from hasa_opt.cli.problems import Asked, counts_of, scores_of
from hasa_opt.cli.records import columns_of, limits_told, record_of, rule_beside
from hasa_opt.cli.sample import sample
from hasa_opt.cli.study import flower, study
from hasa_opt.cli.verify import verify
from hasa_opt.errors import (
    HasaError,
    InfeasibleError,
    InputError,
    MissingExtraError,
    NoSolutionError,
    SolverNotInstalledError,
    StorageError,
)
from hasa_opt.rules.scores import SCORES, explained_by_size
from hasa_opt.solvers import registry
from hasa_opt.solving.comparison import compare as compare_solvers
from hasa_opt.solving.solver import solve
from hasa_opt.solving.turnover import changes as changes_since

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    suggest_commands=False,  # click does so by itself
    context_settings={"help_option_names": ["-h", "--help"]},
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
    """Run the command line; a user's mistake gives one line on stderr, never a traceback.

    With ``--json`` a failure is also printed as JSON, on standard output.
    """
    as_json = "--json" in sys.argv

    def tell(message: Warning | str, *_: Any, **__: Any) -> None:
        _notice("[bold yellow]warning:[/]", message)

    try:
        with own_stdout(), warnings.catch_warnings():
            warnings.showwarning = tell
            sys.exit(app(standalone_mode=not as_json) or 0)
    except (*_FAILURES, OSError) as error:
        _notice("[bold red]failed:[/]", error)
        _end(1, error, as_json)
    except HasaError as error:
        _notice("[bold red]error:[/]", error)
        _end(2, error, as_json)
    except click.ClickException as error:
        _notice("[bold red]error:[/]", error.format_message())
        _end(error.exit_code, error, as_json)
    except KeyboardInterrupt as error:
        goes_on = "interrupted; a study goes on where it was if the same command is given again"
        say(goes_on, stderr=True)
        _end(130, error, as_json)


def _notice(kind: str, message: object) -> None:
    """One line on standard error."""
    words = f"{kind} {escape(as_options(message))}"
    printing(stderr=True).print(words, soft_wrap=True)


def _end(code: int, error: BaseException, as_json: bool) -> NoReturn:
    """Leave with an exit code, and with what went wrong where JSON is wanted."""
    if as_json:
        message = error.format_message() if isinstance(error, click.ClickException) else error
        try:
            told: dict[str, Any] = {"kind": type(error).__name__, "message": as_options(message)}
            if isinstance(error, InfeasibleError) and error.limits:
                told["limits"] = error.limits
            print_json({"error": told})
            sys.stdout.flush()
        except OSError:  # of standard output itself, which the exit would flush once more
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"hasa-opt {version('hasa_opt')}")
        raise typer.Exit


@app.callback()
def options_of_all(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Decide which subnet width each federated client trains, and measure what it is worth."""


@app.command()
def solvers(as_json: AsJson = False) -> None:
    """List the solvers: what each is for, whether it is installed, how to install it."""
    known = registry.solvers()
    if not as_json:
        show(known)
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
def score(
    clients: ClientsFile,
    score: Score = "jensen_shannon",
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    as_json: AsJson = False,
) -> None:
    """Score how heterogeneous each client's training data is, and how surely.

    The excess is what is beyond chance at this sample size, in units of its spread.
    """
    read = clients_of(clients, reading(encoding, delimiter))
    chosen, counts = scores_of(read, score, clients), counts_of(read, clients)
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
        show(read.table(columns))
    if share > _MUCH and len(read) > 2:
        _warn_of_size(score, share)


@app.command()
def allocate(
    clients: ClientsFile,
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
    fallback: Annotated[
        str | None, typer.Option(help="Solver to try if the first fails; several by commas.")
    ] = None,
    output: Output = None,
    previous: Previous = None,
    changes: ChangesFile = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    as_json: AsJson = False,
) -> None:
    """Give each client a width, or an option, within the budget."""
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
    before = earlier(previous, changes, asked.reading)
    problem = asked.problem
    for path in (output, changes):
        check_output(path, [*asked.files, *([] if previous is None else [previous])])
    if output is not None and changes is not None and output.resolve() == changes.resolve():
        raise InputError(f"--output and --changes are both {output}: give two files")
    with solving(f"solving {problem!r}") as on_progress:
        result = solve(
            problem,
            solver_name(solver),
            time_limit_s=time_limit_s,
            gap=gap,
            fallback=None if fallback is None else solver_names(fallback),
            on_progress=on_progress,
        )
    columns = columns_of(result, everything=options is not None)
    since = None if before is None else changes_since(result, before)
    if output is not None:
        write_columns(output, columns)
    if since is not None and changes is not None:
        since.write(changes)
    if as_json:
        print_json(
            record_of(result, columns) | ({} if since is None else {"changes": since.summary})
        )
        return
    rule = rule_beside(problem, asked.scores) if asked.is_paper and since is None else None
    show(result.table({"HASA rule": rule.widths} if rule else {}))
    news = [] if since is None else [f"since {previous}: {since.summary}"]
    for line in (result.summary, *limits_told(result), str(rule or result.message), *news):
        say(line)


@app.command()
def compare(
    clients: ClientsFile,
    solver: Annotated[
        list[str] | None, typer.Option(help="One or several, by commas; default: all installed.")
    ] = None,
    options: OptionsFile = None,
    full: Full = None,
    budget: Shares = None,
    limit: Limits = None,
    widths: WidthsOrNone = None,
    utility: UtilityName = "hasa",
    utilities: UtilityTable = None,
    score: Score = "jensen_shannon",
    cost_name: CostName = None,
    coverage: CoverageShare = None,
    same_option: SameColumn = None,
    capacity: RoomOfColumn = None,
    fairness: Fair = None,
    time_limit_s: TimeLimit = 60.0,
    gap: Gap = 0.0,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    as_json: AsJson = False,
) -> None:
    """Run several solvers on one problem and verify each of them."""
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
        fairness=fairness,
        reading=reading(encoding, delimiter),
    ).problem
    chosen = None if solver is None else [own for each in solver for own in solver_names(each)]
    with busy(f"comparing solvers on {problem!r}"):
        table = compare_solvers(problem, chosen, time_limit_s=time_limit_s, gap=gap)
    if as_json:
        print_json({"verdict": table.verdict, "rows": table.records()})
    else:
        show(table)


app.command()(explain)
app.command()(explore)
app.command()(headroom)
app.command()(partition)
app.command()(sample)
app.command()(study)
app.command()(verify)
app.add_typer(flower, name="flower")


def _warn_of_size(score: str, share: float) -> None:
    reason = "chance makes small samples look different"
    remedy = "--score debiased ranks by how much a client differs beyond chance at its size"
    if score == "excess":
        reason = "a larger sample makes the same difference surer"
    else:
        remedy = f"--score excess ranks by how surely a client differs, {remedy}"
    _notice(
        "[bold yellow]warning:[/]",
        f"sample size explains {share:.0%} of the ranking by {score} "
        f"(squared rank correlation); {reason}: {remedy}",
    )
