"""The paper's rules: scores of how unlike the others a client's data are, and widths from them.

Closed formulas over columns of numbers. What needs a problem, a solver or a model lies elsewhere.
"""

from hasa_opt.rules.widths import (
    budget_miss,
    by_difficulty,
    capacity,
    easy_clients,
    falls_in_two,
    hasa,
    preliminary_widths,
    random,
    reverse,
    scaled_to_budget,
    uniform,
)

__all__ = [
    "budget_miss",
    "by_difficulty",
    "capacity",
    "easy_clients",
    "falls_in_two",
    "hasa",
    "preliminary_widths",
    "random",
    "reverse",
    "scaled_to_budget",
    "uniform",
]
