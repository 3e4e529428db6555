"""A result as JSON and arrays beside its problem, and back: what it claims is recomputed."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, isfinite
from typing import Any

import numpy as np

from hasa_opt._utils.archive import Archive, damage
from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt.errors import InputError
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.totals import Totals

__all__ = ["pack_result", "recomputed", "unpack_result"]

_TYPES: dict[str, tuple[type, ...]] = {
    "solver": (str,),
    "termination": (str,),
    "bound": (float, type(None)),
    "seconds": (float,),
    "claim_held": (bool,),
    "message": (str,),
    "fallback_from": (list,),
    "incumbent_from": (str,),
    "own_objective": (float, type(None)),
}
"""Fields of a result that JSON keeps, with what they may be."""
_ROUNDING = 1e-12
"""Of a sum of utilities, relative to the largest: another machine may add in another order."""


def pack_result(
    problem: AllocationProblem,
    fields: Mapping[str, Any],
    prices: FloatArray,
    choice: IntArray | None,
) -> Archive:
    """Put the fields of a result into an archive, with its problem and what both add up to."""
    kept = problem.packed()
    claims = {name: fields[name] for name in _TYPES}
    claims["bound"] = None if claims["bound"] == inf else float(claims["bound"])
    claims["termination"], claims["seconds"] = str(claims["termination"]), float(claims["seconds"])
    totals = None if choice is None else problem.evaluate(choice)
    claims["objective"] = None if totals is None else totals.objective
    claims["spent"] = None if totals is None else totals.spent
    content = {
        "problem": kept.content,
        "problem_sha256": kept.digest("problem"),
        "result": claims,
    }
    both = Archive(content, kept.arrays)
    claims["prices"] = both.add("result/prices", prices)
    claims["choice"] = both.add("result/choice", choice)
    return both


def unpack_result(kept: Archive) -> dict[str, Any]:
    """Fields of a result from an archive, without its totals; any error means that it is damaged.

    Raises
    ------
    InputError
        If the result is for another problem than the one beside it.
    """
    content = kept.content
    claims = content["result"]
    own = {name: kept.arrays[name] for name in kept.arrays if not name.startswith("result/")}
    part = Archive(content["problem"], own)
    if part.digest("problem") != content["problem_sha256"]:
        raise InputError("the result is for another problem than the one beside it: solve it again")
    for name, types in _TYPES.items():
        if type(claims[name]) not in types:
            raise damage(f"{name} {claims[name]!r}")
    problem = AllocationProblem.unpacked(part)
    fields = {name: claims[name] for name in _TYPES}
    fields["bound"] = inf if fields["bound"] is None else fields["bound"]
    fields["fallback_from"] = tuple(map(str, fields["fallback_from"]))
    fields["prices"] = kept.floats(claims["prices"], len(problem.limits))
    if not (isfinite(fields["seconds"]) and np.isfinite(fields["prices"]).all()):
        raise damage("prices or seconds that are not finite")
    fields["held"] = kept.ints(claims["choice"], len(problem))
    return fields | {"problem": problem}


def recomputed(kept: Archive, fields: Mapping[str, Any]) -> Totals | None:
    """What the allocation of a file costs and is worth, if that is what the file says.

    Raises
    ------
    InputError
        If it breaks a limit, or is worth or costs something else, or more than the bound.
    """
    problem, claims = fields["problem"], kept.content["result"]
    if fields["held"] is None:
        return None
    found: Totals = problem.evaluate(fields["held"])
    if not found.feasible:
        raise _false("within the limits", "; ".join(found.violations))
    room = _ROUNDING * problem.magnitude
    if not abs(claims["objective"] - found.objective) <= room:
        raise _false(f"worth {claims['objective']}", f"it is worth {found.objective}")
    if claims["spent"] != found.spent:
        raise _false(f"of cost {claims['spent']}", f"it costs {found.spent}")
    if not fields["bound"] >= found.objective - room:
        raise _false(f"at most worth {fields['bound']}", f"it is worth {found.objective}")
    return found


def _false(claim: str, truth: str) -> InputError:
    return InputError(
        f"says that the allocation is {claim}, but {truth}: do not use it, solve the problem again"
    )
