"""Limits on what clients choose: shares of the samples, numbers of clients, single options."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import BoolArray, float_array, listed, number
from hasa_opt._utils.rational import SAME_WIDTH, rational, written
from hasa_opt.errors import InfeasibleError, InputError
from hasa_opt.problem.cost import whole_costs
from hasa_opt.problem.limits import Row, Share, Terms, items, whole
from hasa_opt.problem.matching import by_name, client_options, client_widths
from hasa_opt.problem.menu import WIDTH
from hasa_opt.problem.result import Allocation

__all__ = [
    "AtLeast",
    "Coverage",
    "Deadline",
    "Fixed",
    "Forbidden",
    "MinWidth",
    "Quota",
    "Switches",
]


@dataclass(frozen=True)
class Coverage:
    """At least a share of the training samples sits on clients at or above a width.

    Keeps the outermost units of the supernet trained. The samples of all clients count, also of
    those that are left out of training.

    Parameters
    ----------
    shares : mapping of width to share in [0, 1]
        Each width must stand in the menu.
    attribute : str
        Another attribute of the options may take the place of "width".

    Examples
    --------
    >>> Coverage({0.8: 0.1})
    Coverage(shares={0.8: 0.1}, attribute='width')
    """

    shares: Mapping[float, float]
    attribute: str = WIDTH

    def rows(self, terms: Terms) -> tuple[Row, ...]:
        """One row per value of the mapping."""
        samples = terms.clients.samples
        values = terms.menu.attribute(self.attribute)
        rows = []
        for level, key, given in self._levels(terms):
            wanted = rational(given, "share", snap=True)
            if not 0 <= wanted <= 1:
                raise InputError(
                    f"Coverage share {given} of {self.attribute} {key} must lie in [0, 1]"
                )
            more = "wider" if self.attribute == WIDTH else "more"
            label = (
                f"Coverage: {float(wanted):.4g} of the samples at {self.attribute} {key} or {more}"
            )
            share = Share(wanted, int(samples.sum()))
            enough = samples[:, None] * (values >= level - SAME_WIDTH)
            rows.append(Row(label, enough, lower=ceil(wanted * share.of), share=share))
        return tuple(rows)

    def _levels(self, terms: Terms) -> Iterator[tuple[float, float, float]]:
        """Each least value, as the menu has it, with its key and its share."""
        values = terms.menu.attribute(self.attribute)
        if self.attribute == WIDTH:
            for chosen, key, share in terms.by_option(self.shares, "Coverage", "a share"):
                yield float(values[chosen][0]), key, share
            return
        for key, share in items(self.shares, "Coverage", "a share"):
            level = number(key, "Coverage")
            if not (np.abs(values - level) <= SAME_WIDTH).any():
                raise InputError(
                    f"Coverage names {self.attribute} {written(level)}, which is not in the menu "
                    f"({listed(sorted(set(values.tolist())), written)})"
                )
            yield level, key, share


@dataclass(frozen=True, eq=False)
class AtLeast:
    """No option below this value of an attribute.

    Parameters
    ----------
    attribute : str
        An attribute of the menu, such as "epochs".
    least : float or (n_clients,) floats
    """

    attribute: str
    least: npt.ArrayLike

    def mask(self, terms: Terms) -> BoolArray:
        """Options at or above the least value."""
        return _at_least(terms, self.attribute, self.least, "AtLeast", "value")


@dataclass(frozen=True, eq=False)
class MinWidth:
    """No subnet narrower than this.

    Parameters
    ----------
    widths : float or (n_clients,) floats
    """

    widths: npt.ArrayLike

    def mask(self, terms: Terms) -> BoolArray:
        """Widths at or above the least one."""
        return _at_least(terms, WIDTH, self.widths, "MinWidth", "width")


def _at_least(
    terms: Terms, attribute: str, least: npt.ArrayLike, what: str, noun: str
) -> BoolArray:
    given = float_array(least, what)
    if given.shape not in ((), terms.shape[:1]):
        raise InputError(f"{what} has shape {given.shape}: give one {noun}, or one per client")
    levels = np.broadcast_to(given, terms.shape[:1])
    enough: BoolArray = terms.menu.attribute(attribute) >= levels[:, None] - SAME_WIDTH
    return enough


@dataclass(frozen=True, eq=False)
class Deadline:
    """No option that takes a client more of a resource than this: seconds, bytes of memory.

    Parameters
    ----------
    resource : str
        A resource of the menu.
    at_most : int or (n_clients,) integers
        In the unit of the resource.
    """

    resource: str
    at_most: npt.ArrayLike

    def mask(self, terms: Terms) -> BoolArray:
        """Options within the limit of each client."""
        costs = terms.costs_of(self.resource, "Deadline")
        limits = whole_costs(self.at_most, f"Deadline of {self.resource!r}")
        if limits.shape not in ((), terms.shape[:1]):
            raise InputError(
                f"Deadline of {self.resource!r} has shape {limits.shape}: give one number, or one "
                "per client"
            )
        within: BoolArray = costs <= np.broadcast_to(limits, terms.shape[:1])[:, None]
        for row in np.flatnonzero(~within.any(axis=1)):
            best = int(costs[row].argmin())
            raise InfeasibleError(
                f"Deadline leaves {terms.clients.name(int(row))!r} (row {row}) no option: "
                f"{terms.menu.label(best)} takes the least, {costs[row, best]} {self.resource}, "
                f"above {np.broadcast_to(limits, terms.shape[:1])[row]}: raise the limit or add an "
                "option that takes less",
                limits=("Deadline",),
            )
        return within


@dataclass(frozen=True)
class Fixed:
    """Clients whose option is given.

    Parameters
    ----------
    widths : mapping of client name or row to option name or width
        A width stands for all options of this width.
    """

    widths: Mapping[str | int, float | str]

    def mask(self, terms: Terms) -> BoolArray:
        """All options for the others, those named for these."""
        allowed = np.ones(terms.shape, dtype=bool)
        for row, option in terms.by_client(self.widths, "Fixed", "an option or a width"):
            allowed[row] = terms.menu.select(option, "Fixed")
        return allowed


@dataclass(frozen=True)
class Forbidden:
    """Options that single clients must not have.

    Parameters
    ----------
    widths : mapping of client name or row to option names or widths
    """

    widths: Mapping[str | int, Iterable[float | str]]

    def mask(self, terms: Terms) -> BoolArray:
        """All options but these."""
        allowed = np.ones(terms.shape, dtype=bool)
        for row, options in terms.by_client(self.widths, "Forbidden", "options or widths"):
            for option in np.atleast_1d(np.asarray(options, dtype=object)):
                allowed[row, terms.menu.select(option, "Forbidden")] = False
        return allowed


@dataclass(frozen=True)
class Quota:
    """At most so many clients train at a width, or take an option.

    Parameters
    ----------
    clients_at : mapping of option name or width to the largest number of clients
        Each must stand in the menu.

    Examples
    --------
    >>> Quota({0.8: 2})
    Quota(clients_at={0.8: 2})
    """

    clients_at: Mapping[float | str, int]

    def rows(self, terms: Terms) -> tuple[Row, ...]:
        """One row per option of the mapping."""
        rows = []
        for chosen, key, limit in terms.by_option(self.clients_at, "Quota", "a number of clients"):
            what = f"option {key!r}" if isinstance(key, str) else f"width {key}"
            most = whole(limit, f"Quota {limit!r} of {what}")
            column = np.broadcast_to(chosen.astype(np.int64), terms.shape)
            rows.append(Row(f"Quota: at most {most} clients at {what}", column, upper=most))
        return tuple(rows)


@dataclass(frozen=True, eq=False)
class Switches:
    """Re-allocation with a cap on the number of clients whose option changes.

    Parameters
    ----------
    previous : Allocation, mapping of client name to option name or width, or (n_clients,) of these
        What each client had before. The first two are matched by name: whoever joined or
        left since does not count as a change. Bare values are in the order of the clients.
    at_most : int

    Raises
    ------
    InputError
        When the problem is built, for widths of other clients or a number below 0.
    """

    previous: Allocation | Mapping[str, float | str] | npt.ArrayLike
    at_most: int

    def rows(self, terms: Terms) -> tuple[Row, ...]:
        """One row that counts the changes; what is not in the menu any more is a change."""
        most = whole(self.at_most, f"Switches at_most {self.at_most!r}")
        kept = _kept_options(self.previous, terms)
        label = f"Switches: at most {most} clients change {terms.menu.noun}"
        return (Row(label, (~kept).astype(np.int64), upper=most),)


def _kept_options(previous: Any, terms: Terms) -> BoolArray:
    """Options that count as unchanged for each client, ``(n_clients, m)``: all for newcomers."""
    what = "Switches: previous widths"
    if by_name(previous, terms.menu):
        before = client_options(previous, terms.clients, "Switches: previous options")
        names = np.array(terms.menu.names, dtype=object)
        kept: BoolArray = (before[:, None] == names) | (before == "")[:, None]
        return kept
    widths = client_widths(previous, terms.clients, what, newcomers=True)
    kept = np.abs(widths[:, None] - terms.menu.widths) <= SAME_WIDTH
    return kept | np.isnan(widths)[:, None]
