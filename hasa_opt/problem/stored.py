"""A problem as JSON and arrays, and back: clients, menu, tables, rows, and what was asked for."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from hasa_opt._utils.archive import Archive, damage
from hasa_opt._utils.checks import BoolArray
from hasa_opt._utils.rational import refuse_overflow
from hasa_opt._utils.sparse import is_sparse
from hasa_opt._utils.sparse import scipy_sparse as sp
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InputError
from hasa_opt.problem.groups import refuse_groups
from hasa_opt.problem.limits import (
    Constraint,
    Fairness,
    MaskConstraint,
    RobustRow,
    Row,
    RowConstraint,
    Share,
    Terms,
    constraint_name,
)
from hasa_opt.problem.menu import Menu

__all__ = ["StoredMask", "StoredRows", "pack", "unpack"]

_MOST = 2**63
_LABEL = 100
"""Characters of the words for a constraint: a line."""


@dataclass(frozen=True)
class StoredRows:
    """A constraint of a problem that was loaded: its rows are in ``problem.rows``.

    Attributes
    ----------
    stored_kind : str
        Name of the class that it was.
    words : str
        How it printed.
    """

    stored_kind: str
    words: str

    def __repr__(self) -> str:
        return self.words

    def rows(self, terms: Terms) -> tuple[Row, ...]:
        """Refuse: a file keeps the rows of its own problem, not how to state them for another.

        Raises
        ------
        InputError
            Always.
        """
        raise _refused(self.words)


@dataclass(frozen=True)
class StoredMask:
    """A mask of a problem that was loaded: it is in ``problem.admissible``.

    Attributes
    ----------
    stored_kind, words : str
        As of :class:`StoredRows`.
    """

    stored_kind: str
    words: str

    def __repr__(self) -> str:
        return self.words

    def mask(self, terms: Terms) -> BoolArray:
        """Refuse, as :meth:`StoredRows.rows` does.

        Raises
        ------
        InputError
            Always.
        """
        raise _refused(self.words)


def _refused(words: str) -> InputError:
    return InputError(
        f"{words} is from a file, which keeps its rows for the problem of that file alone: state "
        "it anew for another problem"
    )


def pack(problem: Mapping[str, Any]) -> Archive:
    """Put the fields of a problem into an archive.

    Raises
    ------
    InputError
        If one cannot be kept, such as a limit on groups, or a preference of another package.
    """
    kept = Archive()
    content = kept.content
    content["clients"] = _pack_clients(problem["clients"], kept)
    content["resources"] = {
        name: kept.add(f"resources/{at}", table)
        for at, (name, table) in enumerate(problem["resources"].items())
    }
    content["menu"] = _pack_menu(problem["menu"], kept)
    for name in ("costs", "utilities", "admissible"):
        content[name] = kept.add(name, problem[name])
    content |= {name: problem[name] for name in ("budget", "limit", "full_cost", "resource")}
    refuse_groups(problem["rows"])
    content["rows"] = [_pack_row(row, f"rows/{at}", kept) for at, row in enumerate(problem["rows"])]
    content["constraints"] = [_pack_constraint(item) for item in problem["constraints"]]
    return kept


def unpack(kept: Archive) -> dict[str, Any]:
    """Fields of a problem from an archive, checked; any error means that it is damaged."""
    content = kept.content
    clients = _unpack_clients(content["clients"], kept)
    names = content["menu"]["names"]
    shape = len(clients), len(names)
    tables = {name: _costs(kept, table, shape) for name, table in content["resources"].items()}
    costs = _costs(kept, content["costs"], shape)
    utilities = kept.floats(content["utilities"], *shape)
    admissible = kept.bools(content["admissible"], *shape)
    if not admissible.any(axis=1).all():
        raise damage("a client without any option")
    if not np.isfinite(np.abs(utilities, where=admissible, out=np.zeros(shape)).sum()):
        raise damage("utilities that are not finite")
    resource = str(content["resource"])
    return {
        "clients": clients,
        "menu": _unpack_menu(content["menu"], tables or {resource: costs}, kept, shape),
        "costs": costs,
        "utilities": utilities,
        "admissible": admissible,
        "budget": None if content["budget"] is None else _above_0(content["budget"]),
        "limit": _whole(content["limit"], 0),
        "full_cost": None if content["full_cost"] is None else _whole(content["full_cost"], 1),
        "rows": tuple(_unpack_row(row, kept, shape) for row in content["rows"]),
        "constraints": tuple(map(_unpack_constraint, content["constraints"])),
        "resource": resource,
        "resources": tables,
    }


def _costs(kept: Archive, name: str, shape: tuple[int, int]) -> Any:
    table = kept.ints(name, *shape)
    if table.min() < 0:
        raise damage("costs below 0")
    refuse_overflow(table, "costs")
    return table


def _pack_clients(clients: Clients, kept: Archive) -> dict[str, Any]:
    counts = clients.counts
    table: Any = kept.add("clients/counts", None if is_sparse(counts) else counts)
    if isinstance(counts, sp.csr_array):
        table = {
            part: kept.add(f"clients/counts/{part}", getattr(counts, part))
            for part in ("data", "indices", "indptr")
        } | {"columns": int(counts.shape[1])}
    texts = ("names", "site", "labels", "device")
    return {
        "samples": kept.add("clients/samples", clients.samples),
        "max_width": kept.add("clients/max_width", clients.max_width),
        "counts": table,
    } | {name: None if getattr(clients, name) is None else [*getattr(clients, name)]
         for name in texts}  # fmt: skip


def _unpack_clients(content: Mapping[str, Any], kept: Archive) -> Clients:
    return Clients(
        kept.ints(content["samples"], None),
        counts=_counts(content["counts"], kept),
        max_width=kept.floats(content["max_width"], None),
        names=content["names"],
        site=content["site"],
        labels=content["labels"],
        device=content["device"],
    )


def _counts(content: Any, kept: Archive) -> Any:
    """A table, or a sparse matrix, its indices checked first: scipy's compiled code trusts them."""
    if not isinstance(content, Mapping):
        return kept.ints(content, None, None)
    data, at, starts = (kept.ints(content[part], None) for part in ("data", "indices", "indptr"))
    columns = _whole(content["columns"], 1)
    sound = (
        starts.size > 1 and starts[0] == 0 and starts[-1] == at.size == data.size
        and (np.diff(starts) >= 0).all() and ((at >= 0) & (at < columns)).all()
    )  # fmt: skip
    if not sound:
        raise damage("counts whose indices are none")
    return sp.csr_array((data, at, starts), shape=(starts.size - 1, columns))


def _pack_menu(menu: Menu, kept: Archive) -> dict[str, Any]:
    return {
        "names": [*menu.names],
        "attributes": {
            name: kept.add(f"menu/attributes/{at}", values)
            for at, (name, values) in enumerate(menu.attributes.items())
        },
        "allowed": kept.add("menu/allowed", menu.allowed),
        "full": menu.full,
    }


def _unpack_menu(
    content: Mapping[str, Any], costs: Mapping[str, Any], kept: Archive, shape: tuple[int, int]
) -> Menu:
    """The menu, its costs as tables: what they were made from is not kept."""
    return Menu(
        content["names"],
        costs=costs,
        attributes={
            name: kept.floats(values, shape[1]) for name, values in content["attributes"].items()
        },
        allowed=kept.bools(content["allowed"], *shape),
        full=content["full"],
    )


def _pack_row(row: Row, name: str, kept: Archive) -> dict[str, Any]:
    share, robust = row.share, row if isinstance(row, RobustRow) else None
    return {
        "label": row.label,
        "coefficients": kept.add(f"{name}/coefficients", row.coefficients),
        "lower": None if row.lower is None else int(row.lower),
        "upper": None if row.upper is None else int(row.upper),
        "members": kept.add(f"{name}/members", row.members),
        "share": None if share is None else [str(share.value), share.of],
        "resource": row.resource,
        "gamma": robust and robust.gamma,
        "deviation": robust and kept.add(f"{name}/deviation", robust.deviation),
    }


def _unpack_row(content: Mapping[str, Any], kept: Archive, shape: tuple[int, int]) -> Row:
    members = kept.ints(content["members"], None)
    n_members = shape[0] if members is None else members.size
    if members is not None and not (
        (np.diff(members) > 0).all() and ((members >= 0) & (members < shape[0])).all()
    ):
        raise damage("members that are no rows of clients")
    fields: dict[str, Any] = {
        "label": str(content["label"]),
        "coefficients": kept.ints(content["coefficients"], n_members, shape[1]),
        "lower": None if content["lower"] is None else _whole(content["lower"], -_MOST),
        "upper": None if content["upper"] is None else _whole(content["upper"], -_MOST),
        "members": members,
        "share": None,
        "resource": str(content["resource"]),
    }
    if fields["lower"] is None and fields["upper"] is None:
        raise damage("a row without a limit")
    if content["share"] is not None:
        value, of = content["share"]
        fields["share"] = Share(Fraction(value), _whole(of, 1))
    if content["gamma"] is None:
        return Row(**fields)
    deviation = kept.ints(content["deviation"], n_members, shape[1])
    return RobustRow(**fields, gamma=_whole(content["gamma"], 0), deviation=deviation)


def _pack_constraint(constraint: Constraint) -> dict[str, str]:
    if isinstance(constraint, Fairness):
        return {"states": "fairness", "mode": constraint.mode}
    states = "rows" if isinstance(constraint, RowConstraint) else "mask"
    if states == "mask" and not isinstance(constraint, MaskConstraint):
        raise InputError(f"{constraint!r} cannot be saved: of preferences only Fairness can")
    ours = type(constraint).__module__.startswith("hasa_opt.")
    kind = getattr(constraint, "stored_kind", constraint_name(constraint) if ours else "")
    words = textwrap.shorten(repr(constraint), _LABEL, placeholder=" ...")
    return {"states": states, "kind": kind, "words": words}


def _unpack_constraint(content: Mapping[str, str]) -> Constraint:
    if content["states"] == "fairness":
        return Fairness(content["mode"])
    stored = str(content["kind"]), str(content["words"])
    if content["states"] == "rows":
        return StoredRows(*stored)
    if content["states"] == "mask":
        return StoredMask(*stored)
    raise damage(f"a constraint that states {content['states']!r}")


def _whole(value: Any, least: int) -> int:
    if type(value) is not int or not least <= value <= _MOST:
        raise damage(f"{value!r} for a whole number")
    return value


def _above_0(value: Any) -> float:
    if type(value) is not float or not 0 < value < float("inf"):
        raise damage(f"{value!r} for a share")
    return value
