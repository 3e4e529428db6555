"""Check a saved result against its problem: is it optimal, or how far from that at most?

``python verify.py PROBLEM RESULT`` reads what ``AllocationProblem.save`` and ``Allocation.save``
wrote. It needs Python's own library alone, and trusts the problem alone: of the result it takes
the choice, the prices, and what is to be checked.

A float is a whole number over a power of two: one factor makes all of them whole, and nothing is
rounded. At a price for each limit every client has a best option of its own. What these are worth,
all prices paid, bounds every allocation, whatever the prices (Lagrangian relaxation), and an option
that loses as much as the bound exceeds the result by is in no better allocation. Clients with
several options left are enumerated. A state is the room that is left under each limit, and what
was gained so far; dropped is one that another beats in both (dominance), and one from which the
prices leave nothing better.
"""

from __future__ import annotations

import json
import sys
import zipfile
from array import array
from collections.abc import Iterator, Sequence
from decimal import ROUND_CEILING, Context, Decimal
from fractions import Fraction
from math import floor, inf
from operator import ge, mul, sub
from typing import Any, NamedTuple

__all__ = ["verify"]

STATES = 1_000_000
"""Kept at most, of all clients together."""
OPEN = Fraction(1, 10**9)
"""Share of what utilities can vary that a result may leave open and say that it is optimal."""
TYPES = {"q": "<i8", "d": "<f8", "B": "|b1"}
"""Whole numbers, floats, truth values: as Python's arrays and as NumPy's files name them."""


class _FalseError(Exception):
    """What a result says is not so."""


def demand(holds: bool, words: str) -> None:
    """Refuse a result of which something does not hold."""
    if not holds:
        raise _FalseError(words)


class File:
    """A zip archive: ``content.json``, and the arrays that it names in NumPy's format."""

    def __init__(self, path: str, noun: str) -> None:
        with zipfile.ZipFile(path) as members:
            index = json.loads(members.read("content.json"))
            demand((index["noun"], index["format"]) == (noun, 1), f"{path} keeps no {noun}")
            self.data = {name: members.read(f"{name}.npy") for name in index["arrays"]}
        self.content: dict[str, Any] = index["content"]

    def numbers(self, name: str, kind: str, size: int | None = None) -> array[Any]:
        """Numbers of an array, row after row."""
        data = self.data[name]
        start = 10 + int.from_bytes(data[8:10], "little")
        values = array(kind, data[start:])
        if sys.byteorder == "big":
            values.byteswap()
        known = f"'descr': '{TYPES[kind]}', 'fortran_order': False".encode() in data[:start]
        demand(known and size in (None, len(values)), f"{name} is not what it should be")
        return values


class Side(NamedTuple):
    """``sum over members of their coefficient <= most``; what a unit is worth, at least 0."""

    members: Sequence[int]
    table: Sequence[int]
    most: int
    price: float


def sides_of(
    row: dict[str, Any], price: float, choice: Sequence[int], m: int, file: File
) -> Iterator[Side]:
    """Both sides of a limit, which the choice must keep.

    A robust limit is relaxed: who goes beyond the coefficients are those who do so by the choice.
    """
    members = range(len(choice)) if row["members"] is None else file.numbers(row["members"], "q")
    table = file.numbers(row["coefficients"], "q", len(members) * m)
    if row["gamma"] is not None:
        more = file.numbers(row["deviation"], "q", len(table))
        beyond = [more[at * m + choice[i]] for at, i in enumerate(members)]
        worst = sorted(range(len(beyond)), key=beyond.__getitem__)[::-1][: row["gamma"]]
        for entry in (at * m + k for at in worst for k in range(m)):
            table[entry] += more[entry]
    total = sum(table[at * m + choice[i]] for at, i in enumerate(members))
    for sign, limit in ((1, row["upper"]), (-1, row["lower"])):
        if limit is not None:
            excess = sign * (total - limit)
            demand(excess <= 0, f"{row['label']} is broken by {excess}")
            signed = table if sign > 0 else [-value for value in table]
            yield Side(members, signed, sign * limit, max(sign * price, 0.0))


Options = list[list[int]]
"""What each client may take: entry ``i * m + k`` of a table is option k of client i."""
Room = tuple[int, ...]
"""What is left under each limit."""
Moves = list[tuple[int, Room]]
"""What each option of a client gains against its best one, and takes of the room."""


def bound(options: Options, utilities: list[float], sides: list[Side], known: Fraction) -> Fraction:
    """What no allocation is worth more than; at best what is known."""
    m, floats = len(utilities) // len(options), [*utilities, *(side.price for side in sides)]
    scale = max(number.as_integer_ratio()[1] for number in floats)
    whole = [top * (scale // bottom) for top, bottom in map(float.as_integer_ratio, floats)]
    net, prices = whole[: len(utilities)], whole[len(utilities) :]
    for side, price in zip(sides, prices, strict=True):
        for at, i in enumerate(side.members if price else ()):
            for k in range(m):
                net[i * m + k] -= price * side.table[at * m + k]
    best = [max(own, key=net.__getitem__) for own in options]
    paid = sum(price * side.most for price, side in zip(prices, sides, strict=True))
    spare = paid + sum(net[entry] for entry in best) - floor(known * scale)
    if spare <= 0:
        return known
    kept = ([entry for entry in own if net[best[i]] - net[entry] < spare]
            for i, own in enumerate(options))  # fmt: skip
    left = {i: own for i, own in enumerate(kept) if len(own) > 1}
    rooms, charged = [], []
    uses: dict[int, Room] = {entry: () for own in left.values() for entry in own}
    for side, price in zip(sides, prices, strict=True):
        used = [side.table[at * m + best[i] % m] for at, i in enumerate(side.members)]
        more = {entry: side.table[at * m + entry % m] - used[at]
                for at, i in enumerate(side.members) for entry in left.get(i, ())}  # fmt: skip
        room = side.most - sum(used)
        if price or room < sum(max(more.get(entry, 0) for entry in own) for own in left.values()):
            rooms.append(room)
            charged.append(price)
            uses = {entry: (*use, more.get(entry, 0)) for entry, use in uses.items()}
    start = sum(whole[entry] for entry in best)
    moves = [[(whole[entry] - whole[best[i]], uses[entry]) for entry in own]
             for i, own in left.items()]  # fmt: skip
    gained = gain(moves, tuple(rooms), charged, floor(known * scale) - start)
    return Fraction(start + gained, scale)


def gain(clients: list[Moves], room: Room, prices: list[int], known: int) -> int:
    """The most that clients gain together, or a bound on it; at least what is known."""

    def ends(moves: Moves) -> tuple[Room, Room]:
        columns = [*zip(*(use for _, use in moves), strict=True)]
        return tuple(map(max, columns)), tuple(map(min, columns))

    def promise(after: Room, gained: int) -> int:
        total: int = sum(map(mul, prices, after), gained)
        return total

    def apart(moves: Moves) -> int:
        return promise(tuple(map(sub, *ends(moves))), 0)

    turns = sorted([[(0, (0,) * len(room))], *clients], key=apart)  # from the last one on
    both = zip(*map(ends, turns), strict=True)
    most, least = (tuple(map(sum, zip(*side, strict=True))) for side in both)
    states, kept = {room: 0}, 0
    while turns and kept <= STATES:
        moves = turns.pop()
        both = zip((most, least), ends(moves), strict=True)
        most, least = (tuple(map(sub, *side)) for side in both)  # what those that follow can take
        found: dict[Room, int] = {}
        for before, so_far in states.items():
            for own, use in moves:
                after, gained = tuple(map(min, map(sub, before, use), most)), so_far + own
                if promise(after, gained) > known and all(map(ge, after, least)):
                    found[after] = max(gained, found.get(after, gained))
        states = dict(dominant(found))
        kept += len(states)
    return max((promise(*state) for state in states.items()), default=known)


def dominant(states: dict[Room, int]) -> Iterator[tuple[Room, int]]:
    """States that none beats which has the same room under all limits but the first."""
    last, best = None, 0
    for room in sorted(states, key=lambda own: (own[1:], own[:1]), reverse=True):
        if room[1:] != last or states[room] > best:
            last, best = room[1:], states[room]
            yield room, best


def feasible(
    problem: File, result: File
) -> tuple[Options, list[float], list[Side], list[Fraction]]:
    """What a problem states, and the utilities of a choice that keeps all of it."""
    content, claims = problem.content, result.content["result"]
    same = all(result.data.get(name) == data for name, data in problem.data.items())
    demand(same and result.content["problem"] == content, "it is for another problem")
    demand(claims["choice"] is not None, "it holds no allocation")
    m, allowed = len(content["menu"]["names"]), problem.numbers(content["admissible"], "B")
    choice = result.numbers(claims["choice"], "q", len(allowed) // m)
    demand(all(0 <= k < m for k in choice), "a choice is outside the menu")
    chosen = [i * m + k for i, k in enumerate(choice)]
    demand(all(allowed[entry] for entry in chosen), "a client has an option that it cannot take")
    costs = problem.numbers(content["costs"], "q", len(allowed))
    spent = sum(costs[entry] for entry in chosen)
    demand(claims["spent"] == spent, f"it costs {spent}")
    budget = {"label": "budget", "coefficients": content["costs"], "members": None,
              "lower": None, "upper": content["limit"], "gamma": None}  # fmt: skip
    rows = [budget, *content["rows"]]
    prices = result.numbers(claims["prices"], "d", len(rows))
    sides = [side for row, price in zip(rows, prices, strict=True)
             for side in sides_of(row, price, choice, m, problem)]  # fmt: skip
    table = problem.numbers(content["utilities"], "d", len(allowed))
    utilities = [value if own else 0.0 for value, own in zip(table, allowed, strict=True)]
    firsts = range(0, len(allowed), m)
    options = [[entry for entry in range(at, at + m) if allowed[entry]] for at in firsts]
    return options, utilities, sides, [Fraction(utilities[entry]) for entry in chosen]


def judged(problem: File, result: File) -> tuple[bool, str]:
    """Whether what a result states is proven, and how far from the optimum it is, in words."""
    options, utilities, sides, values = feasible(problem, result)
    claims, worth = result.content["result"], sum(values, Fraction())
    rounding = sum(map(abs, values)) * Fraction(len(values), 2**53)  # of adding floats
    off = abs(Fraction.from_float(claims["objective"]) - worth)
    demand(off <= rounding, f"it is worth {float(worth)!r}")
    stated = inf if claims["bound"] is None else Fraction.from_float(claims["bound"])
    if claims["termination"] == "optimal":
        ends = [(fold(utilities[entry] for entry in own) for own in options) for fold in (max, min)]
        span = sum(Fraction(high) - Fraction(low) for high, low in zip(*ends, strict=True))
        stated = min(stated, worth + OPEN * span)
    demand(stated >= worth - rounding, "it is worth more than it says that any is")
    if any(item["states"] == "fairness" for item in problem.content["constraints"]):
        return False, "unproven: it keeps every limit; of fairness nothing is proven"
    most = bound(options, utilities, sides, worth)
    if worth < stated < most:
        most = min(most, bound(options, utilities, sides, Fraction(stated)))
    ratio = map(Decimal, (most - worth).as_integer_ratio())
    apart = Context(prec=3, rounding=ROUND_CEILING).divide(*ratio)
    words = f"at most {apart} from the optimum, whatever solver was used" if apart else "optimal"
    if most > stated + rounding:
        return False, f"unproven: it says that none is worth over {float(stated)!r}; it is {words}"
    return True, words


def verify(problem: str, result: str) -> tuple[bool, str]:
    """Whether all that a saved result states is proven, and the verdict in words.

    Parameters
    ----------
    problem, result : path
        Of files that ``AllocationProblem.save`` and ``Allocation.save`` wrote.

    Returns
    -------
    bool, str
        False where something is false, or not proven.
    """
    try:
        return judged(File(problem, "AllocationProblem"), File(result, "Allocation"))
    except _FalseError as error:
        return False, f"false: {error}"
    except Exception as error:
        return False, f"false: these are not both files of save() ({error!r})"


if __name__ == "__main__":
    proven, verdict = verify(*sys.argv[1:])
    print(verdict)
    sys.exit(not proven)
