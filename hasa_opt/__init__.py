"""Which subnet width should each federated client train?

The allocation side (clients, scores, rules, problems, solvers) is imported here; the learning
side (``federated``, ``models``, ``tasks``, ``Study``) needs the extra ``fl`` and is imported on
first use. See the README for a first example.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import hasa_opt.solvers  # noqa: F401  bound first, so that the function of that name stays
from hasa_opt import errors, rules
from hasa_opt._utils import VERSION
from hasa_opt._utils.installing import needing
from hasa_opt.clients import Clients
from hasa_opt.errors import HasaError, InfeasibleError, InputError
from hasa_opt.forecast import Headroom, Probe, headroom, probe
from hasa_opt.problem import (
    Allocation,
    AllocationProblem,
    AtLeast,
    Budget,
    Capacity,
    Clock,
    Coverage,
    Deadline,
    Fairness,
    FileProblem,
    Fixed,
    Forbidden,
    Menu,
    MinWidth,
    Quota,
    Robust,
    SameOption,
    SiteBudgets,
    Switches,
    Termination,
    cost,
    utility,
)
from hasa_opt.rules import scores
from hasa_opt.solvers.incumbent import Progress
from hasa_opt.solvers.registry import solvers
from hasa_opt.solving import (
    Changes,
    Comparison,
    Explanation,
    FileAllocation,
    Frontier,
    Sensitivity,
    Sweep,
    changes,
    compare,
    explain,
    frontier,
    sensitivity,
    solve,
    solve_continuous,
    solve_files,
    sweep,
    verify_files,
)
from hasa_opt.solving.grouping import Partition, PartitionProblem, partition

if TYPE_CHECKING:
    from hasa_opt import federated, models, tasks
    from hasa_opt.study import Study

__all__ = [
    "Allocation",
    "AllocationProblem",
    "AtLeast",
    "Budget",
    "Capacity",
    "Changes",
    "Clients",
    "Clock",
    "Comparison",
    "Coverage",
    "Deadline",
    "Explanation",
    "Fairness",
    "FileAllocation",
    "FileProblem",
    "Fixed",
    "Forbidden",
    "Frontier",
    "HasaError",
    "Headroom",
    "InfeasibleError",
    "InputError",
    "Menu",
    "MinWidth",
    "Partition",
    "PartitionProblem",
    "Probe",
    "Progress",
    "Quota",
    "Robust",
    "SameOption",
    "Sensitivity",
    "SiteBudgets",
    "Study",
    "Sweep",
    "Switches",
    "Termination",
    "changes",
    "compare",
    "cost",
    "errors",
    "explain",
    "federated",
    "frontier",
    "headroom",
    "models",
    "partition",
    "probe",
    "rules",
    "scores",
    "sensitivity",
    "solve",
    "solve_continuous",
    "solve_files",
    "solvers",
    "sweep",
    "tasks",
    "utility",
    "verify_files",
]

__version__ = VERSION

# Their files lie in rooms; `from hasa_opt.scores import jensen_shannon` works all the same.
sys.modules |= {f"{__name__}.{name}": globals()[name] for name in ("cost", "scores", "utility")}
_LAZY = {"Study": "hasa_opt.study"}
_LAZY_MODULES = ("federated", "models", "tasks")


def __getattr__(name: str) -> Any:
    with needing(f"hasa_opt.{name}", extra="fl"):
        if name in _LAZY_MODULES:
            return import_module(f"{__name__}.{name}")
        if name in _LAZY:
            return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
