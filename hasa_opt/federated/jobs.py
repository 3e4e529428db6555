"""Jobs and reports: what an engine is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from hasa_opt.federated.local import LocalResult, LocalTraining
from hasa_opt.federated.schemes import Draw, Key
from hasa_opt.models.cuts import Kept
from hasa_opt.models.supernet import SupernetModel, prefix

if TYPE_CHECKING:
    from hasa_opt.tasks import Split


@dataclass(frozen=True, eq=False)
class Job:
    """What one client has to do in a round.

    Parameters
    ----------
    client
        Row of the client.
    width
        Width of its subnet.
    kept
        The units of the supernet that the subnet is made of.
    split
        Its training samples.
    key
        (seed, round, client), of which its random numbers are made.
    draw
        Draws the width that each batch trains of the subnet; None: each trains all of it.
    own
        Parameters that the client has instead of the server's, by name.
    """

    client: int
    width: float
    kept: Kept
    split: Split
    key: Key
    draw: Draw | None = None
    own: Mapping[str, Tensor] = field(default_factory=dict)

    def drawn(self, server: SupernetModel) -> Iterator[tuple[float, Kept]] | None:
        """Width and units that each batch trains, without end; None: all of the subnet."""
        if self.draw is None:
            return None
        return ((width, prefix(server, width)) for width in self.draw(self.width, self.key))


@dataclass(frozen=True, eq=False)
class Report:
    """What a client's training gave.

    Parameters
    ----------
    job
        What it had to do.
    state
        ``state_dict()`` of its trained subnet.
    result
        Loss, time and steps.
    method
        How it was trained: "sequential", or the way in which it was stacked with other clients,
        a name in :data:`hasa_opt.federated.stacks.STACKS`.
    """

    job: Job
    state: Mapping[str, Tensor]
    result: LocalResult
    method: str = "sequential"


Engine = Callable[[SupernetModel, Iterable[Job], LocalTraining], Iterator[Report]]
"""Trains subnets of a supernet, which it leaves as it is; one report per job, in their order.

Jobs are taken from the iterable when they are needed and dropped once reported, so that the splits
of few clients are held at a time.
"""
