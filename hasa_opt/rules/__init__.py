"""The paper's rules: scores of how unlike the others a client's data are, and widths from them.

Closed formulas over columns of numbers. What needs a problem, a solver or a model lies elsewhere.
"""

from hasa_opt.rules.widths import (
    budget_miss,
    capacity,
    hasa,
    preliminary_widths,
    random,
    reverse,
    uniform,
)

__all__ = [
    "budget_miss",
    "capacity",
    "hasa",
    "preliminary_widths",
    "random",
    "reverse",
    "uniform",
]
