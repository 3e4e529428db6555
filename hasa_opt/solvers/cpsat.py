"""CP-SAT of OR-tools, which computes in integers alone, in a process of its own."""

from __future__ import annotations

import time
from functools import partial

import numpy as np

from hasa_opt._utils import isolated
from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.registry import Registry
from hasa_opt.problem.linear import LinearModel
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Termination
from hasa_opt.solvers.base import Answer, Request, check_threads
from hasa_opt.solvers.cpsat_process import Program

__all__ = ["TERMINATIONS", "CpSatBackend"]

TERMINATIONS = Registry(
    "statuses.cpsat",
    {
        "OPTIMAL": Termination.OPTIMAL,
        "INFEASIBLE": Termination.INFEASIBLE,
        "FEASIBLE": Termination.TIME_LIMIT,
        "UNKNOWN": Termination.TIME_LIMIT,
        "MODEL_INVALID": Termination.FAILED,
    },
)
"""Native status to termination; every other status is FAILED."""

_EXACT = 2.0**53
"""Above this a float does not hold every whole number."""
_LARGEST_SUM = 2.0**60
"""Of a row over all clients: twice of it, for a robust limit, stays within what CP-SAT takes."""
_LARGEST_OBJECTIVE = _EXACT
"""CP-SAT reports its bound as a float."""
_LARGEST_LIMIT = 2.0**61
"""Stands for infinity: CP-SAT refuses limits whose sums may leave the range of int64."""
_LAST_WORD_S = 0.1
"""Seconds after the deadline in which CP-SAT may end by itself, before its process is ended."""


class CpSatBackend:
    """Constraint programming, SAT and linear relaxations; one worker by default.

    CP-SAT knows no floats: utilities are scaled by the largest power of two at which any sum of
    one per client stays below 2^53, and the bound includes what rounding may hide. It does not say
    why it stopped without a proof: unless it was interrupted, :attr:`Request.stop_reason` does.
    The process takes about a second to start, which counts towards the time limit; it is ended
    where CP-SAT does not look at the clock, in presolve. Keyword options of
    :func:`hasa_opt.solve` go to CP-SAT by their own names, for example ``num_workers=8``.
    """

    def solve(self, problem: AllocationProblem, request: Request) -> Answer:
        """Solve; Ctrl-C ends with the incumbent."""
        check_threads(request.options, "num_workers")
        largest = min(_EXACT, _LARGEST_SUM / len(problem))
        model = request.linear_model(largest=largest, largest_robust=largest)
        values, scale, rounding = _whole_objective(model)
        options = {
            "num_workers": 1,
            "absolute_gap_limit": scale * request.absolute_gap / model.scale,
            **request.options,
        }
        limited = request.time_limit_s is not None
        until = time.time() + request.deadline.remaining_s if limited else None
        program = _program(model, values, request)
        request.deadline.check()
        (status, x, bound), interrupted = isolated.call(
            "hasa_opt.solvers.cpsat_process:maximum",
            program,
            options,
            until,
            deadline=request.deadline.later(_LAST_WORD_S),
            on_news=partial(_take_news, request, model, scale, rounding),
        )
        ended = TERMINATIONS.get(status, Termination.FAILED)
        if ended is Termination.TIME_LIMIT:
            ended = Termination.INTERRUPTED if interrupted else request.stop_reason
        native = f"CP-SAT: {status}"
        if x is None:
            return Answer(ended, native=native)
        value = model.utility(float(model.objective @ x))
        bound = model.utility((bound + rounding) / scale)
        return Answer(ended, model.choice(x.astype(np.float64)), value, bound, native)


def _take_news(
    request: Request, model: LinearModel, scale: float, rounding: float, news: IntArray | float
) -> None:
    """An allocation or a bound that CP-SAT has found on its way."""
    if isinstance(news, float):
        request.lower(model.utility((news + rounding) / scale))
    else:
        request.offer(model.choice(news.astype(np.float64)))


def _whole_objective(model: LinearModel) -> tuple[IntArray, float, float]:
    """Whole numbers near ``scale * objective``, the scale, and how much an allocation lost."""
    n_choices = model.client.size
    largest = model.most(np.abs(model.objective[:n_choices]))
    scale = float(2.0 ** np.floor(np.log2(_LARGEST_OBJECTIVE / largest))) if largest else 1.0
    values = np.rint(scale * model.objective)
    lost = (scale * model.objective - values)[:n_choices]
    return values.astype(np.int64), scale, model.most(lost)


def _program(model: LinearModel, values: IntArray, request: Request) -> Program:
    """Further columns hold thresholds and excesses of whole deviations: whole numbers as well."""
    matrix = model.matrix
    start = request.start
    return Program(
        objective=values,
        column_upper=np.where(model.integral, model.column_upper, model.largest).astype(np.int64),
        starts=matrix.indptr,
        columns=matrix.indices,
        values=matrix.data.astype(np.int64),
        lower=_whole(model.lower),
        upper=_whole(model.upper),
        n_choices=model.n_open,
        hint=np.empty(0, dtype=np.int64) if start is None else _whole(model.columns(start)),
    )


def _whole(limits: FloatArray) -> IntArray:
    return np.clip(limits, -_LARGEST_LIMIT, _LARGEST_LIMIT).astype(np.int64)
