"""A page to play with: allocations over a limit in one HTML file, moved through by a slider.

The file holds everything, asks for nothing from outside, and stores of each allocation what differs
from the one before. Its parts are in ``templates/explore.html``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from hasa_opt._utils.checks import FloatArray
from hasa_opt._utils.drawing import FEW
from hasa_opt._utils.files import file_target, write_text
from hasa_opt._utils.rational import INT64_ROOM
from hasa_opt.errors import InputError
from hasa_opt.problem.groups import SameRow
from hasa_opt.problem.menu import WIDTH
from hasa_opt.problem.result import Allocation
from hasa_opt.solving.prices import Change, next_changes

__all__ = ["MOST_BYTES", "write_page"]

MOST_BYTES = 6_000_000
"""Size of a file that every browser opens at once, and most mail takes."""

_NEXT = 5
"""Clients that are named as the next to change, each way."""
_LIMITS = 12
"""Limits in the table: as many as a screen shows; of more, those that bind most often."""
_DATA = "/*DATA*/"


def write_page(
    path: str | PathLike[str],
    values: FloatArray,
    allocations: Sequence[Allocation],
    over: str,
    at: int,
) -> Path:
    """Write the page.

    Parameters
    ----------
    path : path of the file to write
        Its folder must exist; a file that is there is replaced.
    values : (n_budgets,) numbers
        Of the limit, increasing.
    allocations : n_budgets Allocation
        Each with a solution.
    over : str
        The limit.
    at : int
        Its place among ``problem.limits``.

    Returns
    -------
    Path
        Of the written file.

    Raises
    ------
    InputError
        If the folder does not exist, or so many budgets do not fit into 6 MB.
    """
    target = file_target(path)
    template = files("hasa_opt.solving").joinpath("templates/explore.html").read_text("utf-8")
    numbers = _numbers(values, allocations, over, at)
    page = template.replace(_DATA, _script(numbers | _clients(allocations)))
    if len(page.encode()) > MOST_BYTES:
        page = template.replace(_DATA, _script(numbers | {"names": None}))
    size = len(page.encode())
    if size > MOST_BYTES:
        raise InputError(
            f"{len(values)} budgets take {size / 1e6:.1f} MB, above the {MOST_BYTES / 1e6:g} MB of "
            "a page: give fewer"
        )
    write_text(target, page)
    return target


def _script(content: dict[str, Any]) -> str:
    """Strict JSON that no name can end the script of."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _numbers(
    values: FloatArray, allocations: Sequence[Allocation], over: str, at: int
) -> dict[str, Any]:
    """What is known at each budget without a client being named, but for the next to change."""
    first = allocations[0].problem
    samples, m = first.clients.samples, len(first.menu)
    widths = first.menu.attributes.get(WIDTH)
    choices = [own.choice for own in allocations]
    return {
        "over": over,
        "share": at == 0 and first.budget is not None,
        "noun": first.menu.noun,
        "resource": first.resource,
        "options": list(first.menu.names),
        "widths": None if widths is None else widths.tolist(),
        "clients": len(first),
        "samples": int(samples.sum()),
        "values": values.tolist(),
        "utility": [_digits(own.objective) for own in allocations],
        "bound": [_digits(own.bound) for own in allocations],
        "gap": [_digits(own.gap) for own in allocations],
        "termination": [str(own.termination) for own in allocations],
        "changed": [0, *(int(np.count_nonzero(a != b)) for a, b in pairwise(choices))],
        "price": [_digits(own.prices[at]) for own in allocations],
        "counts": [np.bincount(choice, minlength=m).tolist() for choice in choices],
        "weights": [
            np.bincount(choice, samples, m).astype(np.int64).tolist() for choice in choices
        ],
        "next": [_next(own) for own in allocations] if at == 0 else None,
        **_limits(allocations, over, at),
    }


def _next(allocation: Allocation) -> list[list[list[Any]]]:
    """Who changes first with more of the budget, and who with less."""
    return [[_change(change) for change in way] for way in next_changes(allocation, _NEXT)]


def _change(change: Change) -> list[Any]:
    ends = (end if isinstance(end, str) else f"{end:g}" for end in (change.width, change.then))
    return [change.client, *ends, _digits(change.price)]


def _limits(allocations: Sequence[Allocation], over: str, at: int) -> dict[str, Any]:
    """Use, bound and price of each limit at each budget; of many limits, of those that bind."""
    rows = allocations[0].problem.limits
    prices = np.array([own.prices for own in allocations])
    stated = [
        place for place, row in enumerate(rows)
        if not row.link and not isinstance(row, SameRow) and row.bound < INT64_ROOM
    ]  # fmt: skip
    shown = sorted(sorted(stated, key=lambda place: -np.count_nonzero(prices[:, place]))[:_LIMITS])
    return {
        "limits": [
            {
                "label": over if 0 < place == at else rows[place].label,
                "least": rows[place].upper is None,
                "used": [own.problem.limits[place].total(own.choice) for own in allocations],
                "bound": [own.problem.limits[place].bound for own in allocations],
                "price": [_digits(price) for price in prices[:, place]],
            }
            for place in shown
        ],
        "more_limits": len(stated) - len(shown),
    }


def _clients(allocations: Sequence[Allocation]) -> dict[str, Any]:
    """Who has what: all at the first budget, then those that change, counted from the last one."""
    problem = allocations[0].problem
    choices = [own.choice for own in allocations]
    changes = []
    for before, now in pairwise(choices):
        rows = np.flatnonzero(before != now)
        steps = np.diff(rows, prepend=0)
        changes.append(np.stack([steps, now[rows]], axis=1).ravel().tolist())
    few = len(problem) <= FEW and WIDTH in problem.menu.attributes
    widest = np.where(problem.admissible, problem.widths, 0.0).max(axis=1) if few else None
    return {
        "names": list(problem.clients.all_names),
        "widest": None if widest is None else widest.tolist(),
        "first": choices[0].tolist(),
        "changes": changes,
    }


def _digits(value: float) -> float:
    """Ten significant digits: more are shown nowhere."""
    return float(f"{value:.10g}")
