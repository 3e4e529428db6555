"""Print which backend takes which constraint, as the registry says.

``python docs/registry_table.py`` prints the tables of ``docs/backends.rst``; a test compares.
"""

from __future__ import annotations

import hasa_opt as hasa
from hasa_opt.solvers.registry import Capability, SolverRecord

FEATURES = (
    "Budget",
    "Coverage",
    "Quota",
    "SiteBudgets",
    "Switches",
    "Robust",
    "Fairness(maxmin)",
    "Fairness(leximin)",
    "MinWidth",
    "Fixed",
    "Forbidden",
)


def constraint_table() -> str:
    """Constraints by backends, in reStructuredText."""
    lines = hasa.solvers()
    body = [[feature, *(takes(line, feature) for line in lines)] for feature in FEATURES]
    return simple_table([["constraint", *(line.name for line in lines)], *body])


def capability_table() -> str:
    """Capabilities by backends, in reStructuredText."""
    lines = hasa.solvers()
    names = {
        Capability.EXACT: "proves optima",
        Capability.TIME_LIMIT: "time limit",
        Capability.GAP: "stops at a gap",
        Capability.WARM_START: "warm start",
        Capability.INTERRUPT: "Ctrl-C keeps the best",
        Capability.SLACK_BUDGET: "only budgets that cannot bind",
    }
    body = [
        [name, *("yes" if item in line.capabilities else "--" for line in lines)]
        for item, name in names.items()
    ]
    return simple_table([["", *(line.name for line in lines)], *body])


def takes(line: SolverRecord, feature: str) -> str:
    """Whether a backend takes a constraint, or only beside no other row."""
    if feature in line.alone:
        return "alone"
    return "yes" if feature in line.constraints else "--"


def simple_table(rows: list[list[str]]) -> str:
    """A reStructuredText simple table; the first row is the head."""
    cells = [[cell or "\\" for cell in row] for row in rows]
    sizes = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rule = "  ".join("=" * size for size in sizes)
    head, *body = ("  ".join(map(str.ljust, row, sizes)).rstrip() for row in cells)
    return "\n".join([rule, head, rule, *body, rule])


if __name__ == "__main__":
    print(constraint_table(), capability_table(), sep="\n\n")
