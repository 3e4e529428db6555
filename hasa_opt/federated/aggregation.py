"""Aggregation: which updates are refused, and how the others become the next supernet."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from hasa_opt._utils.rational import told_from, written
from hasa_opt.errors import InputError
from hasa_opt.federated.averages import AGGREGATIONS
from hasa_opt.federated.batch_norm import running_statistics
from hasa_opt.federated.jobs import Update
from hasa_opt.federated.settings import check_choice
from hasa_opt.federated.units import Extraction, Place
from hasa_opt.models.cuts import Coordinates
from hasa_opt.models.subnets import check_state
from hasa_opt.models.supernet import SupernetModel


class Average:
    """Averages the clients' subnets, one after the other, into a new state of the supernet.

    Sums run in the order of the updates, in double precision, so that one update is held at a
    time. What is not learned keeps the server's value: BatchNorm's running statistics (those of one
    width are wrong at another, see :mod:`hasa_opt.federated.batch_norm`) and everything that is not
    a floating-point number, such as a table of indices.

    Parameters
    ----------
    model : SupernetModel
        The server's supernet as it was broadcast; it is not changed.
    mode : str
        See :func:`aggregate`.
    local : collection of str
        Parameters that clients keep to themselves; the server's value stays.

    Raises
    ------
    InputError
        If the mode is unknown.
    """

    def __init__(
        self,
        model: SupernetModel,
        mode: str = "full",
        local: Collection[str] = (),
    ) -> None:
        check_choice("aggregation", mode, AGGREGATIONS)
        self._model, self._average = model, AGGREGATIONS[mode]
        self._server = model.state_dict()
        fixed = running_statistics(model).keys() | set(local)
        self._sums = {
            name: torch.zeros_like(tensor, dtype=torch.float64)
            for name, tensor in self._server.items()
            if tensor.is_floating_point() and name not in fixed
        }
        self._extraction = Extraction(model)
        self._holders: defaultdict[Place, float] = defaultdict(float)
        self.empty = True

    def add(self, update: Update) -> None:
        """Take one client's update.

        Raises
        ------
        InputError
            If its weight is negative or its state does not fit its units.
        """
        samples, state = update.samples, update.state
        if samples < 0:
            raise InputError(f"an update has samples = {samples}: a client has at least 0")
        place = self._extraction.place(update.units(self._model))
        check_state(place.where, state)
        for name, total in self._sums.items():
            place.where[name].add(total, state[name].to(torch.float64) * samples)
        self._holders[place] += samples
        self.empty = False

    def state(self) -> dict[str, Tensor]:
        """The new full-size state, with the types of the model's.

        Raises
        ------
        InputError
            If no client has samples.
        """
        total = sum(self._holders.values())
        if total == 0:
            raise InputError("no client trained on any sample: there is nothing to average")
        return {
            name: self._averaged(name, server, total) if name in self._sums else server.clone()
            for name, server in self._server.items()
        }

    def _averaged(self, name: str, server: Tensor, total: float) -> Tensor:
        """The new value of each coordinate that somebody holds, and the server's of the others."""
        sums = self._sums[name]
        held = torch.zeros_like(sums)
        for place, samples in self._holders.items():
            place.where[name].add(held, samples)
        found = self._average(sums, held, total, server)
        return torch.where(held > 0, found.to(server.dtype), server)


def aggregate(
    model: SupernetModel,
    updates: Iterable[Update],
    mode: str = "full",
    local: Collection[str] = (),
) -> dict[str, Tensor]:
    """Average the clients' subnets into a new state of the supernet.

    ``full``: the coordinates that a client does not hold are filled with the broadcast value, then
    all clients are averaged (FedAvg of the HASA paper, arXiv:2606.07621). ``selective``: each
    coordinate is averaged over the clients that trained it (HeteroFL, arXiv:2010.01264). In both,
    clients weigh by their samples, and a coordinate that nobody trained keeps the server's value.

    Parameters
    ----------
    model : SupernetModel
        The server's supernet as it was broadcast; it is not changed.
    updates : iterable of Update
        One per client, taken one at a time.
    mode : str
        Name in :data:`~hasa_opt.federated.averages.AGGREGATIONS`.
    local : collection of str
        Parameters that clients keep to themselves; the server's value stays.

    Returns
    -------
    dict of str to tensor
        The new full-size state, with the types of the model's.

    Raises
    ------
    InputError
        If the mode is unknown, no client has samples, or a state does not fit its width.
    """
    average = Average(model, mode, local)
    for update in updates:
        average.add(update)
    return average.state()


class Screen:
    """Checks the updates of one round before they can touch the weights.

    Parameters
    ----------
    server : SupernetModel
        The supernet as it was broadcast.
    max_norm : float or None
        Largest Euclidean norm of an update: of all that it changes in the subnet that the client
        received. None: any.
    """

    def __init__(self, server: SupernetModel, max_norm: float | None) -> None:
        self._server = server
        self._state = server.state_dict()
        self._max_norm = math.inf if max_norm is None else max_norm
        self._server_norm = _rough_norm(self._state)
        self._extraction = Extraction(server)

    def fault(self, update: Update) -> str | None:
        """Say why an update cannot be used: shape, NaN or infinity, norm; None if it can."""
        where = self._extraction.place(update.units(self._server)).where
        try:
            check_state(where, update.state)
        except InputError as error:
            return str(error).partition(": ")[0]
        # The triangle inequality bounds the change; 1 % is more than single precision can be off.
        rough = _rough_norm(update.state)
        if math.isfinite(rough) and 1.01 * (rough + self._server_norm) <= self._max_norm:
            return None
        for name, tensor in update.state.items():
            if not bool(tensor.isfinite().all()):
                return f"{name} holds NaN or infinity"
        change = self._change(where, update.state)
        if change <= self._max_norm:
            return None
        by, most = told_from(change, self._max_norm), written(self._max_norm)
        return f"it changes the weights by {by} (Euclidean norm), above {most}"

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
