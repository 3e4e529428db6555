"""Clients from a file: Parquet, or CSV, which pyarrow reads where it is plain.

A plain file has quotes nowhere, a header of known columns and no cell that breaks a rule: there
every reader finds the same. All others go to :mod:`hasa_opt.clients.csv`, which names the line of a
mistake.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from os import PathLike
from typing import Any

from hasa_opt._utils.checks import float_array, listed
from hasa_opt._utils.column_files import columns_of_table, is_parquet, plain_csv
from hasa_opt._utils.column_files import read_parquet as read_table
from hasa_opt._utils.decoding import Source
from hasa_opt._utils.names import distinct, name_list
from hasa_opt._utils.rational import INT64_ROOM
from hasa_opt.clients import csv
from hasa_opt.errors import InputError

__all__ = ["read", "read_csv", "read_parquet"]

_KINDS = {"name": str, "samples": int, "max_width": float, "site": str, "device": str}
"""Columns of a plain file; counts of labels are compared with the samples, line by line."""

_Read = tuple[dict[str, Any], dict[str, Any]]


def read(path: Source, **how: Any) -> _Read:
    """Read clients from a file of either kind: Parquet where its name ends in .parquet.

    Arguments, results and errors are those of :func:`hasa_opt.clients.csv.read`.
    """
    if isinstance(path, str | PathLike) and is_parquet(path):
        return read_parquet(path, others=how.get("others", ()), values=how.get("values", ()))
    return read_csv(path, **how)


def read_parquet(
    path: str | PathLike[str], *, others: Sequence[str] = (), values: Sequence[str] = ()
) -> _Read:
    """Read clients from a Parquet file; see :func:`read`."""
    return _of_columns(columns_of_table(read_table(path)), str(path), others, values)


def read_csv(
    path: Source,
    *,
    others: Sequence[str] = (),
    values: Sequence[str] = (),
    encoding: str | None = None,
    delimiter: str | None = None,
) -> _Read:
    """Read clients from delimited text; see :func:`read`."""
    if isinstance(path, str | PathLike) and encoding is None and delimiter in (None, ","):
        kinds = _KINDS | dict.fromkeys(others, str) | dict.fromkeys(values, float)
        table = plain_csv(path, kinds)
        with suppress(InputError):
            if table is not None:
                columns, more = _of_columns(columns_of_table(table), "", others, values)
                if _is_plain(columns, [more[name] for name in values]):
                    return columns, more
    return csv.read(path, others=others, values=values, encoding=encoding, delimiter=delimiter)


def _of_columns(
    columns: dict[str, Any], what: str, others: Sequence[str], values: Sequence[str]
) -> _Read:
    if missing := [name for name in (*others, *values) if name not in columns]:
        raise InputError(
            f"{what}: no column {missing[0]!r}; its columns are {listed(columns, repr)}"
        )
    more = {
        **{name: list(name_list(columns.pop(name), f"column {name!r}")) for name in others},
        **{name: columns.pop(name) for name in values},
    }
    return csv.framed(columns, what), more


def _is_plain(columns: dict[str, Any], values: Sequence[Any]) -> bool:
    """Whether no cell breaks a rule; the names are kept as they were checked."""
    columns["names"] = distinct(columns["names"], "names")
    for name in ("site", "device"):
        if columns[name] is not None:
            columns[name] = name_list(columns[name], name)
    for column in values:
        float_array(column, "column")
    caps, samples = columns["max_width"], columns["samples"]
    if len(samples) == 0 or not 0 < samples.min() <= samples.max() < INT64_ROOM:
        return False
    return caps is None or bool(((caps > 0) & (caps <= 1)).all())
