"""Record: what the rounds of a run have measured so far, of which a history is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from hasa_opt._utils.checks import FloatArray
from hasa_opt.federated.events import DECISIONS, Event
from hasa_opt.federated.history import History
from hasa_opt.federated.measurements import Measured, Row
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.policies.subnets import Subnets, describe_subnets


@dataclass(eq=False)
class Record:
    """What the rounds of a run have measured so far.

    Attributes
    ----------
    widths : (n_clients,) floats
    metadata : dict
        Settings and data of the run, ready for JSON.
    rows : list of Measured
        One for each round.
    events : list of Event
    """

    widths: FloatArray
    metadata: dict[str, Any]
    rows: list[Measured] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def take(self, past: History) -> None:
        """Begin with the rounds of a checkpoint, and with what was decided in them."""
        if DECISIONS in past.metadata:
            self.metadata[DECISIONS] = list(past.metadata[DECISIONS])
            self.widths = past.widths
        self.events = list(past.events)
        self.rows = list(past.measured)

    def decide(self, number: int, subnets: Subnets, rounds: int) -> None:
        """Note what an allocator has decided before a round, of so many in all."""
        told = {"round": number, "widths": subnets.widths.tolist(), "reason": subnets.reason}
        made = [each for each in self.metadata.get(DECISIONS, ()) if each["round"] < number]
        self.metadata[DECISIONS] = [*made, told | describe_subnets(subnets)]
        self.widths = subnets.last_of(rounds).widths

    def add(self, row: Row, events: Iterable[Event]) -> None:
        """Append a round; its events by client, in whatever order the engine trained them."""
        self.rows.append(Measured.of(row))
        self.events += sorted(events, key=lambda event: (event.client is None, event.client))

    def history(self, server: SupernetModel, clients: Mapping[str, Tensor]) -> History:
        """Everything so far, with a copy of the weights and what the clients hold."""
        state = server.state_dict()
        weights = {name: tensor.detach().clone().cpu() for name, tensor in state.items()}
        return History(
            widths=self.widths,
            measured=tuple(self.rows),
            metadata=self.metadata,
            weights=weights,
            clients={name: tensor.detach().clone().cpu() for name, tensor in clients.items()},
            events=tuple(self.events),
        )
