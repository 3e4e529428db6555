"""Does a backend keep its contract on partitions? Known answers, brute force, limits, and lies."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.deadline import UNLIMITED, Deadline
from hasa_opt.errors import InputError
from hasa_opt.problem.totals import Totals
from hasa_opt.solvers.base import Answer
from hasa_opt.solvers.incumbent import Incumbent
from hasa_opt.solvers.record import Capability, SolverRecord
from hasa_opt.solvers.registry import ask, find_solver
from hasa_opt.solving.grouping.problem import PartitionProblem
from hasa_opt.solving.grouping.program import PairRequest
from hasa_opt.solving.grouping.rows import Row, Rows
from hasa_opt.testing.examiner import GAP, Case, Examiner, registered

__all__ = [
    "KNOWN_PARTITIONS",
    "best_partition",
    "check_partition",
    "random_partition",
    "set_partitions",
]

_LONG = 40
"""Clients of the long problem: without groups, no backend proves its optimum in a second."""
_GAPS = 20
"""Of how many random problems a gap is asked."""


def check_partition(solver: str | SolverRecord, *, n_problems: int = 60) -> None:
    """Check that a backend keeps its contract on partitions, beside :func:`check_solver`.

    It is handed the whole integer program of :func:`hasa_opt.partition`, every triangle in it, and
    nothing stands between its answer and the truth: no heuristic and no bound of ours.

    Parameters
    ----------
    solver : str or SolverRecord
        As for :func:`check_solver`; its record states ``Capability.PARTITION``.
    n_problems : int
        How many random problems it is given.

    Raises
    ------
    CheckError
        Naming the problem, and what is wrong with the answer.
    InputError
        If the record does not state the capability.
    SolverNotInstalledError
        Giving the command that installs what is missing.

    Examples
    --------
    >>> check_partition("highs", n_problems=5)
    """
    record = find_solver(solver) if isinstance(solver, str) else solver
    if Capability.PARTITION not in record.capabilities:
        raise InputError(
            f"solver {record.name!r} does not state that it solves partitions: add "
            "Capability.PARTITION to the capabilities of its record"
        )
    random_cases = [case for case in map(_random_case, range(n_problems)) if len(case.problem) > 1]
    with registered(record):
        record.load()
        examiner = PartitionExaminer(record)
        for case in KNOWN_PARTITIONS:
            examiner.answer(case)
        for case in random_cases:
            examiner.answer(case)
        for case in random_cases[:_GAPS]:
            examiner.gap(case)
        examiner.time_limits()


class PartitionExaminer(Examiner[PartitionProblem]):
    """Asks a backend for the pairs that are together."""

    sought = "a partition"

    def totals(self, case: Case[PartitionProblem], answer: Answer) -> Totals:
        """What the pairs of an answer are worth, if they are a partition."""
        rows, x = _complete(case.problem), np.asarray(answer.choice)
        if why := rows.refusal(x):
            raise InputError(why)
        return case.problem.evaluate(rows.pairs.groups(x))

    def answer(self, case: Case[PartitionProblem]) -> None:
        """Ask for the optimum, and compare every claim with the truth."""
        answer = self.asked(case.name, _request(case.problem))
        self.check_claims(case, answer)
        self.check_proof(case, answer)

    def gap(self, case: Case[PartitionProblem]) -> None:
        """A solver that stops at a gap is within it of the optimum."""
        if self.has(Capability.GAP):
            self.check_gap(case, ask(self.record.name, _request(case.problem, gap=GAP)))

    def time_limits(self) -> None:
        """A time limit holds on a problem that takes long, and no claim is false at its end."""
        if self.has(Capability.TIME_LIMIT):
            problem = PartitionProblem.of(_noise(_LONG))
            _complete(problem)
            self.check_time_limits(
                Case("long problem", problem, None),
                lambda limit_s: ask(self.record.name, _request(problem, limit_s)),
            )


def _request(
    problem: PartitionProblem, time_limit_s: float | None = None, gap: float = 0.0
) -> PairRequest:
    """A request as :func:`hasa_opt.partition` makes it, with groups of neighbours to start from."""
    groups, best = np.arange(len(problem)) // problem.max_size, Incumbent()
    best.take(groups, problem.evaluate(groups), "start")
    return PairRequest(
        problem,
        time_limit_s=time_limit_s,
        gap=gap,
        deadline=UNLIMITED if time_limit_s is None else Deadline.after(time_limit_s),
        best=best,
        rows=_complete(problem),
    )


@cache
def _complete(problem: PartitionProblem) -> Rows:
    """The whole program: the limits, and every triangle."""
    rows, signs = Rows(problem), np.array([1, 1, -1])
    column = rows.pairs.column
    of_three = np.array([*combinations(range(len(problem)), 3)], dtype=np.int64).reshape(-1, 3)
    for apex in range(3):
        one, other, third = np.roll(of_three, apex, axis=1).T
        sides = column(one, other), column(one, third), column(other, third)
        rows.add(Row(own, signs, -inf, 1.0) for own in np.column_stack(sides))
    return rows


@cache
def set_partitions(n_clients: int) -> IntArray:
    """Every way to put clients into groups, ``(Bell number, n_clients)``; up to 8 clients, say."""

    def grown(prefix: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(prefix) == n_clients:
            yield prefix
            return
        for group in range(max(prefix, default=-1) + 2):
            yield from grown((*prefix, group))

    return np.array(list(grown(())), dtype=np.int64)


def best_partition(problem: PartitionProblem) -> float:
    """What the best partition is worth, by looking at every one."""
    every = set_partitions(len(problem))
    together = every[:, :, None] == every[:, None, :]
    fits = (every.max(axis=1) < problem.max_groups) & (
        together.sum(axis=1).max(axis=1) <= problem.max_size
    )
    worth = together[fits][:, problem.first, problem.second] @ problem.similarity
    return float(worth.max())


def random_partition(seed: int) -> PartitionProblem:
    """One to eight clients; plain, integer or very unequal similarities, with limits or without."""
    rng = np.random.default_rng(seed)
    n_clients = int(rng.integers(1, 9))
    shape = n_clients, n_clients
    tables = (
        rng.normal(size=shape),
        rng.integers(-3, 4, shape).astype(np.float64),
        rng.integers(-1, 2, shape) * rng.choice([1e-6, 1.0, 1e6]),
    )
    limits: dict[str, Any] = {}
    if seed % 4 in (1, 3):
        limits["max_size"] = int(rng.integers(1, n_clients + 1))
    if seed % 4 in (2, 3):
        least = -(-n_clients // limits.get("max_size", n_clients))
        limits["max_groups"] = int(rng.integers(least, n_clients + 1))
    return PartitionProblem.of(_symmetric(tables[seed % 3]), **limits)


def _symmetric(table: FloatArray) -> FloatArray:
    upper = np.triu(table, 1)
    return upper + upper.T


def _noise(n_clients: int) -> FloatArray:
    return _symmetric(np.random.default_rng(0).normal(size=(n_clients, n_clients)))


@cache
def _random_case(seed: int) -> Case[PartitionProblem]:
    problem = random_partition(seed)
    return Case(f"random partition {seed}", problem, best_partition(problem))


def _known(name: str, best: float, table: npt.ArrayLike, **limits: Any) -> Case[PartitionProblem]:
    """Similarities above the diagonal, and the worth of the best partition, by hand."""
    similarity = _symmetric(np.array(table, dtype=np.float64))
    return Case(name, PartitionProblem.of(similarity, **limits), best)


_STAR = [[0, 1, 1, 1], [0, 0, -1, -1], [0, 0, 0, -1], [0, 0, 0, 0]]
_PATH = [[0, 3, 0, 0], [0, 0, 4, 0], [0, 0, 0, 3], [0, 0, 0, 0]]
_BAD = [[0, 2, 2], [0, 0, -3], [0, 0, 0]]

KNOWN_PARTITIONS = (
    _known("two alike", 1, [[0, 1], [0, 0]]),
    _known("two unlike", 0, [[0, -1], [0, 0]]),
    _known("nothing to gain", 0, np.zeros((3, 3))),
    # One similar pair is worth 2, all three together 1.
    _known("a bad triangle", 2, _BAD),
    _known("a bad triangle of small numbers", 2e-6, 1e-6 * np.array(_BAD)),
    _known("a bad triangle of large numbers", 2e9, 1e9 * np.array(_BAD)),
    # Halves are worth 1.5 in the linear program; two leaves with the apex 2 - 1, one of them 1.
    _known("a star", 1, _STAR),
    _known("two groups of three", 6, np.kron([[1, -1], [-1, 1]], np.ones((3, 3)))),
    # The first pair and the last, 3 + 3; the middle one alone is worth 4.
    _known("pairs of a path", 6, _PATH, max_size=2),
    _known("friends apart", 0, np.ones((3, 3)), max_size=1),
    _known("enemies in one group", -3, -np.ones((3, 3)), max_groups=1),
    # Of three enemies two are together: those at -1.
    _known("three enemies in two groups", -1, [[0, -3, -1], [0, 0, -2], [0, 0, 0]], max_groups=2),
    # Two pairs that are not the first two: 1 + 1.
    _known(
        "two pairs",
        2,
        [[0, -1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]],
        max_groups=2,
        max_size=2,
    ),
)
"""Partitions whose optimum is known by hand."""
