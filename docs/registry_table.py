"""Print which backend takes which constraint, as the registry says.

``python docs/registry_table.py`` prints the tables of ``docs/backends.rst``; a test compares.
"""

from __future__ import annotations

import hasa_opt as hasa
from hasa_opt.problem import CONSTRAINTS
from hasa_opt.solvers.registry import Capability


def constraint_table() -> str:
    """Constraints by backends, in reStructuredText."""
    records = hasa.solvers()
    stances = {"yes": "yes", "alone": "alone", "no": "--"}
    body = [
        [name, *(stances[record.stance(item)] for record in records)]
        for name, item in CONSTRAINTS.items()
    ]
    return simple_table([["constraint", *(record.name for record in records)], *body])


def capability_table() -> str:
    """Capabilities by backends, in reStructuredText."""
    records = hasa.solvers()
    names = {
        Capability.EXACT: "proves optima",
        Capability.TIME_LIMIT: "time limit",
        Capability.GAP: "stops at a gap",
        Capability.WARM_START: "warm start",
        Capability.PROGRESS: "tells what it finds",
        Capability.SLACK_BUDGET: "only budgets that cannot bind",
        Capability.PARTITION: "partitions",
    }
    body = [
        [name, *("yes" if item in record.capabilities else "--" for record in records)]
        for item, name in names.items()
    ]
    return simple_table([["", *(record.name for record in records)], *body])


def simple_table(rows: list[list[str]]) -> str:
    """A reStructuredText simple table; the first row is the head."""
    cells = [[cell or "\\" for cell in row] for row in rows]
    sizes = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rule = "  ".join("=" * size for size in sizes)
    head, *body = ("  ".join(map(str.ljust, row, sizes)).rstrip() for row in cells)
    return "\n".join([rule, head, rule, *body, rule])


if __name__ == "__main__":
    print(constraint_table(), capability_table(), sep="\n\n")
