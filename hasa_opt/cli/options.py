"""Options, output and progress that the commands share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar

from hasa_opt import policies
from hasa_opt.errors import InputError
from hasa_opt.problem.cost import RESOURCES
from hasa_opt.rules.scores import SCORES
from hasa_opt.solvers.incumbent import Progress

MENU = ",".join(map(str, policies.MENU))
"""Widths where none are given, as an option takes them."""

ClientsFile = Annotated[Path, typer.Argument(metavar="CLIENTS.csv", help="One row per client.")]
Budget = Annotated[float, typer.Option(help="Mean cost as a share of the full width's cost.")]
Widths = Annotated[str, typer.Option(help="Menu of widths, comma-separated.")]
Score = Annotated[str, typer.Option(help=f"One of {', '.join(SCORES)}.")]
_WITHOUT_MODEL = ", ".join(name for name, item in RESOURCES.ours.items() if not item.profiled)
CostName = Annotated[
    str,
    typer.Option("--cost", help=f"{_WITHOUT_MODEL}, or one of another package."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TimeLimit = Annotated[float | None, typer.Option("--time-limit-s", help="Seconds per solver.")]
Gap = Annotated[float, typer.Option(help="Relative gap at which the solver may stop.")]
TextOption = Annotated[str, typer.Option(help="Column of --data with the text.")]
ClientOption = Annotated[str, typer.Option(help="Column of --data with the client.")]
ModelName = Annotated[
    str | None,
    typer.Option(help="lstm, gru, transformer, cnn, mlp or resnet; default: by data."),
]
Hidden = Annotated[int, typer.Option(help="Hidden units of an lstm or gru.")]
Embedding = Annotated[int, typer.Option(help="Embedding dimensions of an lstm or gru.")]
CoverageShare = Annotated[
    list[str] | None,
    typer.Option("--coverage", metavar="WIDTH=SHARE", help="Least share of samples at a width."),
]
Fair = Annotated[
    str | None,
    typer.Option("--fairness", help="Raise the poorest client first: maxmin or leximin."),
]


def split_names(text: str) -> list[str]:
    """Split at commas, without blanks and empty parts."""
    return [name.strip() for name in text.split(",") if name.strip()]


def split_numbers(text: str, option: str) -> list[float]:
    """Numbers separated by commas, or an error that names the option."""
    try:
        return [float(part) for part in split_names(text)]
    except ValueError as error:
        raise InputError(f"{option} {text!r}: give numbers separated by commas") from error


def check_reachable(budget: float, widest: float) -> None:
    """Refuse a budget that no policy could spend.

    Raises
    ------
    InputError
        Naming the widest possible allocation.
    """
    if budget > widest:
        raise InputError(
            f"--budget {budget:g} is above the widest possible allocation ({widest:g}): policies "
            "are compared where they spend it. Lower the budget or add a wider width"
        )


def print_json(value: Any) -> None:
    """Write a value as strict JSON to standard output."""
    json.dump(value, sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Show a spinner on standard error."""
    with Console(stderr=True).status(what):
        yield


@contextmanager
def solving(what: str) -> Iterator[Callable[[Progress], None]]:
    """Show on standard error how far a solve is; yields what its ``on_progress`` takes."""
    with Console(stderr=True).status(what) as status:

        def show(news: Progress) -> None:
            known = "nothing found yet" if news.incumbent is None else f"best {news.incumbent:.7g}"
            status.update(
                f"{what}: {news.solver}: {known}, "
                f"at most {news.bound:.7g}, gap {news.gap:.2g}; Ctrl-C keeps the best"
            )

        yield show


@contextmanager
def training_bar(console: Console) -> Iterator[dict[str, Any]]:
    """Show how far a study is; yields its callbacks ``on_progress`` (runs) and ``on_round``."""
    if not console.is_terminal:
        yield {"on_progress": lambda runs, of: console.print(f"training: {runs} of {of}")}
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with ProgressBar(
        *columns, TextColumn("rounds"), TimeElapsedColumn(), console=console
    ) as progress:
        bar = progress.add_task("training", total=None)
        yield {
            "on_progress": lambda runs, of: progress.update(
                bar, description=f"training: {runs} of {of} runs"
            ),
            "on_round": lambda rounds, of: progress.update(bar, completed=rounds, total=of),
        }
