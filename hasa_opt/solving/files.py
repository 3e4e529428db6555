"""Fleets beyond one machine's memory: solved chunk by chunk, from files to files."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from math import fsum
from operator import add
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray, expect
from hasa_opt._utils.files import path_of, replace_directory
from hasa_opt._utils.showing import Shown, new_table
from hasa_opt.errors import HasaError, InputError
from hasa_opt.problem.fleet_file import Chunk, Facts, FileProblem
from hasa_opt.solving.passes import Checked, Opened, Workers, checked, counted, opened, write_part
from hasa_opt.solving.solver import solve

__all__ = ["FileAllocation", "solve_files", "verify_files"]

_SUMMARY = "_summary.json"
_WHOLE = 20_000
"""Clients up to which all are at the margin."""
_SAMPLE = 4.0
"""Size of the sample, in units of n^(2/3), as in memory."""
_WIDENINGS = (1.0, 8.0, 64.0, 512.0)
"""How wide the interval of prices is, in turn, until it holds the price."""


@dataclass(frozen=True)
class FileAllocation(Shown):
    """A verified allocation that lies in Parquet files.

    Attributes
    ----------
    path : str
        The folder: a file for each chunk of clients, in their order, and what is said here as JSON.
    clients : int
    objective, bound : float
        Sum of the utilities, and what no allocation exceeds.
    spent, limit : int
        Cost, exact, and the budget, in its unit.
    price : float
        Shadow price of the budget; it proves the bound.
    options : mapping of option to int
        How many clients have it.
    passes : int
        Over the data.
    settled : int
        Clients at the margin, which were settled together.
    seconds : float
    """

    path: str
    clients: int
    objective: float
    bound: float
    spent: int
    limit: int
    price: float
    options: Mapping[str, int]
    passes: int
    settled: int
    seconds: float

    @property
    def gap(self) -> float:
        """``(bound - objective) / |objective|``."""
        return max(self.bound - self.objective, 0.0) / max(abs(self.objective), 1e-300)

    def __rich__(self) -> Any:
        table = new_table("", "allocation in files")
        rows = asdict(self) | {"gap": f"{self.gap:.2g}", "seconds": f"{self.seconds:.1f}"}
        rows["options"] = ", ".join(f"{name}: {n:,}" for name, n in self.options.items())
        for name, value in rows.items():
            table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
        return table


class _Plan(NamedTuple):
    """What each chunk takes.

    Attributes
    ----------
    prices : list of float
        At which each chunk takes its best options.
    rows, choices : list of (n_settled,) int64
        Of each chunk, those that are settled otherwise.
    price : float
        Shadow price of the budget.
    passes : int
        That it took.
    """

    prices: list[float]
    rows: list[IntArray]
    choices: list[IntArray]
    price: float
    passes: int


def solve_files(
    problem: FileProblem,
    output: str | PathLike[str],
    *,
    executor: str = "local",
    workers: int | None = None,
) -> FileAllocation:
    """Solve the problem of a fleet in files, and write the allocation to files.

    Four passes over the data, seldom more: sums and a sample, which brackets the price of the
    budget; the clients whose choice changes within the bracket, which the exact solver settles
    together, all others being at their best; the answer; and its verification from the files, in
    integers, with a Lagrangian bound. A chunk is all that is in memory.

    Parameters
    ----------
    problem : FileProblem
    output : path of the folder to write
        It appears when all is written and verified; an allocation that is there is replaced.
    executor : {"local", "ray"}
        "ray": chunks are worked through by the workers of a Ray cluster, which share the files.
    workers : int, optional
        Chunks at a time on Ray.

    Raises
    ------
    InfeasibleError
        If even the cheapest allocation exceeds the budget.
    InputError
        For a value that breaks a rule, with the file, and for an output that is something else.
    StorageError
        If the disk does not take the answer.
    MissingExtraError
        If pyarrow, or Ray, is not installed.
    """
    started = time.perf_counter()
    expect(problem, FileProblem, "problem")
    target, team = _target(problem, output), Workers(executor, workers)
    facts, sample = _counted(problem, team)
    plan = _planned(problem, facts, sample, team)
    found: list[FileAllocation] = []

    def write(folder: Path) -> None:
        items = [
            (chunk, number, plan.prices[number], plan.rows[number], plan.choices[number])
            for number, chunk in enumerate(problem.chunks)
        ]
        for _ in team.each(write_part, (problem, facts, folder), items):
            pass
        result = _verified(problem, facts, folder, plan.price, team)
        result = replace(
            result,
            path=str(target),
            passes=1 + plan.passes + 2,
            settled=sum(rows.size for rows in plan.rows),
            seconds=time.perf_counter() - started,
        )
        stated = asdict(result) | {"gap": result.gap}
        (folder / _SUMMARY).write_text(json.dumps(stated, indent=2))
        found.append(result)

    replace_directory(target, write)
    return found[0]


def verify_files(
    problem: FileProblem,
    path: str | PathLike[str],
    *,
    executor: str = "local",
    workers: int | None = None,
) -> FileAllocation:
    """Recompute an allocation in files from the files of the fleet.

    Parameters
    ----------
    problem : FileProblem
    path : path of the folder that :func:`solve_files` wrote
    executor, workers
        As for :func:`solve_files`.

    Returns
    -------
    FileAllocation
        As recomputed: its bound holds at whatever price the summary states.

    Raises
    ------
    InputError
        If a part is missing, damaged or for other clients, a client has an option that it cannot
        take, the budget is broken, or the summary states something else.
    """
    started = time.perf_counter()
    expect(problem, FileProblem, "problem")
    folder, team = path_of(path), Workers(executor, workers)
    try:
        stated = FileAllocation(**{
            name: value for name, value in json.loads((folder / _SUMMARY).read_text()).items()
            if name in FileAllocation.__dataclass_fields__
        })  # fmt: skip
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{folder} keeps no allocation of solve_files ({error})") from error
    facts, _ = _counted(problem, team)
    own = _verified(problem, facts, folder, float(stated.price), team)
    own = replace(own, settled=stated.settled, seconds=time.perf_counter() - started, passes=2)
    rounding = 1e-12 * max(abs(own.objective), abs(own.bound))
    same = (own.spent, own.limit, own.options) == (stated.spent, stated.limit, stated.options)
    same &= abs(own.objective - stated.objective) <= rounding
    if not same or own.bound > stated.bound + rounding:
        raise InputError(
            f"{folder}: the summary states objective {stated.objective:.12g}, bound "
            f"{stated.bound:.12g} and cost {stated.spent} of {stated.limit}; the files say "
            f"{own.objective:.12g}, {own.bound:.12g} and {own.spent} of {own.limit}"
        )
    return own


def _target(problem: FileProblem, output: str | PathLike[str]) -> Path:
    """The folder to write, if nothing else would be lost by it."""
    target = path_of(output).resolve()
    if target.exists() and not (target / _SUMMARY).is_file():
        raise InputError(f"{output} exists and is no allocation of solve_files: give another name")
    if target == problem.path or target in problem.path.parents or problem.path in target.parents:
        raise InputError(f"{output} is where the fleet lies: give another name")
    return target


def _counted(problem: FileProblem, team: Workers) -> tuple[Facts, dict[str, Any]]:
    """What all clients add up to, and the columns of a sample of them."""
    n_clients = len(problem)
    size = 0 if n_clients <= _WHOLE else int(_SAMPLE * n_clients ** (2 / 3))
    rows = np.sort(np.random.default_rng(n_clients).integers(0, n_clients, size))
    items = [(chunk, _within(rows, chunk)) for chunk in problem.chunks]
    totals, samples = [], []
    scores, counts = np.empty(0), np.empty(0, dtype=np.int64)
    waiting: list[tuple[FloatArray, IntArray]] = []
    for part in team.each(counted, (problem,), items):
        totals.append(part.sums)
        samples.append(part.sample)
        waiting.append((part.scores, part.counts))
        if sum(own.size for own, _ in waiting) > scores.size:
            scores, counts = _merged([(scores, counts), *waiting])
            waiting = []
    scores, counts = _merged([(scores, counts), *waiting])
    return problem.facts(reduce(add, totals), scores, counts), _joined(samples)


def _within(rows: IntArray, chunk: Chunk) -> IntArray:
    first, last = np.searchsorted(rows, (chunk.first, chunk.first + chunk.size))
    return rows[first:last] - chunk.first


def _merged(parts: Sequence[tuple[FloatArray, IntArray]]) -> tuple[FloatArray, IntArray]:
    """Different values of several lists, and how often each occurs."""
    values, counts = map(np.concatenate, zip(*parts, strict=True))
    different, place = np.unique(values, return_inverse=True)
    total = np.zeros(different.size, dtype=np.int64)
    np.add.at(total, place, counts)
    return different, total


def _joined(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in parts[0]}


def _planned(problem: FileProblem, facts: Facts, sample: dict[str, Any], team: Workers) -> _Plan:
    """Find the interval of prices that the budget's is in, and settle who is open within it."""
    from hasa_opt.solvers.exact.parts import price_interval

    for passes, widening in enumerate(_WIDENINGS, start=1):
        interval = (0.0, np.inf)
        if facts.n_clients > _WHOLE:
            part = problem.part(sample, facts, problem.chunks[0])
            interval = price_interval(part, facts.limit / facts.n_clients * len(part), widening)
        items = [(chunk,) for chunk in problem.chunks]
        chunks = list(team.each(opened, (problem, facts, interval), items))
        least = sum(own.high.spent + own.taken for own in chunks)
        most = sum(own.low.spent for own in chunks)
        if least <= facts.limit and (facts.limit < most or interval[0] <= 0):
            return _settled(problem, facts, interval, chunks, passes)
    raise HasaError(
        "the price of the budget was not found from a sample, so unlike are the clients: solve "
        "the fleet in memory"
    )


def _settled(
    problem: FileProblem,
    facts: Facts,
    interval: tuple[float, float],
    chunks: Sequence[Opened],
    passes: int,
) -> _Plan:
    """Settle the open clients together.

    Where most clients of a chunk tie at one price, whole chunks go to either end of the interval.
    """
    low, high = interval
    room = facts.limit - sum(own.high.spent + own.taken for own in chunks)
    prices, split = [high] * len(chunks), -1
    for number, own in enumerate(chunks):
        more = own.low.spent - own.high.spent
        if own.rows is None and more <= room:
            prices[number], room = low, room - more
        elif own.rows is None and split < 0:
            split = number
    rows = [np.empty(0, dtype=np.int64) if own.rows is None else own.rows for own in chunks]
    core = [own.columns for own in chunks if own.rows is not None]
    room += sum(own.taken for own in chunks)
    if split >= 0:
        rows[split] = np.arange(problem.chunks[split].size)
        place = sum(own.rows is not None for own in chunks[:split])
        core.insert(place, problem.columns(problem.chunks[split]))
        room += chunks[split].high.spent
    if not any(own.size for own in rows):
        return _Plan(prices, rows, rows, low, passes)
    part = replace(problem.part(_joined(core), facts, problem.chunks[0]), limit=room)
    found = solve(part, "exact")
    ends = np.cumsum([own.size for own in rows])[:-1]
    return _Plan(prices, rows, np.split(found.choice, ends), found.price, passes)


def _verified(
    problem: FileProblem, facts: Facts, folder: Path, price: float, team: Workers
) -> FileAllocation:
    """Recompute an answer from its files; the bound is the Lagrangian one at the price."""
    items = [(chunk, number, price) for number, chunk in enumerate(problem.chunks)]
    parts: list[Checked] = list(team.each(checked, (problem, facts, folder), items))
    spent, first = (sum(getattr(part, name) for part in parts) for name in ("spent", "first"))
    if spent > facts.limit or not price >= 0:
        raise InputError(
            f"{folder} costs {spent}, above the limit of {facts.limit}, or has no price "
            f"({price}): do not use it, solve again"
        )
    slack = price * (facts.limit - first) if price else 0.0
    options = np.sum([part.options for part in parts], axis=0).tolist()
    return FileAllocation(
        path=str(folder),
        clients=facts.n_clients,
        objective=fsum(part.worth for part in parts),
        bound=fsum([*(part.reduced for part in parts), slack]),
        spent=spent,
        limit=facts.limit,
        price=price,
        options=dict(zip(problem.menu.names, options, strict=True)),
        passes=1,
        settled=0,
        seconds=0.0,
    )
