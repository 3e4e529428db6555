"""Options that clients take, or may take, as columns of a data frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt.problem.menu import Menu

__all__ = ["option_columns"]


def option_columns(
    menu: Menu,
    resources: Mapping[str, IntArray],
    utilities: FloatArray,
    rows: IntArray,
    options: IntArray,
) -> dict[str, list[Any]]:
    """Option, attributes, costs by resource, and utility, of clients by row with an option each."""
    found: dict[str, list[Any]] = {"option": [menu.names[at] for at in options.tolist()]}
    for name, values in menu.attributes.items():
        found[name] = values[options].tolist()
    for name, table in resources.items():
        found[name] = table[rows, options].tolist()
    return found | {"utility": utilities[rows, options].tolist()}
