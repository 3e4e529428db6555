"""Menus as data frames have them: a row for each option, or for each option of each client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray, float_array, listed
from hasa_opt._utils.names import tidy
from hasa_opt._utils.rational import written
from hasa_opt.errors import InputError
from hasa_opt.problem.cost import whole_costs

__all__ = ["options_of", "refuse_unknown_full"]


def options_of(
    columns: Mapping[str, list[Any]],
    option: str,
    client: str | None,
    costs: tuple[str, ...],
) -> dict[str, Any]:
    """Arguments of :class:`Menu`, from the columns of a frame with a row for each option."""
    needed = [option, *costs] if client is None else [option, client, *costs]
    if missing := [name for name in needed if name not in columns]:
        raise InputError(
            f"the frame has no column {listed(missing, repr)}; its columns are "
            f"{listed(columns, repr)}"
        )
    named = [tidy(name) for name in columns[option]]
    names = list(dict.fromkeys(named))
    others = [name for name in columns if name not in (option, client, *costs)]
    at = {name: row for row, name in enumerate(names)}
    column = np.array([at[name] for name in named])
    owners = [tidy(name) for name in columns[client]] if client is not None else []
    fleet = list(dict.fromkeys(owners))
    row_of = {name: row for row, name in enumerate(fleet)}
    row = np.array([row_of[name] for name in owners]) if owners else np.zeros(len(column), int)
    shape = (max(1, len(fleet)), len(names))
    allowed = np.zeros(shape, dtype=bool)
    for first, second in zip(row.tolist(), column.tolist(), strict=True):
        if allowed[first, second]:
            whose = "" if client is None else f" of {fleet[first]!r}"
            raise InputError(f"option {names[second]!r}{whose} stands twice: leave one row out")
        allowed[first, second] = True
    tables = {name: np.zeros(shape, dtype=np.int64) for name in costs}
    for name, table in tables.items():
        table[row, column] = whole_costs(columns[name], f"cost of {name!r}")
    attributes = {name: _one_per_option(columns[name], name, column, names) for name in others}
    if client is None:
        rows = {name: table[0] for name, table in tables.items()}
        return {"names": names, "costs": rows, "attributes": attributes}
    return {
        "names": names,
        "costs": tables,
        "attributes": attributes,
        "allowed": allowed,
        "clients": fleet,
    }


def _one_per_option(
    values: Sequence[Any], attribute: str, column: IntArray, names: Sequence[str]
) -> FloatArray:
    """An attribute, which must be the same in all rows of an option."""
    given = float_array(values, f"attribute {attribute!r}")
    found = np.full(len(names), np.nan)
    for value, at in zip(given.tolist(), column.tolist(), strict=True):
        if not np.isnan(found[at]) and found[at] != value:
            raise InputError(
                f"option {names[at]!r} has {attribute} {written(found[at])} and {written(value)}: "
                "an attribute is the same for all clients; name the options apart"
            )
        found[at] = value
    return found


def refuse_unknown_full(given: Mapping[str, Any], full: str | None) -> None:
    """Refuse a share of an option that some client lacks: what it costs there is not known.

    Parameters
    ----------
    given : mapping
        Arguments of :class:`Menu`, as :func:`options_of` gives them.
    full : str or None

    Raises
    ------
    InputError
        Naming such a client.
    """
    if full is None or "allowed" not in given or tidy(full) not in given["names"]:
        return
    has = given["allowed"][:, given["names"].index(tidy(full))]
    lacking = [name for name, known in zip(given["clients"], has, strict=True) if not known]
    if lacking:
        raise InputError(
            f"full={full!r} is no option of {listed(lacking, repr)}, so that nobody knows what all "
            "would cost there: choose one that all clients have, or leave it out and give absolute "
            "limits"
        )
