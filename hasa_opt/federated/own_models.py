"""Models of clients that do not share the supernet: of a group, or of one client alone."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from hasa_opt.errors import InputError
from hasa_opt.federated.aggregation import aggregate
from hasa_opt.federated.batch_norm import running_statistics
from hasa_opt.federated.jobs import Update
from hasa_opt.federated.settings import Server
from hasa_opt.federated.units import Extraction
from hasa_opt.models.cuts import Kept
from hasa_opt.models.subnets import prefix
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.policies.subnets import Subnets

_OWN, _WIDTH = "own/", "own width/"


class OwnModels:
    """The models that :attr:`Subnets.models` numbers, each begun as a copy of the supernet.

    Parameters
    ----------
    model : SupernetModel
        The supernet.
    elsewhere : bool
        Whether the model of a client alone stays on a machine of its own; the server has the
        supernet, as which it begins.
    """

    def __init__(self, model: SupernetModel, elsewhere: bool = False) -> None:
        self._model, self._elsewhere = model, elsewhere
        self._models: dict[int, SupernetModel] = {}
        self._sharing: Counter[int] = Counter()
        self._numbers: list[int] | None = None
        self._widths: dict[int, float] = {}
        self._trained: dict[int, float] = {}

    def assign(self, subnets: Subnets) -> None:
        """Take up which clients share which model."""
        self._numbers = None if subnets.models is None else subnets.models.tolist()
        self._sharing.clear()
        self._widths.clear()
        training = np.flatnonzero(subnets.widths).tolist()
        for row, number in ((row, self.number(row)) for row in training):
            if number is None:
                continue
            self._sharing[number] += 1
            self._widths[number] = max(self._widths.get(number, 0.0), float(subnets.widths[row]))

    def number(self, client: int) -> int | None:
        """Number of a client's model; None: the supernet."""
        return None if self._numbers is None else self._numbers[client]

    def model(self, number: int | None) -> SupernetModel:
        """A model by its number, which begins as the supernet."""
        if number is None or (self._elsewhere and self._sharing[number] == 1):
            return self._model
        return self._copy(number)

    def _copy(self, number: int) -> SupernetModel:
        if number not in self._models:
            self._models[number] = copy.deepcopy(self._model)
        return self._models[number]

    def update(self, number: int | None, averaged: Mapping[str, Tensor]) -> None:
        """Take up what its clients have trained."""
        self.model(number).load_state_dict(averaged)
        if number is not None:
            self._trained[number] = self._widths[number]

    def stay(self, client: int) -> None:
        """Note that a client alone has trained its model, which stays where it is."""
        number = self.number(client)
        assert number is not None, "it has a model of its own"
        self._trained[number] = self._widths[number]

    def forget(self, client: int) -> None:
        """Know that a client alone no longer has its model, which begins anew."""
        number = self.number(client)
        if number is not None:
            self._trained.pop(number, None)

    @torch.no_grad()
    def bring(self, client: int, kept: Kept, state: Mapping[str, Tensor]) -> None:
        """Take what a client alone has trained, once it has sent it."""
        number = self.number(client)
        assert number is not None, "it has a model of its own"
        model = self._copy(number)
        where, weights = Extraction(model).place(kept).where, model.state_dict()
        for name, tensor in state.items():
            where[name].write(weights[name], tensor)

    def join(self, samples: Sequence[int]) -> None:
        """Make the supernet the mean of the models, each weighted by its clients' samples."""
        assert self._numbers is not None, "clients have models of their own"
        weights: Counter[int] = Counter()
        for number, size in zip(self._numbers, samples, strict=True):
            weights[number] += size
        everything = prefix(self._model, 1.0)
        updates = [
            Update(1.0, weight, self._copy(number).state_dict(), everything)
            for number, weight in weights.items()
        ]
        self._model.load_state_dict(aggregate(self._model, updates, "full"))
        self._models.clear()
        self._trained.clear()

    def sends(self, client: int) -> bool:
        """Whether what a client trains is of use to others."""
        number = self.number(client)
        return number is None or self._sharing[number] > 1

    def continues(self, client: int) -> bool:
        """Whether a client alone goes on with a model that it has trained itself."""
        return not self.sends(client) and self.number(client) in self._trained

    def receives(self, client: int, width: float) -> bool:
        """Whether a client has not got all of the model that it trains, or is tested on."""
        number = self.number(client)
        if number is None or self.sends(client) or number not in self._trained:
            return True
        return width > self._trained[number]

    def state(self) -> dict[str, Tensor]:
        """Those that were trained, by names such as ``"own/3/decoder.bias"``."""
        found = {
            f"{_OWN}{number}/{name}": tensor
            for number in sorted(self._trained.keys() & self._models.keys())
            for name, tensor in self._models[number].state_dict().items()
        }
        widths = {
            f"{_WIDTH}{number}": torch.tensor(width, dtype=torch.float64)
            for number, width in sorted(self._trained.items())
        }
        return found | widths

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`state` gave; other names are left alone."""
        for key, tensor in state.items():
            if key.startswith(_WIDTH):
                self._trained[int(key.removeprefix(_WIDTH))] = float(tensor)
            elif key.startswith(_OWN):
                number, _, name = key.removeprefix(_OWN).partition("/")
                self._copy(int(number)).state_dict()[name].copy_(tensor)


def check_own_models(subnets: Subnets, server: Server, model: SupernetModel) -> None:
    """Refuse what models that are not shared by all cannot have.

    Raises
    ------
    InputError
        If the server steps by an optimizer, or the model has BatchNorm layers.
    """
    if subnets.models is None:
        return
    if server.optimizer is not None:
        raise InputError(
            "clients with models of their own are averaged as they are: leave Server(optimizer=) "
            "out, or let all share the supernet"
        )
    if running_statistics(model):
        raise InputError(
            f"{type(model).__name__} has BatchNorm layers, whose statistics are estimated for one "
            "supernet: build it with GroupNorm, or let all clients share the supernet"
        )
