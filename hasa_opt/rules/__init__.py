"""The paper's rules: scores of how unlike the others a client's data are, and widths from them.

Here belong closed formulas over columns of numbers: scores, what chance and privacy do to scores,
and widths. Whatever needs a problem, a solver or a model does not belong here, nor do policies,
which choose among these rules by name: see :mod:`hasa_opt.policies`.
"""

from hasa_opt.rules.groups import by_counts
from hasa_opt.rules.paper import PaperRule, paper_rule
from hasa_opt.rules.rotation import Found, by_updates
from hasa_opt.rules.widths import (
    budget_miss,
    capacity,
    exclude,
    hasa,
    preliminary_widths,
    random,
    reverse,
    smallest,
    uniform,
)

__all__ = [
    "Found",
    "PaperRule",
    "budget_miss",
    "by_counts",
    "by_updates",
    "capacity",
    "exclude",
    "hasa",
    "paper_rule",
    "preliminary_widths",
    "random",
    "reverse",
    "smallest",
    "uniform",
]
