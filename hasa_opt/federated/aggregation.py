"""Aggregation: from the clients' subnets to the server's next supernet."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from hasa_opt.errors import InputError
from hasa_opt.federated.batch_norm import running_statistics
from hasa_opt.federated.units import Place, Subnets
from hasa_opt.models.cuts import Coordinates, Kept
from hasa_opt.models.subnets import check_state, prefix
from hasa_opt.models.supernet import SupernetModel

AGGREGATIONS = ("full", "selective")


class Update(NamedTuple):
    """What one client sends back.

    Parameters
    ----------
    width
        Width of its subnet.
    samples
        Its weight in the average: its number of training samples, or another of at least 0.
    state
        ``state_dict()`` of its subnet.
    kept
        The units of the supernet that it trained; None stands for the prefix of its width.
    """

    width: float
    samples: float
    state: Mapping[str, Tensor]
    kept: Kept | None = None

    def units(self, model: SupernetModel) -> Kept:
        """Units of the supernet that it trained."""
        return prefix(model, self.width) if self.kept is None else self.kept


def aggregate(
    model: SupernetModel,
    updates: Iterable[Update],
    mode: Literal["full", "selective"] = "full",
    local: Collection[str] = (),
) -> dict[str, Tensor]:
    """Average the clients' subnets into a new state of the supernet.

    ``full``: the coordinates that a client does not hold are filled with the broadcast value, then
    all clients are averaged (FedAvg of the HASA paper, arXiv:2606.07621). ``selective``: each
    coordinate is averaged over the clients that trained it (HeteroFL, arXiv:2010.01264). In both,
    clients weigh by their samples, and a coordinate that nobody trained keeps the server's value.
    BatchNorm's running statistics are no weights: they keep the server's value, since those of one
    width are wrong at another (see :mod:`hasa_opt.federated.batch_norm`).

    Parameters
    ----------
    model
        The server's supernet as it was broadcast; it is not changed.
    updates
        One per client, taken one at a time. Sums run in this order, in double precision.
    mode
        The kind of average.
    local
        Parameters that clients keep to themselves; the server's value stays.

    Returns
    -------
    dict
        The new full-size state, with the types of the model's.

    Raises
    ------
    InputError
        If the mode is unknown, no client has samples, or a state does not fit its width.
    """
    if mode not in AGGREGATIONS:
        raise InputError(f"unknown aggregation {mode!r}: use one of {AGGREGATIONS}")
    server = model.state_dict()
    learned = server.keys() - running_statistics(model).keys() - set(local)
    sums = {name: torch.zeros_like(t, dtype=torch.float64) for name, t in server.items()}
    held = {name: torch.zeros_like(t, dtype=torch.float64) for name, t in server.items()}
    total, subnets = 0.0, Subnets(model)
    holders: defaultdict[Place, float] = defaultdict(float)
    for update in updates:
        samples, state = update.samples, update.state
        if samples < 0:
            raise InputError(f"an update has samples = {samples}: a client has at least 0")
        place = subnets.place(update.units(model))
        check_state(place.where, state)
        for name in learned:
            place.where[name].add(sums[name], state[name].to(torch.float64) * samples)
        holders[place] += samples
        total += samples
    for place, samples in holders.items():
        for name in learned:
            place.where[name].add(held[name], samples)
    if total == 0:
        raise InputError("no client trained on any sample: there is nothing to average")
    return {
        name: _average(sums[name], held[name], server[name], total if mode == "full" else None)
        for name in server
    }


def _average(sums: Tensor, held: Tensor, server: Tensor, total: float | None) -> Tensor:
    """Divide by the weight that holds each coordinate, or by the total after filling up to it."""
    weight = held
    if total is not None:
        sums = sums + (total - held) * server
        weight = torch.full_like(held, total)
    return torch.where(held > 0, (sums / weight).to(server.dtype), server)


class Screen:
    """Checks the updates of one round before they can touch the weights.

    Parameters
    ----------
    server
        The supernet as it was broadcast.
    max_norm
        Largest Euclidean norm of an update: of all that it changes in the subnet that the client
        received. None: any.
    """

    def __init__(self, server: SupernetModel, max_norm: float | None) -> None:
        self._server = server
        self._state = server.state_dict()
        self._max_norm = math.inf if max_norm is None else max_norm
        self._server_norm = _rough_norm(self._state)
        self._subnets = Subnets(server)

    def fault(self, update: Update) -> str | None:
        """Say why an update cannot be used: shape, NaN or infinity, norm; None if it can."""
        where = self._subnets.place(update.units(self._server)).where
        try:
            check_state(where, update.state)
        except InputError as error:
            return str(error).partition(": ")[0]
        # The triangle inequality bounds the change; 1 % is more than the rounding of the norms.
        rough = _rough_norm(update.state)
        if math.isfinite(rough) and 1.01 * (rough + self._server_norm) <= self._max_norm:
            return None
        for name, tensor in update.state.items():
            if not bool(tensor.isfinite().all()):
                return f"{name} holds NaN or infinity"
        change = self._change(where, update.state)
        if change <= self._max_norm:
            return None
        return f"it changes the weights by {change:.3g} (Euclidean norm), above {self._max_norm:g}"

    def _change(self, where: Mapping[str, Coordinates], state: Mapping[str, Tensor]) -> float:
        """Norm of what the client changed in its subnet, in double precision."""
        total = 0.0
        for name, part in state.items():
            if not part.is_floating_point():
                continue
            change = part.double() - where[name].read(self._state[name])
            total += float(torch.linalg.vector_norm(change)) ** 2
        return math.sqrt(total)


def _rough_norm(state: Mapping[str, Tensor]) -> float:
    """Euclidean norm of all entries together in their own precision; huge ones overflow."""
    return float(get_total_norm([t for t in state.values() if t.is_floating_point()]))
