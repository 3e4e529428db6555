"""Menus as delimited text: a row for each option, or for each option of a client or device class.

Columns ``per_sample:RESOURCE`` and ``per_client:RESOURCE`` are costs, whole numbers of what each
training sample, or each client, takes; all other columns are attributes::

    option,width,epochs,per_sample:kflops,per_client:kilobytes
    skip,0,0,0,0
    narrow,0.5,1,25,300
    wide,1,1,100,1200

A column ``client`` says whose option a row is, a column ``device`` whose class: the clients then
say theirs in a column of that name. Costs may differ from row to row, attributes belong to the
option. Who has no row for an option cannot take it::

    device,option,width,per_client:seconds
    phone,narrow,0.5,90
    laptop,narrow,0.5,20
    laptop,wide,1,70
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hasa_opt._utils.cells import numbers, refuse_repeats, whole_numbers
from hasa_opt._utils.checks import IntArray, listed
from hasa_opt._utils.decoding import Source
from hasa_opt._utils.names import tidy
from hasa_opt._utils.rational import written
from hasa_opt._utils.tables import Table, read_table
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InputError
from hasa_opt.problem.menu_fields import WIDTH
from hasa_opt.problem.menu_frame import options_of

__all__ = ["read_options"]

_OPTION, _CLIENT, _DEVICE = "option", "client", "device"
_COSTS = {"per_sample:": "sample", "per_client:": "client"}
"""What the names of columns of costs begin with, and what they are for."""


def read_options(
    path: Source,
    clients: Clients,
    *,
    encoding: str | None = None,
    delimiter: str | None = None,
) -> dict[str, Any]:
    """Arguments of :class:`Menu`, from a file.

    Parameters
    ----------
    path : path, or file open for reading
    clients : Clients
    encoding, delimiter : str, optional
        As for :meth:`hasa_opt.Clients.read_csv`.

    Raises
    ------
    InputError
        As for :meth:`Menu.read_csv`.
    """
    table = read_table(path, needed=(_OPTION,), encoding=encoding, delimiter=delimiter)
    names = table.names(_OPTION)
    if not names:
        raise InputError(f"{table.name} holds no option: give at least one row below the header")
    owner = _owner(table)
    owners = [] if owner is None else table.names(owner)
    refuse_repeats(table, _OPTION, list(zip(owners, names, strict=True)) if owners else names)
    costs, per, attributes = _columns(table, owner)
    columns: dict[str, list[Any]] = {_OPTION: names}
    columns |= {name: whole_numbers(table, column) for name, column in costs.items()}
    for name in attributes:
        columns[name] = _attribute(table, name, names, within=name == WIDTH)
    if owner is None:
        return options_of(columns, _OPTION, None, tuple(costs)) | {"per": per}
    given = options_of(columns | {owner: owners}, _OPTION, owner, tuple(costs))
    rows = _joined(table, owner, given["clients"], clients)
    return given | {
        "per": per,
        "costs": {name: rows_of_owner[rows] for name, rows_of_owner in given["costs"].items()},
        "allowed": given["allowed"][rows],
        "clients": clients.all_names,
    }


def _owner(table: Table) -> str | None:
    """The column that says whose option a row is, if there is one."""
    found = [name for name in (_CLIENT, _DEVICE) if table.has(name)]
    if len(found) > 1:
        raise InputError(
            f"{table.name} has a column {_CLIENT!r} and a column {_DEVICE!r}: leave one out"
        )
    return found[0] if found else None


def _columns(table: Table, owner: str | None) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Column and kind of each resource, and the attributes."""
    costs: dict[str, str] = {}
    per: dict[str, str] = {}
    attributes = []
    for column in table.header:
        prefix = next((known for known in _COSTS if column.startswith(known)), None)
        if prefix is None:
            if column not in (_OPTION, owner):
                attributes.append(_checked_attribute(table, column))
            continue
        resource = tidy(column.removeprefix(prefix))
        if not resource or resource in costs:
            why = f"costs {resource!r} a second time" if resource else "names no resource"
            raise InputError(
                f"{table.name}: column {column!r} {why}: write one column {prefix}RESOURCE for each"
            )
        costs[resource], per[resource] = column, _COSTS[prefix]
    if not costs:
        raise InputError(
            f"{table.name} has no column of costs; its columns are {table.columns}: name one "
            "per_sample:RESOURCE or per_client:RESOURCE, such as per_client:joules"
        )
    for name in attributes:
        if name in costs:
            raise InputError(
                f"{table.name}: columns {name!r} and {costs[name]!r} have one name: rename one"
            )
    return costs, per, attributes


def _checked_attribute(table: Table, column: str) -> str:
    if ":" in column:
        raise InputError(
            f"{table.name}: column {column!r} is not known: costs are "
            f"{' or '.join(f'{known}RESOURCE' for known in _COSTS)}, an attribute has no colon"
        )
    return column


def _attribute(table: Table, name: str, options: Sequence[str], *, within: bool) -> list[float]:
    """An attribute of each row, which must be the same in all rows of an option."""
    values = numbers(table, name)
    first: dict[str, int] = {}
    for row, (option, value) in enumerate(zip(options, values, strict=True)):
        if within and not 0 <= value <= 1:
            raise table.fail(row, name, f"{written(value)} must lie in [0, 1]")
        before = first.setdefault(option, row)
        if values[before] != value:
            raise table.fail(
                row,
                name,
                f"{written(value)} of option {option!r} contradicts {written(values[before])} on "
                f"line {table.lines[before]}: an attribute is the same for all; name the options "
                "apart",
            )
    return values


def _joined(table: Table, owner: str, owners: Sequence[str], clients: Clients) -> IntArray:
    """Row of the table of owners for each client."""
    at = {name: row for row, name in enumerate(owners)}
    if owner == _CLIENT:
        _refuse_strangers(table, clients)
        wanted = clients.all_names
    elif clients.device is None:
        raise InputError(
            f"{table.name} gives options by device class, but no client says its own: add a column "
            f"{_DEVICE!r} to the clients"
        )
    else:
        wanted = clients.device
    missing = [row for row, name in enumerate(wanted) if name not in at]
    if missing:
        row = missing[0]
        whose = "" if owner == _CLIENT else f", a device of class {wanted[row]!r},"
        raise InputError(
            f"{table.name} has no option for {clients.name(row)!r}{whose} ({len(missing)} such "
            f"client(s)): give each at least one row, in the column {owner!r} ({listed(owners)})"
        )
    return np.array([at[name] for name in wanted])


def _refuse_strangers(table: Table, clients: Clients) -> None:
    known = set(clients.all_names)
    for row, name in enumerate(table.names(_CLIENT)):
        if name not in known:
            raise table.fail(
                row, _CLIENT, f"{name!r} is no client: there are {listed(clients.all_names)}"
            )
