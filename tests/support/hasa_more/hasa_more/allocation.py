"""What the allocation side takes: a constraint, a resource, a score, a policy, a column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hasa_opt import Allocation, Clients, rules
from hasa_opt.clients.counts import dense, validate_counts
from hasa_opt.policies import Policy, Setting
from hasa_opt.problem import Row, Terms
from hasa_opt.problem.cost import CostTable, Resource

__all__ = ["BY_SAMPLES", "STANDBY", "Headcount", "cost_column", "missing_labels"]


@dataclass(frozen=True)
class Headcount:
    """At least so many clients take an option.

    Parameters
    ----------
    clients_at : mapping of width, or option name, to the smallest number of clients
    """

    clients_at: Mapping[float | str, int]

    def rows(self, terms: Terms) -> tuple[Row, ...]:
        """One row per option of the mapping."""
        return tuple(
            Row(
                f"Headcount: at least {count} clients at {key}",
                np.broadcast_to(chosen, terms.shape).astype(np.int64),
                lower=count,
            )
            for chosen, key, count in terms.by_option(self.clients_at, "Headcount", "a number")
        )


def standby(clients: Clients, units: npt.NDArray[np.int64], denominator: int) -> CostTable:
    """Energy of which half is spent whatever the width: samples times (1 + width)."""
    full = 2 * denominator * int(clients.samples.sum())
    return CostTable(clients.samples[:, None] * (denominator + units), full)


STANDBY = Resource(lambda: standby, profiled=False)


def missing_labels(counts: npt.ArrayLike | Any) -> npt.NDArray[np.float64]:
    """Share of the labels that a client has never counted, ``(n_clients,)``."""
    return np.asarray((dense(validate_counts(counts)) == 0).mean(axis=1))


def by_samples(setting: Setting) -> npt.NDArray[np.float64]:
    """Wider subnets for clients with more samples."""
    samples = setting.clients.samples
    return rules.hasa(samples.astype(np.float64), samples, **setting.limits)


BY_SAMPLES = Policy("by_samples", by_samples)


def cost_column(allocation: Allocation, row: int) -> str:
    """What a client costs, of the resource that the budget is spent on."""
    return f"{allocation.problem.costs[row, allocation.choice[row]]:,}"
