"""A verified partition: why the solver stopped, and who is with whom."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hasa_opt._utils.checks import IntArray, listed
from hasa_opt._utils.frames import frame_of
from hasa_opt._utils.showing import SHOWN_ROWS, Shown, new_table
from hasa_opt.problem.result import Termination, relative_gap
from hasa_opt.solving.grouping.plots import plot_similarity
from hasa_opt.solving.grouping.problem import PartitionProblem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from rich.console import RenderableType

__all__ = ["Partition"]

_NAMED = 8
"""Members that a line of the table names."""


@dataclass(frozen=True, eq=False)
class Partition(Shown):
    """Clients in groups, verified.

    Attributes
    ----------
    problem : PartitionProblem
        The similarities and the limits.
    groups : (n_clients,) int64
        Group of each client, numbered from 0 by first appearance.
    objective : float
        Sum of the similarities over the pairs within groups, recomputed.
    bound : float
        No partition within the limits is worth more.
    termination : Termination
        Why the solver stopped.
    solver : str
        Name of the backend that gave this answer.
    seconds : float
        Wall-clock time of the call.
    claim_held : bool
        False if the backend claimed something that verification disproved.
    message : str
        The backend's own status, and what verification found.
    incumbent_from : str
        Who found the partition: the solver, or ``"greedy"``, which every call begins with.
    own_objective : float or None
        What the solver found itself, without what is known before it runs.
    """

    problem: PartitionProblem
    groups: IntArray
    objective: float
    bound: float
    termination: Termination
    solver: str
    seconds: float
    claim_held: bool = True
    message: str = ""
    incumbent_from: str = ""
    own_objective: float | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the clients; their rows where none were given."""
        return self.problem.names

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return int(self.groups.max()) + 1

    @property
    def gap(self) -> float:
        """``(bound - objective) / |objective|``, at least 0."""
        return relative_gap(self.problem, self.objective, self.bound)

    @cached_property
    def sizes(self) -> IntArray:
        """Clients of each group, ``(n_groups,)``."""
        return np.bincount(self.groups)

    @cached_property
    def members(self) -> tuple[tuple[str, ...], ...]:
        """Names of the clients of each group."""
        found: list[list[str]] = [[] for _ in range(self.n_groups)]
        for name, group in zip(self.names, self.groups.tolist(), strict=True):
            found[group].append(name)
        return tuple(map(tuple, found))

    def frame(self, library: str | None = None) -> Any:
        """Clients and their groups as a data frame.

        Parameters
        ----------
        library : {"pandas", "polars", "pyarrow"}, optional
            Default: the first of them that is installed.

        Raises
        ------
        MissingExtraError
            If no such library is installed.
        """
        return frame_of({"client": self.names, "group": self.groups.tolist()}, library)

    def plot(self, similarity: Any = None, *, ax: Axes | None = None) -> Figure | SubFigure:
        """Draw a matrix of similarities with the clients in the order of their groups.

        Up to 30 clients are named and as many groups marked off; beyond 400 clients a pixel is the
        mean over a block of pairs, those without a similarity counting as 0.

        Parameters
        ----------
        similarity : (n_clients, n_clients) floats, dense or sparse, optional
            Default: what the partition was made of; or another matrix to see in its order.
        ax : matplotlib Axes, optional
            Where to draw. Default: a figure of its own.

        Returns
        -------
        matplotlib Figure or SubFigure
            The one that was drawn in.

        Raises
        ------
        InputError
            For a matrix of another shape.
        MissingExtraError
            If matplotlib is absent, with the command that installs it.
        """
        given = self.problem.neighbours if similarity is None else similarity
        order = np.argsort(self.groups, kind="stable")
        what = "Partition.plot()"
        return plot_similarity(ax, what, given, self.names, order, self.sizes).figure

    @property
    def summary(self) -> str:
        """Why the solver stopped and what the partition is worth, in one line."""
        other = "" if self.incumbent_from == self.solver else f", found by {self.incumbent_from}"
        groups = "1 group" if self.n_groups == 1 else f"{self.n_groups} groups"
        return (
            f"{self.solver}: {self.termination}, {groups}, objective {self.objective:.9g}, "
            f"bound {self.bound:.9g}, gap {self.gap:.2g}{other}"
        )

    def __repr__(self) -> str:
        return f"Partition({self.summary})"

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        table = new_table("group")
        table.add_column("clients", justify="right", overflow="fold")
        table.add_column("members", overflow="fold")
        for group, members in enumerate(self.members[:SHOWN_ROWS]):
            names = Text(listed(members, most=_NAMED))
            table.add_row(str(group), str(len(members)), names)
        if self.n_groups > SHOWN_ROWS:
            table.caption = f"the first {SHOWN_ROWS} of {self.n_groups} groups"
        return Group(table, Text(self.summary))
