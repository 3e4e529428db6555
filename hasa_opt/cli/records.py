"""What the commands on allocations write and print of a result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from hasa_opt._utils.checks import FloatArray
from hasa_opt.problem.menu import WIDTH
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Allocation
from hasa_opt.rules.paper import PaperRule, paper_rule

__all__ = ["columns_of", "limits_told", "record_of", "rule_beside"]

_TOLD = 12
"""Limits that are told line by line: a screen has room for no more."""


def rule_beside(problem: AllocationProblem, scores: FloatArray) -> PaperRule:
    """The paper's rule between the ends of the menu, under the same budget and caps."""
    clients, widths = problem.clients, (float(problem.widths[0]), float(problem.widths[-1]))
    return paper_rule(
        scores, clients.samples, budget=problem.share, widths=widths, caps=clients.caps(widths[1])
    )


def columns_of(result: Allocation, *, everything: bool) -> dict[str, list[Any]]:
    """What each client takes, by the heading of the column: all that is known, or its width."""
    clients = result.problem.clients
    columns = result.columns if everything else {"width": result.widths.tolist()}
    return {"name": list(clients.all_names), "samples": clients.samples.tolist()} | columns


def record_of(result: Allocation, columns: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """A result as JSON has it."""
    problem = result.problem
    chosen = {"options": result.options.tolist()}
    if WIDTH in problem.menu.attributes:
        chosen["widths"] = result.widths.tolist()
    return {
        "solver": result.solver,
        "termination": str(result.termination),
        "incumbent_from": result.incumbent_from,
        "objective": result.objective,
        "bound": result.bound,
        "gap": result.gap,
        "resource": problem.resource,
        "spent": result.spending[problem.resource],
        "limit": problem.budgets.get(problem.resource),
        "spent_share": None if problem.full_cost is None else result.spent_share,
        "price": result.price,
        "seconds": result.seconds,
        "spending": result.spending,
        "limits": problem.budgets,
        "standings": [asdict(each) | {"binds": each.binds} for each in result.standings],
    } | {name: dict(zip(columns["name"], values, strict=True)) for name, values in chosen.items()}


def limits_told(result: Allocation) -> Iterator[str]:
    """A line for each limit, where there are more than the budget: value, bound, does it bind."""
    every = result.standings
    if len(every) == 1:
        return
    yield from map(str, every[:_TOLD])
    if len(every) > _TOLD:
        yield f"and {len(every) - _TOLD} more limits: --json lists all"
