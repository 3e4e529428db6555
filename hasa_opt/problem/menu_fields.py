"""Fields of a menu, checked: costs, attributes, and who has which option."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import BoolArray, FloatArray, array, float_array, listed
from hasa_opt._utils.names import keyed, tidy
from hasa_opt.errors import InputError
from hasa_opt.problem.cost import whole_costs

__all__ = [
    "COST",
    "SKIP",
    "WIDTH",
    "Per",
    "checked_allowed",
    "checked_attributes",
    "checked_costs",
    "checked_option",
    "checked_per",
]

SKIP = "skip"
"""Name of the option that leaves a client out of training, in menus made of widths."""

WIDTH = "width"
"""Attribute that says which share of the supernet an option trains; 0: none."""

COST = "cost"
"""Name of the only resource of a menu of widths."""


Per = Literal["client", "sample"]


def checked_costs(costs: Mapping[str, Any]) -> dict[str, Any]:
    """Costs by resource, as whole numbers where they are numbers."""
    if not isinstance(costs, Mapping) or not costs:
        raise InputError(
            f"costs {costs!r}: give a mapping of at least one resource to whole numbers, such as "
            '{"joules": [3, 10]}'
        )
    return {name: _numbers(name, given) for name, given in keyed(costs, "resources").items()}


def _numbers(resource: str, given: Any) -> Any:
    """Whole numbers as an array; a cost family, or rows by device class, as they are."""
    if callable(given) or isinstance(given, Mapping):
        return given
    return whole_costs(given, f"cost of {resource!r}")


def checked_per(
    per: Per | Mapping[str, Per] | None, resources: Mapping[str, Any]
) -> dict[str, Per]:
    """What the costs of each resource are for, where it is said."""
    if per is None:
        return {}
    given = keyed(per, "per") if isinstance(per, Mapping) else dict.fromkeys(resources, per)
    for resource, kind in given.items():
        if resource not in resources:
            raise InputError(
                f"per names {resource!r}, which is not among {listed(resources, repr)}"
            )
        if kind not in ("client", "sample"):
            raise InputError(f'per={kind!r} must be "client" or "sample"')
    return given


def checked_attributes(given: Mapping[str, npt.ArrayLike], size: int) -> dict[str, FloatArray]:
    """Attributes by name, each ``(size,)``, read-only; widths lie in [0, 1]."""
    found = {}
    for name, values in keyed(given, "attributes").items():
        found[name] = float_array(values, f"attribute {name!r}", (size,)).copy()
        found[name].flags.writeable = False
    widths = found.get(WIDTH)
    if widths is not None:
        for row in np.flatnonzero(~((widths >= 0) & (widths <= 1))):
            raise InputError(
                f"width {widths[row]} of option {row} must lie in [0, 1]: 1 is the whole supernet, "
                "0 leaves the client out"
            )
    return found


def checked_allowed(given: npt.ArrayLike, size: int) -> BoolArray:
    """A copy of which client has which option, ``(n_clients, size)``."""
    table = array(given, "allowed")
    if table.dtype != np.bool_ or table.ndim != 2 or table.shape[1] != size:
        raise InputError(
            f"allowed of {table.dtype}{table.shape}: give bools of shape (n_clients, {size})"
        )
    return table.copy()


def checked_option(name: str, options: tuple[str, ...], what: str) -> str:
    """The name of an option of the menu."""
    if tidy(name) not in options:
        raise InputError(f"{what}={name!r} is not an option: choose one of {listed(options, repr)}")
    return tidy(name)
