"""The best allocation that is known while a call of ``solve`` goes on, whoever found it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from hasa_opt._utils.checks import IntArray
from hasa_opt.problem.problem import AllocationProblem, Totals

__all__ = ["Incumbent", "OnProgress", "Progress"]


@dataclass(frozen=True)
class Progress:
    """How far a solve is.

    Attributes
    ----------
    solver : str
        The backend that runs now.
    incumbent : float or None
        Objective of the best allocation that is known, recomputed from the problem; it never
        falls. None as long as none is known, or none as fair as the fairest that is known.
    bound : float
        No allocation is worth more, by the solver's own word; it never rises.
    gap : float
        ``(bound - incumbent) / |incumbent|``, at least 0; infinite without an incumbent.
    seconds : float
        Since the call.
    """

    solver: str
    incumbent: float | None
    bound: float
    gap: float
    seconds: float


OnProgress = Callable[[Progress], object]
"""Called with news; where it returns True, the solve stops with the best that is known."""


class Incumbent:
    """Best allocation within the limits, who found it, and the lowest bound that was claimed.

    Any thread may add to it. The caller is told in the thread that it called from, whenever that
    looks at the clock: :meth:`stopped` is part of the deadline of a request.

    Parameters
    ----------
    on_progress : callable, optional

    Attributes
    ----------
    solver : str
        The backend that runs now.
    choice : (n_clients,) int64 or None
        Read-only.
    totals : Totals or None
        What the choice costs and is worth.
    source : str
        Who found it: a solver, or ``"warm start"``, ``"greedy"``, ``"repair"``, ``"even shares"``,
        ``"search"``.
    interrupted : bool
        Whether somebody has asked to stop.
    error : Exception or None
        What ``on_progress`` raised.
    """

    def __init__(self, on_progress: OnProgress | None = None) -> None:
        self.solver = self.source = ""
        self.choice: IntArray | None = None
        self.totals: Totals | None = None
        self.interrupted = False
        self.error: Exception | None = None
        self._on_progress = on_progress
        self._bound = inf
        self._news = False
        self._began = time.perf_counter()
        self._lock = threading.Lock()
        self._caller = threading.get_ident()

    @property
    def objective(self) -> float:
        """What the choice is worth; minus infinity where there is none."""
        return -inf if self.totals is None else self.totals.objective

    @property
    def watched(self) -> bool:
        """Whether anybody is told how far the solve is."""
        return self._on_progress is not None

    def take(self, choice: IntArray, totals: Totals, source: str) -> None:
        """Keep an allocation if it is within the limits and better than what is known."""
        with self._lock:
            if totals.feasible and totals.objective > self.objective:
                kept = choice.copy() if choice.flags.writeable else choice
                kept.flags.writeable = False
                self.choice, self.totals, self.source = kept, totals, source
                self._news = True

    def forget_outside(self, problem: AllocationProblem) -> None:
        """Forget the allocation unless it is within the limits of a narrower problem."""
        with self._lock:
            if self.choice is not None and not problem.evaluate(self.choice).feasible:
                self.choice, self.totals, self.source = None, None, ""

    def lower(self, bound: float) -> None:
        """Take note of a bound if it is lower than what is known."""
        with self._lock:
            if bound < self._bound:
                self._bound, self._news = bound, True

    def stopped(self) -> bool:
        """Tell the caller what is new; whether somebody has asked to stop."""
        if self._on_progress is not None and threading.get_ident() == self._caller:
            with self._lock:
                news, self._news = self._news and not self.interrupted, False
            if news:
                try:
                    self.interrupted = self._on_progress(self._progress()) is True
                except Exception as error:  # raised once the solve has ended in order
                    self.interrupted, self.error = True, error
        return self.interrupted

    def _progress(self) -> Progress:
        held, gap = self.totals is not None, inf
        if held and self.objective:
            gap = max(0.0, self._bound - self.objective) / abs(self.objective)
        seconds = time.perf_counter() - self._began
        return Progress(self.solver, self.objective if held else None, self._bound, gap, seconds)
