"""Menus: the options that a client chooses from, what each is, and what each costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import (
    BoolArray,
    FloatArray,
    IntArray,
    array,
    float_array,
    listed,
)
from hasa_opt._utils.frames import columns_of
from hasa_opt._utils.names import distinct, tidy
from hasa_opt._utils.rational import common_units, menu_units, rational, written
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InputError
from hasa_opt.problem.cost import Cost, whole_costs
from hasa_opt.problem.cost import width as width_cost
from hasa_opt.problem.menu_frame import options_of

__all__ = ["COST", "SKIP", "WIDTH", "Menu"]

SKIP = "skip"
"""Name of the option that leaves a client out of training, in menus made of widths."""

WIDTH = "width"
"""Attribute that says which share of the supernet an option trains; 0: none."""

COST = "cost"
"""Name of the only resource of a menu of widths."""


Per = Literal["client", "sample"]


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
        What a cost of shape ``(m,)`` is for. It has no default: a factor of the samples is not
        guessed.
    attributes : mapping of attribute to (m,) floats, optional
        What each option is: "width", "epochs", "depth", "rank" or any other number.
    allowed : (n_clients, m) bools, optional
        False where a client does not have an option. Default: all have all.
    full : str, optional
        The option that a budget share is a share of: 0.5 is half of what everybody would cost at
        this one. Default: cost families take width 1; other costs have no shares.
    device : (n_clients,) strings, optional
        Device class of each client, for costs by class.
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
        resources = _resources(costs)
        fields = {
            "names": options,
            "costs": resources,
            "per": _per(per, resources),
            "attributes": _attributes(attributes or {}, len(options)),
            "allowed": None if allowed is None else _allowed(allowed, len(options)),
            "full": None if full is None else _known(full, options, "full"),
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

        Raises
        ------
        InputError
            For a column that is missing, a row that stands twice, or an attribute that differs
            between the clients.
        """
        given = options_of(columns_of(frame, "the menu"), option, client, tuple(costs))
        return cls(**given, per=per, full=full)

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


def _resources(costs: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(costs, Mapping) or not costs:
        raise InputError(
            f"costs {costs!r}: give a mapping of at least one resource to whole numbers, such as "
            '{"joules": [3, 10]}'
        )
    names = distinct(list(costs), "resources")
    tables = [_numbers(name, given) for name, given in costs.items()]
    return dict(zip(names, tables, strict=True))


def _numbers(resource: str, given: Any) -> Any:
    """Whole numbers as an array; a cost family, or rows by device class, as they are."""
    if callable(given) or isinstance(given, Mapping):
        return given
    return whole_costs(given, f"cost of {resource!r}")


def _per(per: Per | Mapping[str, Per] | None, resources: Mapping[str, Any]) -> dict[str, Per]:
    if per is None:
        return {}
    given = per if isinstance(per, Mapping) else dict.fromkeys(resources, per)
    for resource, kind in given.items():
        if resource not in resources:
            raise InputError(
                f"per names {resource!r}, which is not among {listed(resources, repr)}"
            )
        if kind not in ("client", "sample"):
            raise InputError(f'per={kind!r} must be "client" or "sample"')
    return dict(given)


def _attributes(given: Mapping[str, npt.ArrayLike], size: int) -> dict[str, FloatArray]:
    found = {}
    for name, values in given.items():
        found[tidy(name)] = float_array(values, f"attribute {name!r}", (size,)).copy()
        found[tidy(name)].flags.writeable = False
    widths = found.get(WIDTH)
    if widths is not None:
        for row in np.flatnonzero(~((widths >= 0) & (widths <= 1))):
            raise InputError(
                f"width {widths[row]} of option {row} must lie in [0, 1]: 1 is the whole supernet, "
                "0 leaves the client out"
            )
    return found


def _allowed(given: npt.ArrayLike, size: int) -> BoolArray:
    table = array(given, "allowed")
    if table.dtype != np.bool_ or table.ndim != 2 or table.shape[1] != size:
        raise InputError(
            f"allowed of {table.dtype}{table.shape}: give bools of shape (n_clients, {size})"
        )
    return table.copy()


def _known(name: str, options: tuple[str, ...], what: str) -> str:
    if tidy(name) not in options:
        raise InputError(f"{what}={name!r} is not an option: choose one of {listed(options, repr)}")
    return tidy(name)
