"""Limits on groups of clients: one option for all of a group, and room for all groups together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import BoolArray, FloatArray, IntArray
from hasa_opt._utils.names import name_list
from hasa_opt._utils.rational import SAME_WIDTH, common_units, rational
from hasa_opt.errors import InputError
from hasa_opt.problem.limits import Row, Share, Terms
from hasa_opt.problem.menu import WIDTH

__all__ = ["Capacity", "CapacityRow", "GroupRow", "Groups", "SameOption", "SameRow"]


@dataclass(frozen=True, eq=False)
class Groups:
    """Who belongs together.

    Attributes
    ----------
    names : n_groups strings
        In the order of their first clients.
    of : (n_clients,) int64
        Group of each client.
    """

    names: tuple[str, ...]
    of: IntArray

    @classmethod
    def read(cls, given: Any, terms: Terms, what: str) -> Groups:
        """Read groups as the constraints take them.

        Parameters
        ----------
        given : (n_clients,) whole numbers or strings, object with ``groups``, or mapping
        terms : Terms
        what : str
            The constraint, for messages.

        Raises
        ------
        InputError
            For a label that is no name, or a client without a group.
        """
        clients = terms.clients
        labels = getattr(given, "groups", given)
        known = tuple(getattr(given, "names", None) or ())
        if set(known) == set(clients.all_names):
            labels = dict(zip(known, labels, strict=True))
        if isinstance(labels, Mapping):
            found = dict(terms.by_client(labels, what, "a group"))
            alone = [row for row in range(len(clients)) if row not in found]
            if alone:
                raise InputError(
                    f"{what} names no group of client {clients.name(alone[0])!r} ({len(alone)} "
                    "such client(s)): give each one, of its own where it belongs to nobody"
                )
            labels = [found[row] for row in range(len(clients))]
        named = name_list(labels, f"groups of {what}")
        if len(named) != len(clients):
            raise InputError(
                f"{what} has groups of {len(named)} clients, here are {len(clients)}: give one "
                "group per client, or a mapping of client name to group"
            )
        number = {name: at for at, name in enumerate(dict.fromkeys(named))}
        return cls(tuple(number), np.array([number[name] for name in named], dtype=np.int64))

    @cached_property
    def order(self) -> IntArray:
        """Rows of the clients, group by group."""
        return np.argsort(self.of, kind="stable")

    @cached_property
    def starts(self) -> IntArray:
        """Where each group begins in the order."""
        return np.searchsorted(self.of[self.order], np.arange(len(self.names)))

    @cached_property
    def sizes(self) -> IntArray:
        """Clients of each group."""
        return np.bincount(self.of)

    def fold(self, ufunc: np.ufunc, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Values of the clients ``(n_clients, ...)``, put together by group."""
        return np.asarray(ufunc.reduceat(values[self.order], self.starts, axis=0))


@dataclass(frozen=True, eq=False, kw_only=True)
class GroupRow(Row):
    """A limit on groups that no sum over clients states; its coefficients are 0.

    Solvers never see one: :class:`~hasa_opt.problem.condensed.Condensed` states it in plain rows.

    Attributes
    ----------
    groups : Groups
    """

    groups: Groups


def refuse_groups(rows: Iterable[Row]) -> None:
    """Refuse limits that a file does not keep: no row of numbers states them.

    Raises
    ------
    InputError
        Naming the first.
    """
    for row in rows:
        if isinstance(row, GroupRow):
            raise InputError(
                f"({row.label}) is a limit on groups, which a file of rows does not keep: build "
                "the problem without it to write or save it"
            )


@dataclass(frozen=True, eq=False, kw_only=True)
class SameRow(GroupRow):
    """All clients of a group follow one option; the total is how many do not.

    Attributes
    ----------
    follow : (n_clients, m) int64
        Option of a client where its group takes one; -1: the group cannot take it.
    """

    follow: IntArray

    def agreeing(self, choice: IntArray) -> IntArray:
        """Clients that have what an option of their group asks for, ``(n_groups, m)``."""
        return self.groups.fold(np.add, (self.follow == choice[:, None]).astype(np.int64))

    def total(self, choice: IntArray) -> int:
        """Clients that do not follow the option that most of their group do."""
        return int((self.groups.sizes - self.agreeing(choice).max(axis=1)).sum())


@dataclass(frozen=True, eq=False, kw_only=True)
class CapacityRow(GroupRow):
    """The largest values of all groups together are limited.

    Attributes
    ----------
    units : (m,) int64
        Value of each option.
    """

    units: IntArray

    def total(self, choice: IntArray) -> int:
        """Sum over the groups of the largest value that a client has."""
        return int(self.groups.fold(np.maximum, self.units[choice]).sum())


@dataclass(frozen=True, eq=False)
class SameOption:
    """All clients of a group take one option; lower only where they cannot.

    A group's option is one that at least one of its clients may take. A client that may not (by its
    cap, its list of options or a mask such as :class:`Fixed`) takes the widest option not above the
    group's that it may take, the first in the menu of several as wide. A client that may take
    none so narrow rules the option out for its group. ``skip`` is an option of width 0: a group is
    left out as a whole, and of a group that trains those clients are left out that may train
    nothing as narrow, if they may skip.

    At most one per problem.

    Parameters
    ----------
    groups : (n_clients,) whole numbers or strings, Partition, or mapping of client name to group
        Labels in the order of the clients; of anything with ``groups``, those. A mapping names
        every client.
    of : str
        The attribute that says which of two options is lower.

    Raises
    ------
    InputError
        When the problem is built: for a client without a group, or options without the attribute.

    Examples
    --------
    >>> import hasa_opt as hasa
    >>> clients = hasa.Clients([100, 100, 100], max_width=[1, 0.5, 1], names=["a", "b", "c"])
    >>> problem = hasa.AllocationProblem.build(
    ...     clients,
    ...     widths=[0.25, 0.5, 1],
    ...     budget=0.6,
    ...     utility=hasa.utility.alpha_fair(),
    ...     constraints=[hasa.SameOption(["photo", "photo", "scan"])],
    ... )
    >>> hasa.solve(problem, "highs").widths.tolist()
    [1.0, 0.5, 0.25]
    """

    groups: Any
    of: str = WIDTH

    def rows(self, terms: Terms) -> tuple[Row, ...]:
        """One row, which counts the clients that are out of line."""
        groups = Groups.read(self.groups, terms, "SameOption")
        follow = _followed(terms.menu.attribute(self.of), terms.admissible)
        held = groups.fold(np.logical_or, terms.admissible)
        follow[~held[groups.of]] = -1
        label = f"SameOption: one option in each of {len(groups.names)} groups"
        return (SameRow(label, _zeros(terms), upper=0, groups=groups, follow=follow),)


def _followed(values: FloatArray, admissible: BoolArray) -> IntArray:
    """What each client takes where its group takes an option, ``(n_clients, m)``; -1: nothing."""
    options = np.arange(values.size)
    order = np.lexsort((-options, values))  # of options as wide the first in the menu comes last
    place = np.maximum.accumulate(np.where(admissible[:, order], options, -1), axis=1)
    last = np.searchsorted(values[order], values + SAME_WIDTH, side="right") - 1
    widest = place[:, last]
    follow: IntArray = np.where(widest < 0, -1, order[widest])
    return np.where(admissible, options, follow)


@dataclass(frozen=True, eq=False)
class Capacity:
    """The widths of all groups together are at most this.

    For groups with units of their own inside one supernet. A group's width is the largest among
    its clients; under :class:`SameOption` of the same groups that is the width of its option.
    ``skip`` has width 0 and takes no room.

    Parameters
    ----------
    groups : (n_clients,) whole numbers or strings, Partition, or mapping of client name to group
        As for :class:`SameOption`.
    at_most : float
        At least 0; 1 is the supernet.
    of : str
        Another attribute of the options may take the place of "width".

    Raises
    ------
    InputError
        When the problem is built: for a client without a group, a negative room, or options
        without the attribute.

    Examples
    --------
    >>> import hasa_opt as hasa
    >>> problem = hasa.AllocationProblem.build(
    ...     hasa.Clients([100, 100, 100]),
    ...     widths=[0.25, 0.5, 0.75],
    ...     budget=0.75,
    ...     utility=hasa.utility.alpha_fair(),
    ...     constraints=[hasa.Capacity([0, 0, 1])],
    ... )
    >>> hasa.solve(problem, "highs").widths.tolist()
    [0.75, 0.75, 0.25]
    """

    groups: Any
    at_most: float = 1.0
    of: str = WIDTH

    def rows(self, terms: Terms) -> tuple[Row, ...]:
        """One row, in whole units of the attribute."""
        groups = Groups.read(self.groups, terms, "Capacity")
        room = rational(self.at_most, "Capacity at_most", snap=True)
        if room < 0:
            raise InputError(f"Capacity at_most {self.at_most} must be at least 0")
        values = terms.menu.attribute(self.of).tolist()
        units, denominator = common_units([rational(value, self.of, snap=True) for value in values])
        share = Share(room, denominator)
        label = (
            f"Capacity: {self.of} of {len(groups.names)} groups together at most "
            f"{float(room):.4g}, in units of {Fraction(1, denominator)}"
        )
        return (
            CapacityRow(
                label, _zeros(terms), upper=share.most, share=share, groups=groups, units=units
            ),
        )


def _zeros(terms: Terms) -> IntArray:
    return np.broadcast_to(np.int64(0), terms.shape)
