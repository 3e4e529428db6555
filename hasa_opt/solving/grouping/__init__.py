"""Who belongs together: clients in groups of the largest total similarity.

The problem, the heuristic, bounds that are proven here, the integer program that the backends of
:mod:`hasa_opt.solvers` are handed, and the verdict on what they answer. What groups are for, or
where similarities come from, does not belong here.
"""

from hasa_opt.solving.grouping.problem import PartitionProblem
from hasa_opt.solving.grouping.result import Partition
from hasa_opt.solving.grouping.solver import partition

__all__ = ["Partition", "PartitionProblem", "partition"]
