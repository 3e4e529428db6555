"""Options, output and progress that the commands share."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Annotated, Any, BinaryIO, TypedDict

import typer
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table

from hasa_opt import policies
from hasa_opt._utils.files import file_target
from hasa_opt._utils.rational import written
from hasa_opt.clients.clients import Clients
from hasa_opt.clients.files import read
from hasa_opt.errors import InputError
from hasa_opt.problem.cost import RESOURCES
from hasa_opt.rules.scores import SCORES
from hasa_opt.solvers.incumbent import Progress
from hasa_opt.solvers.registry import SOLVERS
from hasa_opt.solving.earlier import Earlier

MENU = ",".join(map(str, policies.MENU))
"""Widths where none are given, as an option takes them."""

ClientsFile = Annotated[
    Path,
    typer.Argument(
        metavar="CLIENTS.csv",
        help="One row per client, Parquet if it ends in .parquet; - is standard input.",
    ),
]
Budget = Annotated[float, typer.Option(help="Mean cost as a share of the full width's cost.")]
Widths = Annotated[str, typer.Option(help="Menu of widths, comma-separated.")]
WidthsOrNone = Annotated[
    str | None, typer.Option("--widths", help="Menu of widths, comma-separated.", show_default=MENU)
]
Score = Annotated[
    str, typer.Option(help=f"One of {', '.join(SCORES)}; or a column of the clients.")
]
_WITHOUT_MODEL = ", ".join(name for name, item in RESOURCES.ours.items() if not item.profiled)
CostName = Annotated[
    str | None,
    typer.Option(
        "--cost", help=f"{_WITHOUT_MODEL}, or one of another package.", show_default="width"
    ),
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
    typer.Option(
        "--coverage",
        metavar="WIDTH=SHARE",
        help="Least share of the samples at a width or wider; ATTRIBUTE:VALUE=SHARE for another "
        "attribute of the options, such as epochs:2=0.1.",
    ),
]
SameColumn = Annotated[
    str | None,
    typer.Option(
        "--same-option",
        metavar="COLUMN",
        help="Column of the clients, such as site: all of a group take one option.",
    ),
]
RoomOfColumn = Annotated[
    str | None,
    typer.Option(
        "--capacity",
        metavar="COLUMN=WIDTH",
        help="Column of the clients, such as site, and the width of all groups together.",
    ),
]
OptionsFile = Annotated[
    Path | None,
    typer.Option(
        "--options",
        metavar="CSV",
        help="Options in the place of widths: columns option, per_sample:RESOURCE or "
        "per_client:RESOURCE, attributes such as width, and client or device where they differ.",
    ),
]
Full = Annotated[str | None, typer.Option(help="The option that shares of --budget are shares of.")]
Shares = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        metavar="SHARE",
        help="Share of what everybody costs at width 1, or at --full; RESOURCE=SHARE, repeated, "
        "where options cost several.",
        show_default="0.5 of widths",
    ),
]
Limits = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="RESOURCE=UNITS",
        help="What all clients may take, a whole number in the unit of the options' costs.",
    ),
]
UtilityName = Annotated[
    str, typer.Option("--utility", help="hasa, saturating (both by scores) or alpha_fair.")
]
UtilityTable = Annotated[
    Path | None,
    typer.Option("--utilities", metavar="CSV", help="Columns: name, then one per width or option."),
]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="FILE", help="CSV to write, or Parquet (.parquet)."),
]
Previous = Annotated[
    Path | None,
    typer.Option(
        "--previous",
        metavar="FILE",
        help="The allocation of before, as --output wrote it: say who joined, left or changed.",
    ),
]
ChangesFile = Annotated[
    Path | None,
    typer.Option(
        "--changes",
        metavar="FILE",
        help="Changes since --previous to write, each with its reason; CSV, or Parquet (.parquet).",
    ),
]
Encoding = Annotated[
    str | None, typer.Option(help="Of the CSV files, such as cp1252.", show_default="detected")
]
Delimiter = Annotated[
    str | None,
    typer.Option(help="Of the CSV files: one character, or tab.", show_default="detected"),
]
Fair = Annotated[
    str | None,
    typer.Option("--fairness", help="Raise the poorest client first: maxmin or leximin."),
]


_ANY_WIDTH = 10_000
"""Characters of a line where nobody sees its edge."""

_FIRST_LINE_S, _NEXT_LINE_S = 2.0, 10.0
"""Seconds until a line says what is done, without a terminal, and until the next: choices."""


class Reading(TypedDict):
    """How files are written, as their readers take it; None: it is detected."""

    encoding: str | None
    delimiter: str | None


def reading(encoding: str | None, delimiter: str | None) -> Reading:
    """How files are written; a tab is hard to type."""
    tab = delimiter in ("tab", "\\t")
    return {"encoding": encoding, "delimiter": "\t" if tab else delimiter}


_ARGUMENT = re.compile(r"(?<![\w(])(encoding|delimiter|full)=('?)")


def as_options(message: object) -> str:
    """A message of the library, with the options of the command for Python's arguments.

    >>> as_options("say delimiter=';' or give another encoding=")
    "say --delimiter ';' or give another --encoding"
    """
    message = str(message).replace("limits= of this error names", "--json names")
    return _ARGUMENT.sub(lambda found: f"--{found[1]}" + " '" * bool(found[2]), message)


def split_names(text: str) -> list[str]:
    """Split at commas, without blanks and empty parts."""
    return [name.strip() for name in text.split(",") if name.strip()]


def assignments(given: Sequence[str] | None) -> list[str]:
    """What a repeated option was given, NAME=VALUE each; several of them by commas are taken too.

    >>> assignments(["kflops=18000, kilobytes=1800", "0,5"])
    ['kflops=18000', 'kilobytes=1800', '0,5']
    """
    found = []
    for text in given or ():
        parts = split_names(text)
        found += parts if all("=" in part for part in parts) else [text]
    return found


def solver_name(text: str) -> str:
    """A solver's name, however it is capitalised.

    Raises
    ------
    InputError
        If several are given.
    """
    if "," in text:
        raise InputError(f"--solver {text}: give one; hasa-opt compare takes several")
    known = {name.lower(): name for name in (*SOLVERS, "auto")}
    return known.get(text.strip().lower(), text.strip())


def solver_names(text: str) -> list[str]:
    """Names of solvers, separated by commas; an error if there is none."""
    names = [solver_name(name) for name in split_names(text)]
    if not names:
        raise InputError(f"{text!r} names no solver: choose from those that hasa-opt solvers lists")
    return names


def source_of(path: Path) -> Path | BinaryIO:
    """What a file argument names: ``-`` is standard input."""
    return sys.stdin.buffer if str(path) == "-" else path


def clients_of(path: Path, how: Reading) -> Clients:
    """The clients of a file, CSV or Parquet."""
    columns, _ = read(source_of(path), **how)
    return Clients(columns.pop("samples"), **columns)


def earlier(previous: Path | None, changes: Path | None, how: Reading) -> Earlier | None:
    """The allocation of before, if one is named.

    Raises
    ------
    InputError
        If it cannot be read, or changes are asked for without one.
    """
    if previous is not None:
        return Earlier.of(source_of(previous), **how)
    if changes is not None:
        raise InputError("--changes since when? Say --previous, the allocation of before")
    return None


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
            f"--budget {written(budget)} is above the widest possible allocation "
            f"({written(widest)}): policies are compared where they spend it. Lower the budget or "
            "add a wider width"
        )


def check_output(path: Path | None, sources: Sequence[Path]) -> None:
    """Refuse to write where nothing can be written, or over what was read.

    Raises
    ------
    InputError, StorageError
    """
    if path is None:
        return
    if str(path) == "-":
        raise InputError("output -: standard output has the tables: give the name of a file")
    target = file_target(path).resolve()
    if target in [source.resolve() for source in sources]:
        raise InputError(f"{path} is the input: give another name, so that nothing is lost")


def printing(*, stderr: bool = False) -> Console:
    """A console: on a terminal as wide as that, elsewhere as wide as what is printed."""
    found = Console(stderr=stderr, highlight=False)
    if not found.is_terminal and "COLUMNS" not in os.environ:
        found.width = _ANY_WIDTH
    return found


def show(noun: Any, console: Console | None = None) -> None:
    """Print a table, or what shows itself as one; row by row if it is wider than the terminal."""
    console = console or printing()
    page = console.options.update(max_width=_ANY_WIDTH)
    shown = noun.__rich__() if hasattr(noun, "__rich__") else noun
    for part in shown.renderables if isinstance(shown, Group) else [shown]:
        if isinstance(part, Table) and Measurement.get(console, page, part).minimum > console.width:
            part = Group(*_row_by_row(part))
        console.print(part)


def _row_by_row(table: Table) -> Iterator[RenderableType]:
    """Each row of a table as lines of heading and cell."""
    yield table.title or ""
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        row = Table.grid(padding=(0, 2))
        for column, cell in zip(table.columns, cells, strict=True):
            row.add_row(column.header, cell)
        yield row
        yield ""
    if table.caption is not None:
        yield table.caption


def say(words: object, *, stderr: bool = False) -> None:
    """Print a line as it is, broken nowhere but at the edge of the terminal."""
    printing(stderr=stderr).print(words, soft_wrap=True, markup=False)


def print_json(value: Any) -> None:
    """Write a value as strict JSON to standard output."""
    json.dump(value, sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")


@contextmanager
def _status(what: str) -> Iterator[Callable[[str], None]]:
    """Show what is done: by a spinner, or by a line now and then where there is no terminal."""
    console, newest, ended = printing(stderr=True), [what], Event()
    if console.is_terminal:
        with console.status(what) as status:
            yield status.update
        return

    def tell() -> None:
        wait = _FIRST_LINE_S
        while not ended.wait(wait):
            say(newest[-1], stderr=True)
            wait = _NEXT_LINE_S

    teller = Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield newest.append
    finally:
        ended.set()
        teller.join()


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Say on standard error what takes so long."""
    with _status(what):
        yield


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """Say on standard error how many rounds are trained; yields what ``on_round`` takes."""
    with _status(what) as update:
        yield lambda done, of: update(f"{what}; round {done} of {of}")


@contextmanager
def solving(what: str) -> Iterator[Callable[[Progress], None]]:
    """Show on standard error how far a solve is; yields what its ``on_progress`` takes."""
    with _status(what) as update:

        def show(news: Progress) -> None:
            known = "nothing found yet" if news.incumbent is None else f"best {news.incumbent:.7g}"
            update(
                f"{what}: {news.solver}: {known}, "
                f"at most {news.bound:.7g}, gap {news.gap:.2g}; Ctrl-C keeps the best"
            )

        yield show
