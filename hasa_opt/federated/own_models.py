"""Models of clients that do not share the supernet: of a group, or of one client alone."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from hasa_opt.errors import InputError
from hasa_opt.federated.aggregation import aggregate
from hasa_opt.federated.batch_norm import running_statistics
from hasa_opt.federated.jobs import Update
from hasa_opt.federated.settings import Server
from hasa_opt.models.subnets import prefix
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.policies.subnets import Subnets

_OWN = "own/"


class OwnModels:
    """The models that :attr:`Subnets.models` numbers, each begun as a copy of the supernet.

    Parameters
    ----------
    model : SupernetModel
        The supernet.
    """

    def __init__(self, model: SupernetModel) -> None:
        self._model = model
        self._models: dict[int, SupernetModel] = {}
        self._sharing: Counter[int] = Counter()
        self._numbers: list[int] | None = None
        self._trained: set[int] = set()

    def assign(self, subnets: Subnets) -> None:
        """Take up which clients share which model."""
        self._numbers = None if subnets.models is None else subnets.models.tolist()
        training = subnets.widths > 0
        self._sharing = Counter(() if subnets.models is None else subnets.models[training].tolist())

    def number(self, client: int) -> int | None:
        """Number of a client's model; None: the supernet."""
        return None if self._numbers is None else self._numbers[client]

    def model(self, number: int | None) -> SupernetModel:
        """A model by its number, which begins as the supernet."""
        if number is None:
            return self._model
        if number not in self._models:
            self._models[number] = copy.deepcopy(self._model)
        return self._models[number]

    def update(self, number: int | None, averaged: Mapping[str, Tensor]) -> None:
        """Take up what its clients have trained."""
        self.model(number).load_state_dict(averaged)
        if number is not None:
            self._trained.add(number)

    def join(self, samples: Sequence[int]) -> None:
        """Make the supernet the mean of the models, each weighted by its clients' samples."""
        assert self._numbers is not None, "clients have models of their own"
        weights: Counter[int] = Counter()
        for number, size in zip(self._numbers, samples, strict=True):
            weights[number] += size
        everything = prefix(self._model, 1.0)
        updates = [
            Update(1.0, weight, self.model(number).state_dict(), everything)
            for number, weight in weights.items()
        ]
        self._model.load_state_dict(aggregate(self._model, updates, "full"))
        self._models.clear()
        self._trained.clear()

    def sends(self, client: int) -> bool:
        """Whether what a client trains is of use to others."""
        number = self.number(client)
        return number is None or self._sharing[number] > 1

    def receives(self, client: int) -> bool:
        """Whether a client has not got the model that it trains."""
        return self.sends(client) or self.number(client) not in self._trained

    def state(self) -> dict[str, Tensor]:
        """Those that were trained, by names such as ``"own/3/decoder.bias"``."""
        return {
            f"{_OWN}{number}/{name}": tensor
            for number in sorted(self._trained)
            for name, tensor in self._models[number].state_dict().items()
        }

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`state` gave; other names are left alone."""
        for key, tensor in state.items():
            if key.startswith(_OWN):
                number, _, name = key.removeprefix(_OWN).partition("/")
                self.model(int(number)).state_dict()[name].copy_(tensor)
                self._trained.add(int(number))


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
