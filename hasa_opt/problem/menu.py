"""Menus: the options that a client chooses from, what each is, and what each costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import (
    BoolArray,
    FloatArray,
    IntArray,
    listed,
)
from hasa_opt._utils.decoding import Source
from hasa_opt._utils.frames import columns_of
from hasa_opt._utils.names import distinct, tidy
from hasa_opt._utils.rational import common_units, menu_units, rational, written
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InputError
from hasa_opt.problem.cost import Cost
from hasa_opt.problem.cost import width as width_cost
from hasa_opt.problem.menu_csv import read_options
from hasa_opt.problem.menu_fields import (
    COST,
    SKIP,
    WIDTH,
    Per,
    checked_allowed,
    checked_attributes,
    checked_costs,
    checked_option,
    checked_per,
)
from hasa_opt.problem.menu_frame import options_of, refuse_unknown_full

__all__ = ["COST", "SKIP", "WIDTH", "Menu"]


@dataclass(frozen=True, eq=False, init=False)
class Menu:
    """Named options, their attributes, and what each costs of every resource.

    Costs need not grow with anything, and a client may lack options. Give them to
    :meth:`hasa_opt.AllocationProblem.build`.

    Parameters
    ----------
    names : m distinct strings
        The options.
    costs : mapping of resource to whole numbers
        ``(n_clients, m)`` for each client; ``(m,)`` with ``per="client"``, the same for all, or
        ``per="sample"``, to be multiplied by each client's samples; a mapping of device class to
        ``(m,)``, with ``device``; or a cost family such as :func:`~hasa_opt.problem.cost.width`,
        which asks the attribute "width".
    per : {"client", "sample"} or mapping of resource to one of them, optional
        Whether a cost is what a client takes, or each of its samples: then it is multiplied by
        them. Costs of shape ``(m,)`` must say it, since a factor of the samples is not guessed;
        others are a client's by default. Cost families say it themselves.
    attributes : mapping of attribute to (m,) floats, optional
        What each option is: "width", "epochs", "depth", "rank" or any other number.
    allowed : (n_clients, m) bools, optional
        False where a client does not have an option. Default: all have all.
    full : str, optional
        The option that a budget share is a share of: 0.5 is half of what everybody would cost at
        this one. Default: cost families take width 1; other costs have no shares.
    device : (n_clients,) strings, optional
        Device class of each client, for costs by class. Default: as the clients say.
    clients : (n_clients,) strings, optional
        Whose the rows of costs, ``allowed`` and ``device`` are: they are matched by name.
        Default: the rows are in the order of the problem's clients.

    Raises
    ------
    InputError
        For a value that breaks one of these rules. What depends on the clients is checked when
        the problem is built.

    Examples
    --------
    >>> menu = Menu(
    ...     ["skip", "narrow", "wide"],
    ...     costs={"joules": [0, 3, 10]},
    ...     per="client",
    ...     attributes={"width": [0, 0.5, 1]},
    ...     full="wide",
    ... )
    >>> len(menu), menu.attributes["width"].tolist()
    (3, [0.0, 0.5, 1.0])
    """

    names: tuple[str, ...]
    costs: Mapping[str, Any]
    per: Mapping[str, Per]
    attributes: Mapping[str, FloatArray]
    allowed: BoolArray | None
    full: str | None
    device: tuple[str, ...] | None
    clients: tuple[str, ...] | None

    def __init__(
        self,
        names: Sequence[str],
        *,
        costs: Mapping[str, Any],
        per: Per | Mapping[str, Per] | None = None,
        attributes: Mapping[str, npt.ArrayLike] | None = None,
        allowed: npt.ArrayLike | None = None,
        full: str | None = None,
        device: Sequence[str] | None = None,
        clients: Sequence[str] | None = None,
    ) -> None:
        options = distinct(names, "names of options")
        if not options:
            raise InputError("the menu is empty: give at least one option")
        resources = checked_costs(costs)
        fields = {
            "names": options,
            "costs": resources,
            "per": checked_per(per, resources),
            "attributes": checked_attributes(attributes or {}, len(options)),
            "allowed": None if allowed is None else checked_allowed(allowed, len(options)),
            "full": None if full is None else checked_option(full, options, "full"),
            "device": None if device is None else tuple(tidy(name) for name in device),
            "clients": None if clients is None else distinct(clients, "clients of the menu"),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @classmethod
    def of_widths(
        cls,
        widths: Sequence[float] | FloatArray,
        *,
        skip: bool = False,
        cost: Cost | None = None,
    ) -> Menu:
        """Make a menu of widths: the shortest form.

        Parameters
        ----------
        widths : increasing floats in (0, 1]
        skip : bool
            Whether a client may be left out: an option "skip" of width 0 comes first.
        cost : Cost, optional
            Default: :func:`~hasa_opt.problem.cost.width`.

        Examples
        --------
        >>> Menu.of_widths([0.25, 0.5], skip=True).names
        ('skip', '0.25', '0.5')
        """
        units, denominator = menu_units(widths)
        values = (units / denominator).tolist()
        names = [written(width) for width in values]
        if skip:
            names, values = [SKIP, *names], [0.0, *values]
        return cls(
            names,
            costs={COST: width_cost() if cost is None else cost},
            attributes={WIDTH: values},
        )

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        option: str = "option",
        client: str | None = None,
        costs: Sequence[str],
        per: Per | Mapping[str, Per] | None = None,
        full: str | None = None,
    ) -> Menu:
        """Read a menu from a data frame of any library: a row for each option.

        Parameters
        ----------
        frame : data frame, or mapping of column to values
        option : str
            Column with the names of the options.
        client : str, optional
            Column with the names of the clients, where a row is a client's option: costs may
            differ between clients, and what has no row is not allowed.
        costs : sequence of str
            Columns of whole numbers, one for each resource. All other columns are attributes.
        per : {"client", "sample"}, optional
            As for :class:`Menu`; so is the next one.
        full : str, optional
            An option that all clients have.

        Raises
        ------
        InputError
            For a column that is missing, a row that stands twice, or an attribute that differs
            between the clients.
        """
        given = options_of(columns_of(frame, "the menu"), option, client, tuple(costs))
        refuse_unknown_full(given, full)
        return cls(**given, per=per, full=full)

    @classmethod
    def read_csv(
        cls,
        path: Source,
        clients: Clients,
        *,
        full: str | None = None,
        encoding: str | None = None,
        delimiter: str | None = None,
    ) -> Menu:
        """Read a menu from delimited text; :mod:`hasa_opt.problem.menu_csv` describes the format.

        Parameters
        ----------
        path : path, or file open for reading
            In text or binary mode; gzipped or not.
        clients : Clients
            Whose options these are: rows by client or by device class are joined with them.
        full : str, optional
            As for :meth:`from_frame`.
        encoding : str, optional
            As for :meth:`hasa_opt.Clients.read_csv`; so is the next one.
        delimiter : str, optional

        Raises
        ------
        InputError
            If the file is absent or empty, holds a value that breaks a rule, or leaves a client
            without any option; the message names the line and the column.
        """
        given = read_options(path, clients, encoding=encoding, delimiter=delimiter)
        refuse_unknown_full(given, full)
        return cls(**given, full=full)

    def __len__(self) -> int:
        return len(self.names)

    def ordered(self, clients: Clients) -> Menu:
        """The menu with its rows in the order of the clients, matched by name.

        Raises
        ------
        InputError
            If the menu is for other clients.
        """
        if self.clients is None:
            return self
        here = clients.all_names
        if set(here) != set(self.clients):
            alone = listed(sorted(set(here) ^ set(self.clients)), repr)
            raise InputError(
                f"the menu is for other clients than the problem: see {alone}; give a menu with "
                "the same clients"
            )
        at = {name: row for row, name in enumerate(self.clients)}
        rows = np.array([at[name] for name in here])
        device = None if self.device is None else [self.device[row] for row in rows]
        costs = {
            name: table[rows] if isinstance(table, np.ndarray) and table.ndim == 2 else table
            for name, table in self.costs.items()
        }
        return Menu(
            self.names,
            costs=costs,
            per=self.per,
            attributes=self.attributes,
            allowed=None if self.allowed is None else self.allowed[rows],
            full=self.full,
            device=device,
        )

    @property
    def resources(self) -> tuple[str, ...]:
        """Names of the resources, in their order."""
        return tuple(self.costs)

    @property
    def widths(self) -> FloatArray:
        """Width of each option, ``(m,)``.

        Raises
        ------
        InputError
            If the options have none.
        """
        return self.attribute(WIDTH)

    def attribute(self, name: str) -> FloatArray:
        """Values of an attribute, ``(m,)``.

        Raises
        ------
        InputError
            If the options do not have it.
        """
        name = tidy(name)
        if name not in self.attributes:
            known = listed(self.attributes, repr) or "none"
            raise InputError(
                f"the options have no attribute {name!r} (they have: {known}): give "
                f"Menu(attributes={{{name!r}: ...}})"
            )
        return self.attributes[name]

    @cached_property
    def units(self) -> tuple[IntArray, int] | None:
        """Widths as whole numbers and their common denominator; None without widths."""
        if WIDTH not in self.attributes:
            return None
        widths = self.attributes[WIDTH].tolist()
        return common_units([rational(width, WIDTH, snap=True) for width in widths])

    @cached_property
    def only_widths(self) -> bool:
        """Whether the options are widths and nothing else: named by their numbers."""
        return self.attributes.keys() == {WIDTH} and all(
            name == SKIP if width == 0 else name in (f"{width:g}", repr(width))
            for name, width in zip(self.names, self.widths.tolist(), strict=True)
        )

    @property
    def noun(self) -> str:
        """What an option is called in messages: "width" or "option"."""
        return "width" if self.only_widths else "option"

    def label(self, index: int) -> str:
        """One option in words."""
        if self.only_widths and self.names[index] != SKIP:
            return f"width {self.names[index]}"
        return f"option {self.names[index]!r}"

    def select(self, key: object, what: str) -> BoolArray:
        """Which options a name, or a width, stands for; ``(m,)`` bools.

        Raises
        ------
        InputError
            If there is none, with the options that there are.
        """
        if isinstance(key, str):
            name = tidy(key)
            if name in self.names:
                return np.array([option == name for option in self.names])
            raise InputError(
                f"{what} names option {key!r}, which is not in the menu ({listed(self.names)})"
            )
        wanted = rational(key, f"{what} width", snap=True)  # type: ignore[arg-type]
        if self.units is not None:
            units, denominator = self.units
            found = np.array([Fraction(int(unit), denominator) == wanted for unit in units])
            if found.any():
                return found
        values = listed(self.attributes.get(WIDTH, ()), lambda width: f"{width:g}")
        raise InputError(
            f"{what} names width {key}, which is not in the menu ({values or 'it has no widths'})"
        )
