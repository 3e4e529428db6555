"""Dynamic tiers: each client draws one of the menu's widths anew in each round."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np

from hasa_opt._utils.checks import FloatArray
from hasa_opt._utils.streams import Purpose, client_numbers, priorities
from hasa_opt.policies.policy import Policy
from hasa_opt.policies.setting import Setting
from hasa_opt.policies.subnets import Subnets
from hasa_opt.policies.whole_units import Meter, subnets_of
from hasa_opt.rules.widths import scaled_to_budget

__all__ = ["DynamicTiers", "tiers_of_round"]


class Seen(Protocol):
    """What of :class:`hasa_opt.federated.Seen` is looked at."""

    @property
    def round(self) -> int:
        """Rounds that have ended."""


def tiers_of_round(setting: Setting, number: int) -> FloatArray:
    """Draw a width of the menu for each client, scaled to the budget.

    Parameters
    ----------
    setting : Setting
    number : int
        The round; what a client draws is a function of the seed, the round and its name.

    Returns
    -------
    (n_clients,) floats
    """
    clients, menu = setting.clients, np.array(setting.widths)
    numbers = priorities(Purpose.POLICY, (setting.seed, number), client_numbers(clients.all_names))
    drawn = menu[(numbers / 2.0**64 * menu.size).astype(np.int64)]
    return scaled_to_budget(np.minimum(drawn, setting.caps), clients.samples, **setting.limits)


@dataclass(frozen=True, eq=False)
class DynamicTiers:
    """The dynamic mode of HeteroFL (arXiv:2010.01264), which FedRolex has too (arXiv:2212.01548).

    Each client draws a width of the menu, all alike likely, in each round; these are scaled to the
    budget. What whole units leave of it is spent in the rounds after.

    Attributes
    ----------
    setting : Setting
    meter : Meter
    rounds : int
        Of the run.
    scheme : str
        Name in :data:`hasa_opt.federated.SCHEMES`.
    """

    setting: Setting
    meter: Meter
    rounds: int
    scheme: str = "prefix"

    every: ClassVar[int] = 1

    def __call__(self, seen: Seen) -> Subnets:
        """What clients train in the next round."""
        return self._plan[seen.round]

    def describe(self) -> dict[str, Any]:
        """What tells it from others: all that it will decide."""
        widths = np.concatenate([subnets.widths for subnets in self._plan])
        return {"scheme": self.scheme, "plan": hashlib.sha256(widths.tobytes()).hexdigest()}

    @cached_property
    def _plan(self) -> tuple[Subnets, ...]:
        """Subnets of each round, which hang on nothing that is seen."""
        found: list[Subnets] = []
        left = self.setting.budget * self.rounds
        for number in range(self.rounds):
            setting = replace(self.setting, budget=left / (self.rounds - number))
            policy = Policy(
                "tiers",
                lambda setting, number=number: tiers_of_round(setting, number),  # type: ignore[misc]
                self.scheme,
            )
            found.append(subnets_of(policy, setting, self.meter, rounds=1).last_of(1))
            left -= found[-1].share or 0.0
        return tuple(found)
