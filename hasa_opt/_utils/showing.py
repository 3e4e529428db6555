"""How a noun shows itself: one rich table or text, as plain text and in a notebook."""

from __future__ import annotations

import io
import sys
from dataclasses import is_dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = [
    "SHOWN_ROWS",
    "Shown",
    "as_html",
    "as_text",
    "first_line",
    "first_of",
    "in_a_word",
    "new_table",
]

SHOWN_ROWS = 20
"""Clients in a table, about as many as a terminal shows without scrolling; of more, the first."""

_WIDEST = 100
"""Characters of a line: that of the code, which most terminals and notebooks have room for."""

_NOTEBOOK = (
    '<pre style="white-space:pre;overflow-x:auto;line-height:normal;'
    "font-family:Menlo,'DejaVu Sans Mono',consolas,'Courier New',monospace\">{code}</pre>"
)


def first_line(error: Exception) -> str:
    """The kind of an error and the first line of its message."""
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"


def in_a_word(part: Any) -> str:
    """What can be called, as settings tell it: its name, and the arguments that it was given.

    Functions of equal names are told alike.
    """
    if isinstance(part, str):
        return part
    if isinstance(part, partial):
        named = (f"{name}={value!r}" for name, value in sorted(part.keywords.items()))
        return f"{in_a_word(part.func)}({', '.join((*map(repr, part.args), *named))})"
    if is_dataclass(part) and not isinstance(part, type):
        return repr(part)
    return str(getattr(part, "__name__", type(part).__name__))


class Shown:
    """A noun that prints as its rich form; ``repr`` stays its short form in one line."""

    def __rich__(self) -> Any:
        """A table or a text of :mod:`rich`."""
        raise NotImplementedError

    def __str__(self) -> str:
        return as_text(self.__rich__())

    def _repr_html_(self) -> str:
        return as_html(self.__rich__())


def new_table(*columns: str, title: str | None = None) -> Table:
    """An empty table in the style that all of ours share; the columns are aligned to the left."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, box=SIMPLE_HEAD, caption_justify="left")
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def first_of(n_clients: int) -> str | None:
    """What a table says below that shows the first clients only; None if it shows all."""
    return f"the first {SHOWN_ROWS} of {n_clients} clients" if n_clients > SHOWN_ROWS else None


def as_text(shown: Any) -> str:
    """Plain text, without blanks at the ends of lines.

    Lines are drawn with signs that standard output can encode.
    """
    console = _console()
    with console.capture() as captured:
        console.print(shown, highlight=False)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()).strip("\n")


def as_html(shown: Any) -> str:
    """Text in its colours, for a notebook."""
    console = _console(record=True)
    console.print(shown, highlight=False)
    return console.export_html(code_format=_NOTEBOOK, inline_styles=True)


def _console(record: bool = False) -> Console:
    from rich.console import Console

    # The encoding of standard output decides with which signs rich draws lines.
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    page = io.TextIOWrapper(io.BytesIO(), encoding, errors="replace")
    return Console(file=page, width=_WIDEST, record=record, color_system=None, force_jupyter=False)
