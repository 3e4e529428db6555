"""Solving rosters: prices for any size, then a search by HiGHS where the program is small."""

from __future__ import annotations

import time
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, eye_array, hstack, kron

from hasa_opt._utils.checks import BoolArray, number
from hasa_opt._utils.deadline import Deadline
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InfeasibleError, InputError, NoSolutionError
from hasa_opt.solving.rosters.prices import by_prices
from hasa_opt.solving.rosters.problem import RosterProblem
from hasa_opt.solving.rosters.repair import repaired
from hasa_opt.solving.rosters.result import Roster

__all__ = ["roster"]

_SEARCHED = 20_000
"""Clients times rounds up to which HiGHS searches on."""
_CLOSED = 1e-4
"""Relative gap at which a search is not worth its time."""
_NONE = 2
"""Status of scipy's ``milp`` for a program without a solution."""
_ROUNDING = 1e-6
"""How far a bound may be from the whole number that it stands for."""


def roster(
    clients: Clients,
    energy: npt.ArrayLike,
    rounds: int,
    *,
    available: npt.ArrayLike | None = None,
    energy_each: npt.ArrayLike | None = None,
    energy_total: int | None = None,
    every: int | None = None,
    share: float | None = None,
    solver: Literal["auto", "prices", "highs"] = "auto",
    time_limit_s: float = 60.0,
) -> Roster:
    """Choose who takes part in which round, within the energy of each client and of all.

    Prices and repair answer at any size, with a bound (Dantzig and Wolfe 1960); up to 20,000 pairs
    of client and round HiGHS searches on with what is left of the time.

    Parameters
    ----------
    clients, energy, rounds, available, energy_each, energy_total, every, share
        As for :class:`RosterProblem`.
    solver : {"auto", "prices", "highs"}
        "highs" searches at any size, and where the gap is small.
    time_limit_s : float
        Of the whole call.

    Returns
    -------
    Roster
        Verified in whole numbers.

    Raises
    ------
    InputError
        For a value that breaks a rule.
    InfeasibleError
        If no roster keeps the limits, with what would.
    NoSolutionError
        If none was found.

    Examples
    --------
    >>> import hasa_opt as hasa
    >>> from hasa_opt.solving.rosters import roster
    >>> clients = hasa.Clients([30, 20, 20, 10])
    >>> plan = roster(clients, [3, 2, 1, 1], 4, energy_each=[6, 4, 4, 2], every=4)
    >>> plan.objective, plan.gap < 1e-6
    (0.625, True)
    """
    started = time.perf_counter()
    if solver not in ("auto", "prices", "highs"):
        raise InputError(f'solver {solver!r} is not known: use "auto", "prices" or "highs"')
    time_limit_s = number(time_limit_s, "time_limit_s", infinite=True)
    if not time_limit_s > 0:
        raise InputError(f"time_limit_s = {time_limit_s} must be above 0")
    problem = RosterProblem(
        clients, energy, rounds, available=available, energy_each=energy_each,
        energy_total=energy_total, every=every, share=share,
    )  # fmt: skip
    deadline = Deadline.after(time_limit_s)
    _refuse_too_much(problem, deadline)
    near, bound = by_prices(problem, deadline)
    present = repaired(problem, near, deadline)
    found = None if problem.faults(present) else _made(problem, present, bound, "prices", started)
    small = len(problem) * rounds <= _SEARCHED
    open_ = found is None or found.gap > _CLOSED
    if solver == "highs" or (solver == "auto" and small and open_):
        found = _searched(problem, found, bound, deadline, started)
    if found is None:
        raise NoSolutionError(
            f"no roster was found in {time_limit_s:g} s that keeps the limits: raise the energy, "
            "or give more time"
        )
    return found


def _made(
    problem: RosterProblem, present: BoolArray, bound: float, solver: str, started: float
) -> Roster:
    """A roster with its bound: samples of a round as a share, and energy; both are whole."""
    total = float(problem.clients.samples.sum())
    if problem.needed:
        told = max(0.0, float(np.ceil(bound - _ROUNDING)))
    else:
        told = min(float(np.floor(bound + _ROUNDING)) / total, 1.0)
    return Roster(problem, present, told, solver, time.perf_counter() - started)


def _refuse_too_much(problem: RosterProblem, deadline: Deadline) -> None:
    """Refuse a share that no roster gives to each round."""
    if problem.share is None:
        return
    free = RosterProblem(
        problem.clients, problem.energy, problem.rounds, available=problem.available,
        energy_each=problem.energy * problem.most, energy_total=problem.energy_total,
        every=problem.every,
    )  # fmt: skip
    _, most = by_prices(free, deadline)
    if most < problem.needed:
        raise InfeasibleError(
            f"share {problem.share:g} is above what any roster gives to each round "
            f"(at most {most / problem.clients.samples.sum():.4g}): ask for less, or raise the "
            "energy"
        )


def _searched(
    problem: RosterProblem,
    found: Roster | None,
    bound: float,
    deadline: Deadline,
    started: float,
) -> Roster | None:
    """What HiGHS finds of the plain integer program, if it is better; the better of the bounds."""
    options = {"time_limit": max(deadline.remaining_s, 0.01), "mip_rel_gap": 0.0}
    answer = milp(**_program(problem), options=options)
    if found is None and answer.status == _NONE:
        raise InfeasibleError(
            "no roster keeps the limits, as HiGHS proves: raise the energy or every, or lower share"
        )
    sign = 1.0 if problem.needed else -1.0
    proved = answer.get("mip_dual_bound")
    if proved is not None and np.isfinite(proved):
        bound = max(bound, proved) if problem.needed else min(bound, sign * proved)
    if answer.x is not None:
        shape = (len(problem), problem.rounds)
        present = answer.x[: shape[0] * shape[1]].reshape(shape) > 0.5
        if not problem.faults(present):
            other = _made(problem, present, bound, "highs", started)
            if found is None or other.objective * sign < found.objective * sign:
                return other
    return None if found is None else _made(problem, found.present, bound, "prices", started)


def _program(problem: RosterProblem) -> dict[str, Any]:
    """The integer program: a binary for each client and round, and the least samples z."""
    n, rounds = len(problem), problem.rounds
    in_round = kron(csr_array(problem.clients.samples[None, :].astype(float)), eye_array(rounds))
    per_client = kron(eye_array(n), np.ones((1, rounds)))
    energies = np.repeat(problem.energy, rounds)[None, :].astype(float)
    none = csr_array((rounds, 1))
    column = none if problem.needed else csr_array(-np.ones((rounds, 1)))
    total = np.inf if problem.energy_total is None else problem.energy_total
    limits = [
        LinearConstraint(hstack([in_round, column]), lb=problem.needed),
        LinearConstraint(hstack([per_client, csr_array((n, 1))]), ub=problem.most),
        LinearConstraint(hstack([csr_array(energies), csr_array((1, 1))]), ub=total),
    ]
    if problem.n_blocks:
        each = (problem.blocks == np.arange(problem.n_blocks)[:, None]).astype(float)
        once = kron(eye_array(n), csr_array(each))
        limits.append(LinearConstraint(hstack([once, csr_array((once.shape[0], 1))]), lb=1))
    most = np.append(problem.available.ravel().astype(float), 0.0 if problem.needed else np.inf)
    cost = np.append(energies[0], 0.0) if problem.needed else np.append(0 * energies[0], -1.0)
    return {
        "c": cost,
        "constraints": limits,
        "bounds": Bounds(0, most),
        "integrality": np.append(np.ones(n * rounds), 0.0),
    }
