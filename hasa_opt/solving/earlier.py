"""What clients had before: an allocation, a mapping, a data frame or a file that keeps one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedIOBase, RawIOBase
from os import PathLike
from typing import Any

import numpy as np

from hasa_opt._utils.cells import distinct_names, numbers, whole_numbers
from hasa_opt._utils.checks import IntArray, listed, number
from hasa_opt._utils.checks import whole_numbers as whole_array
from hasa_opt._utils.column_files import columns_of_table, is_parquet, plain_csv, read_parquet
from hasa_opt._utils.frames import columns_of
from hasa_opt._utils.names import distinct, tidy
from hasa_opt._utils.rational import SAME_WIDTH, written
from hasa_opt._utils.tables import read_table
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InputError
from hasa_opt.problem.menu import WIDTH, Menu
from hasa_opt.problem.result import Allocation

__all__ = ["Earlier"]

_NAME = ("name", "client")
_TAKEN = ("option", WIDTH)
_SAMPLES = "samples"
_KINDS = {"name": str, "client": str, _SAMPLES: int, "option": str, WIDTH: float}


@dataclass(frozen=True, eq=False)
class Earlier:
    """What each client had before.

    Attributes
    ----------
    clients : Clients, or n distinct names
    labels : tuple of str
        The different options: their names, or their widths in digits.
    at : (n,) int64
        Which of them each client had.
    samples : (n,) int64 or None
        Of each client; None: not known.
    """

    clients: Clients | tuple[str, ...]
    labels: tuple[str, ...]
    at: IntArray
    samples: IntArray | None = None

    @classmethod
    def of(cls, given: Any, **reading: str | None) -> Earlier:
        """Take an allocation in whatever form it is.

        Parameters
        ----------
        given : Allocation, path, mapping of client name to option or width, or data frame
            Of a file or a frame the columns "name" (or "client"), "option" or "width", and, if
            there is one, "samples" are used.
        **reading : str, optional
            ``encoding`` and ``delimiter`` of a CSV file, as for :meth:`Clients.read_csv`.

        Raises
        ------
        InputError
            For what is none of these, or holds a value that breaks a rule.
        """
        if isinstance(given, Allocation):
            clients = given.problem.clients
            return cls(clients, given.problem.menu.names, given.choice, clients.samples)
        if isinstance(given, Mapping):
            names = distinct(given, "earlier allocation: names")
            return cls(names, *_encoded(given.values(), "earlier allocation"))
        stream = isinstance(given, RawIOBase | BufferedIOBase)
        if not (stream or isinstance(given, str | PathLike)):
            return cls._of_columns(columns_of(given, "earlier allocation"), "earlier allocation")
        if not stream and is_parquet(given):
            return cls._of_columns(columns_of_table(read_parquet(given)), str(given))
        quick = None if stream or any(reading.values()) else plain_csv(given, _KINDS)
        with suppress(InputError):
            if quick is not None:
                return cls._of_columns(columns_of_table(quick), str(given))
        table = read_table(given, needed=("name",), **reading)
        name, taken = _headings(table.header, table.name)
        samples = np.array(whole_numbers(table, _SAMPLES)) if table.has(_SAMPLES) else None
        names = distinct_names(table, name)
        given = numbers(table, taken) if taken == WIDTH else table.column(taken)
        return cls(names, *_encoded(given, f"{table.name}, {taken}"), samples)

    @classmethod
    def _of_columns(cls, columns: Mapping[str, Sequence[Any]], what: str) -> Earlier:
        name, taken = _headings(columns, what)
        samples = None
        if _SAMPLES in columns:
            samples = whole_array(
                np.asarray(columns[_SAMPLES]), lambda at, _: f"{what}, row {at[0]}"
            )
        names = distinct(columns[name], f"{what}, column {name!r}")
        return cls(names, *_encoded(columns[taken], f"{what}, column {taken!r}"), samples)

    def name(self, row: int) -> str:
        """Name of the client in one row."""
        return self.clients.name(row) if isinstance(self.clients, Clients) else self.clients[row]

    def taken(self, rows: IntArray) -> list[str]:
        """What clients had, in words."""
        return [self.labels[at] for at in self.at[rows].tolist()]

    def options(self, menu: Menu) -> IntArray:
        """Option of a menu that each client had, ``(n,)``; -1 where the menu does not have it."""
        return np.array([_place(label, menu) for label in self.labels], dtype=np.int64)[self.at]


def _headings(columns: Iterable[str], what: str) -> tuple[str, str]:
    """Columns of the names and of what clients had."""
    known = list(columns)
    found = [next((name for name in names if name in known), None) for names in (_NAME, _TAKEN)]
    name, taken = found
    if name is None or taken is None:
        wanted = " or ".join(map(repr, _NAME if name is None else _TAKEN))
        raise InputError(
            f"{what} has no column {wanted}; its columns are {listed(known, repr)}: give what "
            "hasa-opt allocate --output writes"
        )
    return name, taken


def _encoded(values: Iterable[Any], what: str) -> tuple[tuple[str, ...], IntArray]:
    """The different values in words, and which of them each one is."""
    given = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if not given:
        raise InputError(f"{what}: no client has anything: give what one client had, at least")
    different = {value: at for at, value in enumerate(dict.fromkeys(given))}
    labels = tuple(_label(value, what) for value in different)
    return labels, np.fromiter(map(different.__getitem__, given), np.int64, len(given))


def _label(value: Any, what: str) -> str:
    label = tidy(value) if isinstance(value, str) else written(number(value, f"{what}:"))
    if not label:
        raise InputError(f"{what}: an empty cell: give every client its option or its width")
    return label


def _place(label: str, menu: Menu) -> int:
    if label in menu.names:
        return menu.names.index(label)
    try:
        width = float(label) if menu.only_widths else np.nan
    except ValueError:
        return -1
    same = np.abs(menu.attributes.get(WIDTH, np.empty(0)) - width) <= SAME_WIDTH
    return int(same.argmax()) if same.any() else -1
