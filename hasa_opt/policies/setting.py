"""What a policy may look at: columns of training data, scores, a menu of widths and a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from hasa_opt._utils.checks import FloatArray
from hasa_opt.clients.clients import Clients
from hasa_opt.clients.counts import Counts
from hasa_opt.errors import InputError
from hasa_opt.problem import utility
from hasa_opt.problem.choices import Coverage
from hasa_opt.problem.cost import Cost
from hasa_opt.problem.cost import width as width_cost
from hasa_opt.problem.limits import Constraint
from hasa_opt.problem.problem import AllocationProblem

__all__ = ["MENU", "Measured", "Setting", "at_widest"]

MENU = (0.2, 0.35, 0.5, 0.65, 0.8)
"""Widths where none are given: five equal steps between the ends of the paper's range."""


class Measured(Protocol):
    """What a probe has measured, as far as a policy looks at it."""

    @property
    def utility(self) -> FloatArray:
        """What each client gains at each width, ``(n_clients, n_widths)``."""


@dataclass(frozen=True, eq=False)
class Setting:
    """What a policy may look at; the test data are not part of it.

    Attributes
    ----------
    clients : Clients
    scores : (n_clients,) floats
    budget : float
    widths : tuple of float
        The menu; its ends bound the continuous rules.
    seed : int
        For policies that draw.
    cost : Cost
        What the budget is spent on.
    probe : callable, optional
        Measures what each client gains from width, on training data.
    constraints : tuple of Constraint
        Limits beside the budget, which only integer programs keep.
    level : float, optional
        Width at which everybody alike would spend the budget. Default: the budget.
    """

    clients: Clients
    scores: FloatArray
    budget: float
    widths: tuple[float, ...] = MENU
    seed: int = 0
    cost: Cost = field(default_factory=width_cost)
    probe: Callable[[], Measured] | None = None
    level: float | None = None
    constraints: tuple[Constraint, ...] = ()

    @property
    def counts(self) -> Counts:
        """Training samples of each client by label.

        Raises
        ------
        InputError
            If they are not known.
        """
        if self.clients.counts is None:
            raise InputError(
                "the policy looks at the clients' counts of labels, which are not known: give "
                "Clients(counts=...), or choose another policy"
            )
        return self.clients.counts

    @property
    def ends(self) -> tuple[float, float]:
        """Narrowest and widest width."""
        return self.widths[0], self.widths[-1]

    @property
    def caps(self) -> FloatArray:
        """Widest width of each client within the menu, ``(n_clients,)``."""
        return self.clients.caps(self.widths[-1])

    @property
    def limits(self) -> dict[str, Any]:
        """Budget, range of widths and caps, as the rules take them."""
        return {"budget": self.budget, "widths": self.ends, "caps": self.caps}

    def problem(
        self, worth: utility.Utility | None = None, constraints: Sequence[Constraint] = ()
    ) -> AllocationProblem:
        """The integer program of the setting, by default with the HASA utility."""
        return AllocationProblem.build(
            self.clients,
            widths=self.widths,
            budget=self.budget,
            utility=worth or utility.hasa(self.scores),
            cost=self.cost,
            constraints=[*self.constraints, *constraints],
        )


def at_widest(widths: Sequence[float] | FloatArray, share: float) -> list[Constraint]:
    """Limit that puts at least a share of the training samples at the widest subnet; 0: none."""
    return [Coverage({float(widths[-1]): share})] if share else []
