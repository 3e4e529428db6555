"""What is done with one chunk of a fleet in files, and where: here, or on Ray.

The functions are the same wherever they run; prices, sums and the few clients at the margin are all
that passes between chunks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import fsum
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from hasa_opt._utils.checks import BoolArray, FloatArray, IntArray, whole
from hasa_opt._utils.installing import needing
from hasa_opt.errors import InputError
from hasa_opt.problem.fleet_file import Chunk, Facts, FileProblem, Sums
from hasa_opt.problem.menu import WIDTH
from hasa_opt.problem.problem import AllocationProblem

__all__ = ["Checked", "Counted", "Opened", "Workers", "checked", "counted", "opened", "write_part"]

_Result = TypeVar("_Result")
_FEW = 1 << 18
"""Clients of a chunk that may be open, whatever its size."""
_SHARE = 8
"""Or a share of one in so many of them; beyond, most tie at one price."""


class Counted(NamedTuple):
    """What a chunk adds up to, its clients in the sample, and its different scores."""

    sums: Sums
    sample: dict[str, Any]
    scores: FloatArray
    counts: IntArray


class End(NamedTuple):
    """Cost and utility of a chunk at one end of an interval of prices."""

    spent: int
    worth: float


class Opened(NamedTuple):
    """A chunk at either end of an interval of prices.

    Attributes
    ----------
    high, low : End
        With few open clients, ``high`` is without them.
    rows : (n_open,) int64 or None
        The open clients; None where they are too many.
    columns : dict
        Theirs.
    taken : int
        What the open ones cost at the high end.
    """

    high: End
    low: End
    rows: IntArray | None
    columns: dict[str, Any]
    taken: int


class Checked(NamedTuple):
    """What a chunk of an answer costs and is worth, recomputed.

    ``reduced`` is the sum of the best net utilities at the price, costs counted from the first
    option's, which sum up to ``first``.
    """

    spent: int
    worth: float
    reduced: float
    first: int
    options: IntArray


def counted(problem: FileProblem, chunk: Chunk, sample: IntArray) -> Counted:
    """First pass: check the columns of a chunk and add them up."""
    columns = problem.columns(chunk)
    scores, counts = np.empty(0), np.empty(0, dtype=np.int64)
    if problem.utility == "hasa":
        scores, counts = np.unique(problem.scores(columns, chunk), return_counts=True)
    return Counted(problem.sums(columns, chunk), _some(columns, sample), scores, counts)


def opened(
    problem: FileProblem, facts: Facts, interval: tuple[float, float], chunk: Chunk
) -> Opened:
    """Second pass: take the best options at the high price; who may change below it is open."""
    from hasa_opt.solvers.exact.parts import margin

    columns = problem.columns(chunk)
    part = problem.part(columns, facts, chunk)
    low, high = interval
    found = margin(part, low, high)
    few = found.open.size <= max(_FEW, len(part) // _SHARE)
    fixed = np.ones(len(part), dtype=bool)
    if few:
        fixed[found.open] = False
    at_low = End(0, 0.0) if few else _end(part, margin(part, low, low).choice, fixed)
    return Opened(
        _end(part, found.choice, fixed),
        at_low._replace(spent=found.most),
        found.open if few else None,
        _some(columns, found.open) if few else {},
        _end(part, found.choice, ~fixed).spent,
    )


def write_part(
    problem: FileProblem, facts: Facts, folder: Path, chunk: Chunk, number: int, price: float,
    rows: IntArray, settled: IntArray,
) -> None:  # fmt: skip
    """Third pass: write the options of a chunk, best at a price but for those that are settled."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from hasa_opt.solvers.exact.parts import margin

    part = problem.part(problem.columns(chunk), facts, chunk)
    choice = margin(part, price, price).choice
    choice[rows] = settled
    menu, names = problem.menu, problem.names(chunk)
    columns = {} if names is None else {"name": names}
    codes = pa.array(choice.astype(np.int16))
    columns["option"] = pa.DictionaryArray.from_arrays(codes, pa.array(list(menu.names)))
    if WIDTH in menu.attributes:
        columns[WIDTH] = pa.array(menu.widths[choice])
    pq.write_table(pa.table(columns), part_of(folder, number))


def part_of(folder: Path, number: int) -> Path:
    """The file with the answer for one chunk."""
    return folder / f"part-{number:05d}.parquet"


def checked(
    problem: FileProblem, facts: Facts, folder: Path, chunk: Chunk, number: int, price: float
) -> Checked:
    """Last pass: recompute a chunk of the answer, in integers, from the files.

    Raises
    ------
    InputError
        If it is missing, is for other clients, or has an option that its client cannot take.
    """
    file = part_of(folder, number)
    choice = _choice(problem, file, chunk)
    part = problem.part(problem.columns(chunk), facts, chunk)
    totals = part.evaluate(choice)
    if totals.violations:
        raise InputError(f"{file}: {'; '.join(totals.violations)}: do not use it, solve again")
    costs = part.costs - part.costs[:, :1]
    net = np.where(part.admissible, part.utilities - price * costs, -np.inf)
    worth = part.utilities[np.arange(choice.size), choice]
    return Checked(
        totals.spent,
        fsum(worth),
        fsum(net.max(axis=1)),
        int(part.costs[:, 0].sum()),
        np.bincount(choice, minlength=len(problem.menu)),
    )


def _choice(problem: FileProblem, file: Path, chunk: Chunk) -> IntArray:
    """Option of each client that a part of an answer states."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
        codes = pc.index_in(table["option"].cast(pa.string()), pa.array(list(problem.menu.names)))
    except (OSError, KeyError, pa.ArrowException) as error:
        raise InputError(f"{file} is missing or damaged ({error}): solve again") from error
    names = problem.names(chunk)
    same = names is None or ("name" in table.column_names and table["name"].equals(names))
    if len(table) != chunk.size or not same or codes.null_count:
        raise InputError(
            f"{file} is not for the {chunk.size} clients of {chunk.file} from {chunk.first} on, or "
            "names an option that is not on the menu: do not use it, solve again"
        )
    return np.asarray(codes.to_numpy(), dtype=np.int64)


def _some(columns: dict[str, Any], rows: IntArray) -> dict[str, Any]:
    return {
        name: values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows]
        for name, values in columns.items()
    }


def _end(part: AllocationProblem, choice: IntArray, counts: BoolArray) -> End:
    rows = np.flatnonzero(counts)
    chosen = choice[rows]
    return End(int(part.costs[rows, chosen].sum()), float(part.utilities[rows, chosen].sum()))


@dataclass(frozen=True)
class Workers:
    """Where chunks are worked through.

    Attributes
    ----------
    executor : {"local", "ray"}
    workers : int or None
        Chunks at a time on Ray; None: as many as the cluster has processors.
    """

    executor: str = "local"
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.executor not in ("local", "ray"):
            raise InputError(f"executor {self.executor!r} is not known: choose local or ray")
        if self.workers is not None:
            whole(self.workers, "workers", least=1)

    def each(
        self,
        function: Callable[..., _Result],
        shared: Sequence[Any],
        items: Sequence[Sequence[Any]],
    ) -> Iterator[_Result]:
        """Results of the function for what is shared and each item, in their order."""
        if self.executor == "local":
            yield from (function(*shared, *item) for item in items)
            return
        with needing("executor='ray'", extra="flower"):
            import ray
        if not ray.is_initialized():
            ray.init(num_cpus=self.workers, log_to_driver=False)
        at_once = self.workers or int(ray.cluster_resources()["CPU"])
        remote, known = ray.remote(function), [ray.put(value) for value in shared]
        running: deque[Any] = deque()
        for item in items:
            if len(running) == 2 * at_once:
                yield ray.get(running.popleft())
            running.append(remote.remote(*known, *item))
        while running:
            yield ray.get(running.popleft())
