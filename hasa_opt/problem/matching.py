"""Widths of named clients: an allocation meets clients by their names, never by their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, IntArray, float_array, listed
from hasa_opt._utils.names import distinct, name_list
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InputError
from hasa_opt.problem.menu import Menu
from hasa_opt.problem.result import Allocation

__all__ = ["allocation_rows", "by_name", "client_options", "client_widths", "earlier_rows"]

_NAMED = 3  # names that a message shows
_SHORTEST, _LONGEST = 64, 8192  # names that are compared at a time
_AHEAD = 8  # names ahead that are tried where two fleets part
_LEAST_RUN, _PATIENCE = 8, 1000  # mean length of a run from which, and names until, it is tried


def client_widths(
    given: Allocation | Mapping[str, float] | npt.ArrayLike,
    clients: Clients | tuple[str, ...],
    what: str = "allocation",
    *,
    newcomers: bool = False,
) -> FloatArray:
    """Width of each client, in the order of ``clients``.

    Parameters
    ----------
    given : Allocation, mapping of client name to width, or (n_clients,) widths
        The first two are matched by name, whatever the order. Bare widths are in the order of
        ``clients``.
    clients : Clients, or their names
    what : str
        What is given, for messages.
    newcomers : bool
        Whether a client may be unknown to ``given``, and ``given`` may know clients that have left.

    Returns
    -------
    (n_clients,) float64
        NaN for newcomers.

    Raises
    ------
    InputError
        If no client is in both; without ``newcomers``, if one is in one of them only. Also if one
        fleet has names and the other has none, and they cannot be told to be the same.

    Examples
    --------
    >>> client_widths({"laptop": 0.5, "phone": 0.25}, ("phone", "laptop")).tolist()
    [0.25, 0.5]
    """
    if isinstance(given, Allocation):
        widths, before = given.widths, given.problem.clients
        rows = earlier_rows(before, clients, what)
        known = _names(before)
    elif isinstance(given, Mapping):
        known = distinct(given, f"{what}: names")
        widths = float_array(list(given.values()), what)
        rows = _matched(known, _names(clients), what)
    else:
        return float_array(given, what, (len(clients),))
    if not newcomers:
        _check_complete(rows, known, _names(clients), what)
    return np.where(rows < 0, np.nan, widths[rows])


def allocation_rows(given: Allocation, names: tuple[str, ...]) -> IntArray:
    """Row of the allocation for each client, matched by name.

    Raises
    ------
    InputError
        If it is for other clients.
    """
    rows = earlier_rows(given.problem.clients, names, "allocation")
    _check_complete(rows, _names(given.problem.clients), names, "allocation")
    return rows


def by_name(given: object, menu: Menu) -> bool:
    """Whether what clients had before is told by the names of options, and not by widths.

    Widths tell where all options are widths, on either side; an allocation over other options is
    matched by their names, and so are strings.
    """
    if isinstance(given, Allocation):
        return not (menu.only_widths and given.problem.menu.only_widths)
    values = list(given.values()) if isinstance(given, Mapping) else given
    return any(isinstance(value, str) for value in np.asarray(values, dtype=object).ravel())


def client_options(
    given: Allocation | Mapping[str, str] | Sequence[str], clients: Clients, what: str
) -> npt.NDArray[np.object_]:
    """Option that each client had before, by the client's name, ``(n_clients,)``; "": newcomer.

    Bare names of options are in the order of the clients.

    Raises
    ------
    InputError
        If no client is in both, or what is given does not name options.
    """
    if isinstance(given, Allocation):
        options = list(given.options)
        rows = earlier_rows(given.problem.clients, clients, what)
    elif not isinstance(given, Mapping):
        options = list(name_list(list(given), what))
        if len(options) != len(clients):
            raise InputError(f"{what}: {len(options)} given for {len(clients)} clients")
        rows = np.arange(len(clients))
    else:
        options = list(name_list(list(given.values()), what))
        rows = _matched(distinct(given, f"{what}: names"), _names(clients), what)
    return np.array([options[row] if row >= 0 else "" for row in rows], dtype=object)


def earlier_rows(
    before: Clients | tuple[str, ...], now: Clients | tuple[str, ...], what: str
) -> IntArray:
    """Row of each client in an earlier fleet, by name; -1 for newcomers.

    Fleets of one size of which neither has names are taken to be the same clients in one order.

    Raises
    ------
    InputError
        If no client is in both, or they cannot be told to be the same for want of names.
    """
    unnamed = [isinstance(fleet, Clients) and fleet.names is None for fleet in (before, now)]
    if all(unnamed) and len(before) == len(now):
        return np.arange(len(now))
    old, new = _names(before), _names(now)
    if any(unnamed) and set(old) != set(new):
        raise InputError(
            f"{what} has {len(before)} clients, here are {len(now)}, and not all of them have "
            "names: give Clients(names=...) in both, so that it is known who is who"
        )
    return _matched(old, new, what)


def _names(clients: Clients | tuple[str, ...]) -> tuple[str, ...]:
    return clients.all_names if isinstance(clients, Clients) else clients


def _check_complete(
    rows: IntArray, before: tuple[str, ...], now: tuple[str, ...], what: str
) -> None:
    """Refuse fleets that differ, naming who is in one of them only."""
    absent = [now[row] for row in np.flatnonzero(rows < 0)]
    if absent:
        named = listed(absent, repr, most=_NAMED)
        raise InputError(f"{what} has no width for {named}: solve it for these clients")
    if len(before) > len(now):
        left = sorted(set(before) - set(now))
        named = listed(left, repr, most=_NAMED)
        raise InputError(f"{what} is also for {named}, not among the clients: solve it anew")


def _matched(before: tuple[str, ...], now: tuple[str, ...], what: str) -> IntArray:
    """Row of each client of a fleet in an earlier one, by name; -1 for newcomers."""
    found = _in_step(before, now)
    open_now = np.flatnonzero(found < 0)
    open_before = np.ones(len(before), dtype=bool)
    open_before[found[found >= 0]] = False
    rows = {before[row]: row for row in np.flatnonzero(open_before).tolist()}
    names = map(now.__getitem__, open_now.tolist())
    found[open_now] = np.fromiter(map(rows.get, names, repeat(-1)), np.int64, open_now.size)
    if (found < 0).all():
        raise InputError(
            f"{what} is for other clients: none of {listed(now, repr, most=_NAMED)} is among "
            f"{listed(before, repr, most=_NAMED)}; give one for these clients"
        )
    return found


def _in_step(before: tuple[str, ...], now: tuple[str, ...]) -> IntArray:
    """Row in the earlier fleet of each client that stands in the same order there; -1 of others.

    Fleets mostly keep their order from day to day. Runs of equal names are found without looking
    any of them up; where one client has left or joined, the next ones are tried.
    """
    old, new = np.array(before, dtype=object), np.array(now, dtype=object)
    found = np.full(new.size, -1)
    at, row, length, breaks = 0, 0, _SHORTEST, 0
    while at < old.size and row < new.size and breaks * _LEAST_RUN <= row + _PATIENCE:
        ahead = min(length, old.size - at, new.size - row)
        same = old[at : at + ahead] == new[row : row + ahead]
        run = same.size if same.all() else int(same.argmin())
        found[row : row + run] = np.arange(at, at + run)
        at, row, length = at + run, row + run, min(2 * length, _LONGEST)
        if run < same.size:
            left, joined = _skipped(before[at : at + _AHEAD], now[row : row + _AHEAD])
            at, row, length, breaks = at + left, row + joined, _SHORTEST, breaks + 1
    return found


def _skipped(before: tuple[str, ...], now: tuple[str, ...]) -> tuple[int, int]:
    """How many clients to pass over in either fleet until both go on with the same one."""
    for ahead in range(1, min(len(before), len(now))):
        if before[ahead] == now[0]:
            return ahead, 0
        if before[0] == now[ahead]:
            return 0, ahead
    return 1, 1
