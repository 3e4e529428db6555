"""Progress of a study: a bar on a terminal, a line that changes in a notebook."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypedDict

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

__all__ = ["Callbacks", "training_bar", "training_shown"]


class Callbacks(TypedDict, total=False):
    """What a study calls: with finished runs and all runs, and with finished rounds and all."""

    on_progress: Callable[[int, int], Any] | None
    on_round: Callable[[int, int], Any] | None


@contextmanager
def training_shown() -> Iterator[Callbacks]:
    """Show on standard error how far a study is, where somebody is looking; yields its callbacks.

    Where there is neither a terminal nor a notebook, nothing is printed.
    """
    console = Console(stderr=True)
    if console.is_jupyter:
        yield _in_a_cell()
    elif console.is_terminal:
        with training_bar(console) as callbacks:
            yield callbacks
    else:
        yield {}


@contextmanager
def training_bar(console: Console) -> Iterator[Callbacks]:
    """Show how far a study is on a terminal; it is gone in the end."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TextColumn("rounds"), TimeElapsedColumn(), console=console, transient=True
    ) as progress:
        bar = progress.add_task("training", total=None)
        yield {
            "on_progress": lambda runs, of: progress.update(
                bar, description=f"training: {runs} of {of} runs"
            ),
            "on_round": lambda rounds, of: progress.update(bar, completed=rounds, total=of),
        }


def _in_a_cell() -> Callbacks:
    """A line below a notebook's cell, which each round changes."""
    from IPython.display import display

    line: Any = display({"text/plain": "training"}, raw=True, display_id=True)  # type: ignore[no-untyped-call]

    def tell(rounds: int, of: int) -> None:
        line.update({"text/plain": f"training: {rounds} of {of} rounds"}, raw=True)

    return {"on_round": tell}
