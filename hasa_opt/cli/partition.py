"""The command ``hasa-opt partition``: similarities from a file, groups on the screen or in one."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from hasa_opt._utils.cells import distinct_names, numbers, refuse_repeats
from hasa_opt._utils.checks import FloatArray
from hasa_opt._utils.files import writing
from hasa_opt._utils.sparse import scipy_sparse as sp
from hasa_opt._utils.tables import Table, read_table
from hasa_opt.cli.options import (
    AsJson,
    Delimiter,
    Encoding,
    Gap,
    Reading,
    TimeLimit,
    busy,
    check_output,
    print_json,
    printing,
    reading,
    solver_name,
    source_of,
)
from hasa_opt.errors import InputError
from hasa_opt.solving.grouping.result import Partition
from hasa_opt.solving.grouping.solver import partition as solve_partition

__all__ = ["partition"]

_PAIRS = ("client", "other", "similarity")
"""Columns of a file of pairs."""

SimilarityFile = Annotated[
    Path,
    typer.Argument(
        metavar="SIMILARITY.csv",
        help="A square table, the clients' names in its header and its first column; or the "
        f"columns {', '.join(_PAIRS)}, a row per pair, where those without a row are 0.",
    ),
]
MaxGroups = Annotated[int | None, typer.Option(help="Most groups.")]
MaxSize = Annotated[int | None, typer.Option(help="Most clients in a group.")]
Seed = Annotated[int, typer.Option(help="Of the heuristic.")]


def partition(
    similarity: SimilarityFile,
    solver: Annotated[
        str, typer.Option(help="greedy, highs, cpsat, scip, pulp or cvxpy.")
    ] = "auto",
    max_groups: MaxGroups = None,
    max_size: MaxSize = None,
    time_limit_s: TimeLimit = None,
    gap: Gap = 0.0,
    seed: Seed = 0,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="CSV to write.")] = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    as_json: AsJson = False,
) -> None:
    """Put clients into groups of the largest total similarity."""
    names, table = read_similarity(similarity, reading(encoding, delimiter))
    check_output(output, [similarity])
    with busy(f"grouping {len(names)} clients"):
        found = solve_partition(
            table,
            solver_name(solver),
            names=names,
            max_groups=max_groups,
            max_size=max_size,
            time_limit_s=time_limit_s,
            gap=gap,
            seed=seed,
        )
    if output is not None:
        with writing(output) as file:
            out = csv.writer(file)
            out.writerow(("name", "group"))
            out.writerows(zip(found.names, found.groups.tolist(), strict=True))
    if as_json:
        print_json(_record(found))
    else:
        printing().print(found, soft_wrap=True)


def read_similarity(path: Path, how: Reading) -> tuple[list[str], FloatArray | sp.csr_array]:
    """Names of the clients, and their similarities: a square table, or a sparse one of pairs.

    Raises
    ------
    InputError
        Naming line and column.
    """
    table = read_table(source_of(path), needed=(), **how)
    return _pairs(table) if set(_PAIRS) <= set(table.header) else _square(table)


def _square(table: Table) -> tuple[list[str], FloatArray]:
    first, columns = table.header[0], table.header[1:]
    names = list(distinct_names(table, first))
    if names != columns:
        pairs = zip([*names, ""], [*columns, ""], strict=False)
        row, column = next(pair for pair in pairs if pair[0] != pair[1])
        raise InputError(
            f"{table.name}: the first column and the header must name the same clients in the same "
            f"order, but {row!r} stands where the header has {column!r}; a file of pairs has the "
            f"columns {', '.join(_PAIRS)}"
        )
    return names, np.array([numbers(table, name) for name in columns]).T


def _pairs(table: Table) -> tuple[list[str], sp.csr_array]:
    ends = [table.names(column) for column in _PAIRS[:2]]
    for row, (one, other) in enumerate(zip(*ends, strict=True)):
        if one == other:
            raise table.fail(row, _PAIRS[1], f"{other!r} is the client itself: remove the row")
    keys = [" and ".join(sorted(pair)) for pair in zip(*ends, strict=True)]
    refuse_repeats(table, _PAIRS[1], keys)
    names = list(dict.fromkeys(name for pair in zip(*ends, strict=True) for name in pair))
    at = {name: row for row, name in enumerate(names)}
    one, other = ([at[name] for name in column] for column in ends)
    values = numbers(table, _PAIRS[2])
    entries = (values + values, (one + other, other + one))
    return names, sp.csr_array(entries, shape=(len(names), len(names)))


def _record(found: Partition) -> dict[str, Any]:
    return {
        "solver": found.solver,
        "termination": str(found.termination),
        "incumbent_from": found.incumbent_from,
        "objective": found.objective,
        "bound": found.bound,
        "gap": found.gap,
        "seconds": found.seconds,
        "groups": dict(zip(found.names, found.groups.tolist(), strict=True)),
    }
