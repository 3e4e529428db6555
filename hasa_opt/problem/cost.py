"""Cost families: what a client pays for each width, in exact integers.

A cost is called with the clients and the integer menu (``units[k] / denominator`` is width k)
and returns a :class:`CostTable`. A function of your own with that signature serves as well.
:data:`RESOURCES` names what a budget can be spent on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, IntArray, array, listed, whole_numbers
from hasa_opt._utils.rational import INT64_ROOM, SAME_WIDTH, outer_product, written
from hasa_opt._utils.registry import Registry
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InputError

__all__ = [
    "RESOURCES",
    "Cost",
    "CostTable",
    "Resource",
    "evaluated",
    "named",
    "per_client",
    "per_sample",
    "profiled",
    "quadratic",
    "table",
    "whole_costs",
    "width",
]

"""Widths this near are one width: far above the rounding of floats, far below a unit's share."""


class Profile(Protocol):
    """What the subnet of each width costs: such as :meth:`SupernetModel.profile` gives it."""

    @property
    def widths(self) -> FloatArray:
        """Increasing; the last one is 1, to which a budget share refers, ``(n_widths,)``."""

    @property
    def batch_size(self) -> int:
        """Samples of a training step, to which the operations belong."""


@dataclass(frozen=True, eq=False)
class CostTable:
    """Integer costs of every client at every width.

    Attributes
    ----------
    costs : (n_clients, n_widths) int64
        Non-negative.
    full : int
        Cost of all clients training the whole supernet: what a budget share refers to.
    """

    costs: IntArray
    full: int


Cost = Callable[[Clients, IntArray, int], CostTable]


def evaluated(cost: Cost, clients: Clients, units: IntArray, denominator: int) -> CostTable:
    """Call a cost.

    Raises
    ------
    InputError
        If it cannot be called with these arguments or gives no table.
    """
    remedy = "call a family, such as cost.width(), or give a function that returns a CostTable"
    try:
        priced = cost(clients, units, denominator)
    except TypeError as error:
        raise InputError(f"cost {cost!r} cannot be used ({error}): {remedy}") from error
    if not isinstance(priced, CostTable):
        raise InputError(f"cost gives a {type(priced).__name__}: {remedy}")
    return priced


def width() -> Cost:
    """Cost proportional to samples times width, the paper's budget (arXiv:2606.07621, eq. 4)."""
    return _power(1, "width cost")


def quadratic() -> Cost:
    """Cost proportional to samples times width squared, as the FLOPs of dense layers grow."""
    return _power(2, "quadratic cost")


def table(costs: npt.ArrayLike, *, full: int | None = None) -> Cost:
    """Costs from a table, for example measured FLOPs in an integer unit.

    Parameters
    ----------
    costs : (n_widths,) or (n_clients, n_widths) whole numbers of at least 0
        Per training sample at each width (multiplied by the client's samples), or per client.
    full : int, optional
        Cost at width 1, per sample or of all clients respectively. May be left out where the
        menu's last width is 1.

    Raises
    ------
    InputError
        When the problem is built, for a wrong shape, a negative or fractional cost, a total
        beyond 2**62, or a missing ``full``.
    """
    given = None
    if full is not None:
        reference = whole_costs([full])
        if reference.shape != (1,):
            raise InputError(f"full cost {full!r} must be one whole number")
        given = int(reference[0])

    def build(clients: Clients, units: IntArray, denominator: int) -> CostTable:
        values = whole_costs(costs)
        shapes = {(units.size,), (len(clients), units.size)}
        if values.shape not in shapes:
            raise InputError(
                f"cost table of shape {values.shape}: give {(units.size,)} costs per sample "
                f"or {(len(clients), units.size)} costs per client"
            )
        if given is None and units[-1] != denominator:
            raise InputError(
                "the menu does not hold width 1, so a budget share has no reference: "
                "give full= (the cost at width 1)"
            )
        if values.ndim == 1:
            reference = int(values[-1] if given is None else given)
            return CostTable(
                outer_product(clients.samples, values, "cost table"),
                reference * int(clients.samples.sum()),
            )
        return CostTable(values, int(values[:, -1].sum() if given is None else given))

    return build


def profiled(profile: Profile, resource: str = "flops") -> Cost:
    """What a device really pays, as measured on the user's own model.

    Parameters
    ----------
    profile : hasa_opt.models.Profile
        Of every width of the menu; see :meth:`hasa_opt.models.SupernetModel.profile`.
    resource : str
        A name in :data:`RESOURCES` that is profiled: "flops" counts the floating-point operations
        of each training sample; "parameters" and "transfer_bytes" count once per client, whatever
        its samples.

    Raises
    ------
    InputError
        For another resource; and, when the problem is built, if a width of the menu has not been
        profiled or a total exceeds 2**62.
    """
    known = [name for name, item in RESOURCES.items() if item.profiled]
    if resource not in known:
        raise InputError(
            f"unknown resource {resource!r}: use one of {', '.join(known)}; memory is no sum over "
            "clients, it caps each one: Clients(max_width=profile.max_width(memory_bytes))"
        )
    return RESOURCES[resource].cost(profile)


def per_sample(profile: Profile, resource: str) -> Cost:
    """What each training sample takes of a resource that a profile has measured for a batch.

    Parameters
    ----------
    profile : hasa_opt.models.Profile
    resource : str
        Attribute of the profile, ``(n_widths,)`` whole numbers.

    Raises
    ------
    InputError
        As for :func:`profiled`.
    """
    values = _measured(profile, resource)
    values = values // np.gcd.reduce([profile.batch_size, *values])

    def build(clients: Clients, units: IntArray, denominator: int) -> CostTable:
        chosen = values[_profiled_rows(profile, units / denominator)]
        return table(chosen, full=int(values[-1]))(clients, units, denominator)

    return build


def per_client(profile: Profile, resource: str) -> Cost:
    """What each client takes of a resource that a profile has measured, whatever its samples.

    Parameters and errors as for :func:`per_sample`.
    """
    values = _measured(profile, resource)

    def build(clients: Clients, units: IntArray, denominator: int) -> CostTable:
        chosen = values[_profiled_rows(profile, units / denominator)]
        each = np.tile(chosen, (len(clients), 1))
        return table(each, full=int(values[-1]) * len(clients))(clients, units, denominator)

    return build


@dataclass(frozen=True)
class Resource:
    """Something that a budget can be spent on.

    Attributes
    ----------
    cost : callable
        Gives the :data:`Cost`: called with a profile of the supernet if it is profiled, else with
        nothing.
    profiled : bool
        Whether it is measured on the supernet.
    """

    cost: Callable[..., Cost]
    profiled: bool = True


RESOURCES: Registry[Resource] = Registry(
    "resources",
    {
        "width": Resource(width, profiled=False),
        "quadratic": Resource(quadratic, profiled=False),
        "flops": Resource(partial(per_sample, resource="flops")),
        "parameters": Resource(partial(per_client, resource="parameters")),
        "transfer_bytes": Resource(partial(per_client, resource="transfer_bytes")),
    },
)
"""What a budget can be spent on, by name."""


def named(resource: str) -> Cost:
    """Cost of a resource that is known without a profile of the supernet.

    Raises
    ------
    InputError
        Naming those that are.
    """
    if resource in RESOURCES and not RESOURCES[resource].profiled:
        return RESOURCES[resource].cost()
    known = [name for name, item in RESOURCES.items() if not item.profiled]
    raise InputError(f"cost {resource!r} is not known: choose from {', '.join(known)}")


def _measured(profile: Profile, resource: str) -> IntArray:
    """Values of a profile, ``(n_widths,)``."""
    if not hasattr(profile, resource):
        raise InputError(
            f"profile is a {type(profile).__name__}: give what model.profile() returns"
        )
    return whole_costs(getattr(profile, resource), resource)


def _profiled_rows(profile: Profile, menu: FloatArray) -> IntArray:
    """Find the row of each width of a menu in a profile."""
    distance = np.abs(profile.widths - menu[:, None])
    missing = menu[distance.min(axis=1) > SAME_WIDTH]
    if missing.size:
        raise InputError(
            f"width {written(missing[0])} of the menu has not been profiled, only "
            f"{listed(profile.widths)} have: call model.profile() with the whole menu"
        )
    rows: IntArray = distance.argmin(axis=1)
    return rows


def _power(exponent: int, what: str) -> Cost:
    def build(clients: Clients, units: IntArray, denominator: int) -> CostTable:
        powers = np.array([int(unit) ** exponent for unit in units], dtype=object)
        reference = denominator**exponent * int(clients.samples.sum())
        if reference > INT64_ROOM:
            raise InputError(
                f"{what}: the full cost {reference} exceeds 2**62 and would overflow: "
                "count samples in larger units or round the widths"
            )
        return CostTable(outer_product(clients.samples, powers.astype(np.int64), what), reference)

    return build


def whole_costs(costs: npt.ArrayLike, what: str = "cost") -> IntArray:
    """Return a table of whole numbers from 0 to 2**62 as int64, or say which entry is not one."""
    values = array(costs, what)
    if values.dtype.kind not in "iufO":
        raise InputError(f"{what}: {values.dtype} given: give whole numbers")
    remedy = "; give whole numbers from 0 to 2**62, of a smaller unit if need be: MFLOPs for GFLOPs"
    whole = whole_numbers(
        values,
        lambda at, value: f"{what}: {value}" + f" at {at[0] if len(at) == 1 else at}" * bool(at),
        remedy=remedy,
    )
    if whole.max(initial=0) > INT64_ROOM:
        raise InputError(f"{what}: {whole.max()} is too large{remedy}")
    return whole
