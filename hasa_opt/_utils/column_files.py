"""Files of columns: Parquet where the name ends in .parquet, else CSV.

pyarrow reads and writes Parquet. CSV of many rows is joined rather than written cell by cell, with
the same bytes, where no cell needs quotes.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from os import PathLike
from typing import IO, Any

import numpy as np

from hasa_opt._utils.files import path_of, writing
from hasa_opt._utils.installing import needing
from hasa_opt._utils.names import distinct
from hasa_opt.errors import InputError

__all__ = ["columns_of_table", "is_parquet", "plain_csv", "read_parquet", "write_columns"]

_UNUSUAL = (b'"', b"\0", b"0x", b"0X")
"""Signs by which a text is not plain: quotes, no text at all, numbers in hexadecimal."""

_QUOTED = ',"\r\n'
"""Signs that make :mod:`csv` put quotes around a cell."""


def is_parquet(path: str | PathLike[str]) -> bool:
    """Whether a file is Parquet, by its name; a folder is one of such files."""
    place = path_of(path)
    return place.suffix.lower() == ".parquet" or place.is_dir()


def read_parquet(path: str | PathLike[str], columns: Sequence[str] | None = None) -> Any:
    """Read a Parquet file, or a folder of them, as a pyarrow table.

    Parameters
    ----------
    path : path
    columns : sequence of str, optional
        Default: all.

    Raises
    ------
    InputError
        If there is none, or it is damaged.
    MissingExtraError
        If pyarrow is not installed.
    """
    with needing("a Parquet file", extra="parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    place = path_of(path)
    files = sorted(place.glob("[!._]*.parquet")) if place.is_dir() else [place]
    if not files:
        raise InputError(f"{path} holds no file that ends in .parquet")
    try:
        # Not by read_table, which imports pandas where it is installed.
        return pa.concat_tables([pq.ParquetFile(file).read(columns) for file in files])
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"cannot read {path}: {reason}: give a Parquet file") from error


def columns_of_table(table: Any) -> dict[str, Any]:
    """Columns of a pyarrow table by name: arrays of numbers, and lists of anything else.

    Raises
    ------
    InputError
        If two columns have one name.
    """
    names = distinct(table.column_names, "columns")
    return dict(zip(names, map(_values, table.itercolumns()), strict=True))


def _values(column: Any) -> Any:
    """Numbers as an array, if none is missing; else a list, in which None stands for such."""
    from pyarrow import types

    is_number = types.is_integer(column.type) or types.is_floating(column.type)
    if not is_number or column.null_count or column.num_chunks == 0:
        return column.to_pylist()
    # Not by to_numpy, which imports pandas where it is installed.
    return np.concatenate([np.from_dlpack(chunk) for chunk in column.chunks])


def plain_csv(path: str | PathLike[str], kinds: Mapping[str, type]) -> Any:
    """Read a CSV file in which commas and line ends are all that has a meaning.

    Parameters
    ----------
    path : path
    kinds : mapping of column to str, int or float
        Of the columns that the file may have.

    Returns
    -------
    pyarrow table, or None
        None if the file is not that plain, has another column, or pyarrow is not installed.
    """
    if find_spec("pyarrow") is None:
        return None
    import pyarrow as pa
    import pyarrow.csv as arrow

    try:
        data = path_of(path).read_bytes()
        header = data[: data.find(b"\n")].removesuffix(b"\r").decode("ascii").split(",")
    except (OSError, ValueError):
        return None
    if len(header) < 2 or len(set(header)) < len(header) or not kinds.keys() >= set(header):
        return None
    if any(sign in data for sign in _UNUSUAL) or data.count(b"\r") != data.count(b"\r\n"):
        return None
    types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    convert = arrow.ConvertOptions(
        column_types={name: types[kinds[name]] for name in header}, null_values=[]
    )
    plain = arrow.ParseOptions(quote_char=False, newlines_in_values=False)
    with suppress(pa.ArrowException):
        return arrow.read_csv(pa.BufferReader(data), parse_options=plain, convert_options=convert)
    return None


def write_columns(path: str | PathLike[str], columns: Mapping[str, Sequence[Any]]) -> None:
    """Write columns of one length, in one step: see :func:`~hasa_opt._utils.files.writing`.

    Parameters
    ----------
    path : path
        Its folder must exist; a file that is there is replaced.
    columns : mapping of column to values
        Strings, or numbers of Python.

    Raises
    ------
    InputError, StorageError
        As for ``writing``.
    MissingExtraError
        If it ends in .parquet and pyarrow is not installed.
    """
    if not is_parquet(path):
        with writing(path) as file:
            _write_csv(file, columns)
        return
    with needing("a Parquet file", extra="parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    with writing(path, "wb") as file:
        pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), file)


def _write_csv(file: IO[Any], columns: Mapping[str, Sequence[Any]]) -> None:
    out = csv.writer(file)
    out.writerow(columns)
    cells = list(_plain_cells(columns))
    if len(cells) == len(columns) > 1:
        rows = map(",".join, zip(*cells, strict=True))
        file.write("\r\n".join([*rows, ""]))
    else:
        out.writerows(zip(*columns.values(), strict=True))


def _plain_cells(columns: Mapping[str, Sequence[Any]]) -> Iterator[list[str]]:
    """Cells of each column as they are written; ends where one would need quotes."""
    for values in columns.values():
        texts = _texts(values)
        together = "".join(texts)
        if any(sign in together for sign in _QUOTED):
            return
        yield texts


def _texts(values: Sequence[Any]) -> list[str]:
    """What :mod:`csv` makes of each value."""
    kinds = set(map(type, values))
    if kinds == {float}:
        different = set(values)
        if 0.0 not in different and 2 * len(different) < len(values):  # -0.0 equals 0.0
            known = {value: repr(value) for value in different}
            return list(map(known.__getitem__, values))
    if type(None) in kinds:
        return ["" if value is None else str(value) for value in values]
    return list(map(str, values))
