"""Data frames of any library, in and out: pandas, polars, pyarrow and whatever narwhals knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from math import isnan
from typing import Any

import numpy as np

from hasa_opt._utils.checks import listed
from hasa_opt._utils.installing import not_installed, pip
from hasa_opt._utils.names import distinct, keyed
from hasa_opt.errors import InputError, MissingExtraError

__all__ = ["Framed", "by_name", "columns_of", "frame_of"]

_LIBRARIES = ("pandas", "polars", "pyarrow")
_ROWS = ("name", "client")
"""Columns that say whose a row is, as frames of clients and of allocations have them."""


def columns_of(frame: Any, what: str) -> dict[str, list[Any]]:
    """Columns of a data frame by name (see :func:`~hasa_opt._utils.names.tidy`); None: missing.

    Parameters
    ----------
    frame : data frame, or mapping of column to values
    what : str
        The frame in words, for messages.

    Raises
    ------
    InputError
        If it is neither, or two columns have one name.
    """
    if isinstance(frame, Mapping):
        return {name: list(values) for name, values in keyed(frame, f"columns of {what}").items()}
    import narwhals as nw

    try:
        table = nw.from_native(frame, eager_only=True)
    except nw.exceptions.DuplicateError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{what} has columns of one name ({reason}): rename them") from error
    except TypeError as error:
        raise InputError(
            f"{what} is a {type(frame).__name__}: give a data frame, of pandas or polars for "
            "example, or a mapping of column to values"
        ) from error
    names = distinct(map(str, table.columns), f"columns of {what}")
    cells = (_cells(table[name].to_list()) for name in table.columns)
    return dict(zip(names, cells, strict=True))


def _cells(values: list[Any]) -> list[Any]:
    """None for what is missing, in whichever way a library says so."""
    kinds = set(map(type, values))
    if kinds <= {int, str} or (kinds == {float} and not isnan(sum(values))):
        return values
    return [None if value is None or value != value else value for value in values]


def by_name(table: Any, names: Sequence[str], what: str) -> Any:
    """Rows of a table in the order of names, if it is a frame with a column of these.

    Parameters
    ----------
    table : data frame or mapping of column to values, or any other table
        The column "name" or "client" says whose each row is. Without one, and where it is no frame,
        the table is returned as it is.
    names : n distinct strings
    what : str
        The table in words, for messages.

    Returns
    -------
    (n, n_columns) array without that column, or the table

    Raises
    ------
    InputError
        If the table does not have the same names, once each.
    """
    given = table if isinstance(table, Mapping) else getattr(table, "column_names", None)
    headings = set(map(str, getattr(table, "columns", ()) if given is None else given))
    key = next((name for name in _ROWS if name in headings), None)
    if key is None:
        return table
    columns = columns_of(table, what)
    at = {name: row for row, name in enumerate(distinct(columns.pop(key), f"column {key!r}"))}
    if at.keys() != set(names):
        alone = listed(sorted(at.keys() ^ set(names)), repr)
        raise InputError(
            f"{what} and the clients must name the same clients, once each: see {alone}"
        )
    return np.array(list(columns.values())).T[[at[name] for name in names]]


def frame_of(columns: Mapping[str, Sequence[Any]], library: str | None) -> Any:
    """Make a data frame.

    Parameters
    ----------
    columns : mapping of column to values
    library : {"pandas", "polars", "pyarrow"} or None
        None: the first of them that is installed.

    Raises
    ------
    InputError
        For another library.
    MissingExtraError
        If none, or not the one that is asked for, is installed.
    """
    if library is not None and library not in _LIBRARIES:
        raise InputError(f"library {library!r} is not known: choose from {listed(_LIBRARIES)}")
    wanted = _LIBRARIES if library is None else (library,)
    found = next((name for name in wanted if find_spec(name) is not None), None)
    if found is None:
        needed = " or ".join(wanted)
        raise MissingExtraError(not_installed("a data frame", needed, pip(wanted[0])))
    import narwhals as nw

    backend: Any = found
    plain = {name: np.asarray(values).tolist() for name, values in columns.items()}
    return nw.from_dict(plain, backend=backend).to_native()


class Framed:
    """A noun of which a data frame can be made."""

    def in_columns(self) -> Mapping[str, Sequence[Any]]:
        """What the frame holds: values by column, all of one length."""
        raise NotImplementedError

    def frame(self, library: str | None = None) -> Any:
        """A data frame of the columns that :meth:`in_columns` gives.

        Parameters
        ----------
        library : {"pandas", "polars", "pyarrow"}, optional
            Default: the first of them that is installed.

        Raises
        ------
        InputError
            For another library.
        MissingExtraError
            If it, or every one of them, is not installed.
        """
        return frame_of(self.in_columns(), library)
