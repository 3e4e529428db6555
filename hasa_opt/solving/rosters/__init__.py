"""Rosters: who takes part in which round of a horizon, as an integer program."""

from hasa_opt.solving.rosters.problem import RosterProblem
from hasa_opt.solving.rosters.result import Roster
from hasa_opt.solving.rosters.solver import roster

__all__ = ["Roster", "RosterProblem", "roster"]
