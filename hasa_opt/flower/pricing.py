"""What rounds take of devices, by what they tell of themselves, and what that leaves to choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray, listed
from hasa_opt.errors import InfeasibleError, InputError
from hasa_opt.federated.menu import round_costs
from hasa_opt.flower.profiles import Profile
from hasa_opt.flower.settings import Settings
from hasa_opt.models import SupernetModel
from hasa_opt.models.profile import profile
from hasa_opt.problem.budgets import Budget
from hasa_opt.problem.clock import MILLIJOULES, MILLISECONDS, Clock
from hasa_opt.problem.limits import Constraint

__all__ = ["Prices"]

_ALWAYS = 1e12
"""Seconds: the deadline of whom nobody waits for with a clock."""

_DEADLINE = "deadline_s"


@dataclass(frozen=True, eq=False)
class Prices:
    """What devices can train, and what a round may take of them.

    Attributes
    ----------
    caps : (n_clients,) floats
        Widest width of each, by its own word, its memory and its deadline.
    constraints : tuple of Constraint
        Budgets of seconds and joules.
    clock : Clock, optional
        Of all devices, without their deadlines; None if one of them does not tell.
    """

    caps: FloatArray
    constraints: tuple[Constraint, ...] = ()
    clock: Clock | None = None

    @classmethod
    def again(cls, profiles: Sequence[Profile], caps: FloatArray) -> Self:
        """The prices of a run that goes on: what devices can train was found before."""
        return cls(caps, (), _clock(profiles))

    @classmethod
    def of(cls, profiles: Sequence[Profile], model: SupernetModel, settings: Settings) -> Self:
        """Price the widths of the menu.

        Raises
        ------
        InputError
            If devices do not tell what a limit asks for, or have not memory for any width.
        InfeasibleError
            If no width keeps a device's deadline.
        """
        caps = np.array([told.max_width for told in profiles])
        caps = np.minimum(caps, _by_memory(profiles, model, settings))
        clock, wanted = _clock(profiles), settings.budget_s or settings.budget_j
        limits = [told.clock.get(_DEADLINE, settings.deadline_s or _ALWAYS) for told in profiles]
        deadlines = np.minimum(limits, settings.deadline_s or _ALWAYS)
        if clock is None:
            if wanted or settings.deadline_s:
                raise _untold([told.name for told in profiles if not told.clock])
            return cls(caps)
        if not wanted and (deadlines == _ALWAYS).all():
            return cls(caps, (), clock)
        options = [(width, None) for width in settings.menu]
        samples = ((told.sample, told.samples) for told in profiles)
        costs = clock.costs(*round_costs(model, samples, options, settings.training))
        most = np.asarray(replace(clock, deadline_s=deadlines).deadline().at_most)
        caps = np.minimum(caps, _by_time(profiles, costs[MILLISECONDS], most, settings))
        return cls(caps, tuple(_budgets(costs, settings)), clock)


def _clock(profiles: Sequence[Profile]) -> Clock | None:
    """The clock of all devices, as far as all of them tell it."""
    names = set.intersection(*(set(told.clock) for told in profiles)) - {_DEADLINE}
    if not all(told.clock for told in profiles):
        return None
    return Clock(**{name: [told.clock[name] for told in profiles] for name in sorted(names)})


def _by_time(
    profiles: Sequence[Profile], taken: IntArray, limits: IntArray, settings: Settings
) -> FloatArray:
    """Widest width of each device within its deadline, ``(n_clients,)``."""
    within = taken <= limits[:, None]
    for row in np.flatnonzero(~within[:, 0]).tolist():
        raise InfeasibleError(
            f"device {profiles[row].name!r} takes {taken[row, 0] / 1000:g} s at the narrowest "
            f"width, above its deadline of {limits[row] / 1000:g} s: raise the deadline, or add a "
            "narrower width",
            limits=("Deadline",),
        )
    widest = within.cumprod(axis=1).sum(axis=1) - 1
    found: FloatArray = np.array(settings.menu, dtype=np.float64)[widest]
    return found


def _budgets(costs: dict[str, IntArray], settings: Settings) -> list[Constraint]:
    """Limits of what a round takes of all devices together."""
    wanted = {MILLISECONDS: settings.budget_s, MILLIJOULES: settings.budget_j}
    if settings.budget_j and MILLIJOULES not in costs:
        raise InputError(
            "hasa.budget-j asks what power the devices draw: give each a clock with compute_w and "
            "radio_w"
        )
    return [Budget(costs[name], int(1000 * limit), name) for name, limit in wanted.items() if limit]


def _by_memory(profiles: Sequence[Profile], model: SupernetModel, settings: Settings) -> FloatArray:
    """Widest width of each device whose training step its memory holds, ``(n_clients,)``."""
    caps, known = np.ones(len(profiles)), {}
    for row, told in enumerate(profiles):
        if not told.memory_bytes:
            continue
        key = told.shape, told.floating
        if key not in known:
            batch = told.sample.expand(settings.batch_size, *told.shape)
            known[key] = profile(model, settings.menu, batch, settings.training.optimizer)
        least = int(known[key].memory_bytes[0])
        if told.memory_bytes < least:
            raise InputError(
                f"device {told.name!r} has {told.memory_bytes:.0f} bytes, but width "
                f"{settings.menu[0]:g} takes {least} to train: leave it out, lower "
                "hasa.batch-size, or add a narrower width"
            )
        caps[row] = known[key].max_width([told.memory_bytes])[0]
    return caps


def _untold(names: Sequence[str]) -> InputError:
    return InputError(
        f"{listed([repr(name) for name in names])} do not tell their speed: give each "
        "Device(clock=Clock(...)), or leave hasa.deadline-s, hasa.budget-s and hasa.budget-j out"
    )
