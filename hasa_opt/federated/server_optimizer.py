"""Server optimizer: a step from the old supernet towards the average of what clients trained."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from hasa_opt.models.optimizers import start
from hasa_opt.models.supernet import SupernetModel

_SERVER = "server/"


class ServerOptimizer:
    """Steps against the pseudo-gradient: the old supernet minus the averaged one.

    This is FedOpt of Reddi et al., "Adaptive Federated Optimization", ICLR 2021
    (arXiv:2003.00295, Algorithm 1), with an optimizer of PyTorch: Adam corrects the bias of its
    first steps, which FedAdam (Algorithm 2) does not. ``SGD(lr=1.0, momentum=...)`` is FedAvgM of
    Hsu et al. (arXiv:1909.06335); without momentum it is the average itself, but for rounding.

    A coordinate that nobody trained in a round has a pseudo-gradient of 0, and the optimizer treats
    it like any other: momentum carries it on, and weight decay shrinks it. Parameters that nobody
    ever trains, frozen ones and those that clients keep to themselves, are not stepped; neither are
    buffers, which are taken from the average, where BatchNorm's running statistics and whole
    numbers keep the server's value. A round without any update takes no step.

    Parameters
    ----------
    model : SupernetModel
        The server's supernet, which is stepped in place.
    given : partial
        Class of the optimizer, with its arguments.
    local : collection of str
        Parameters that clients keep to themselves.
    """

    def __init__(
        self, model: SupernetModel, given: partial[Optimizer], local: Collection[str] = ()
    ) -> None:
        self._model = model
        self._parameters = {
            name: parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and name not in local
        }
        self._optimizer = start(given, self._parameters.values())

    @torch.no_grad()
    def step(self, averaged: Mapping[str, Tensor]) -> None:
        """Take a step.

        Parameters
        ----------
        averaged : dict of str to tensor
            The state that the average of the clients' updates gives.
        """
        before = {name: parameter.clone() for name, parameter in self._parameters.items()}
        self._model.load_state_dict(averaged)
        for name, parameter in self._parameters.items():
            parameter.grad = before[name] - parameter
            parameter.copy_(before[name])
        self._optimizer.step()
        for parameter in self._parameters.values():
            parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """What the optimizer keeps, by names such as ``"server/exp_avg/decoder.bias"``."""
        return {
            f"{_SERVER}{key}/{name}": value
            for name, parameter in self._parameters.items()
            for key, value in self._optimizer.state.get(parameter, {}).items()
            if value is not None
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`state` gave; other names are left alone."""
        numbers = {name: number for number, name in enumerate(self._parameters)}
        held: dict[int, dict[str, Any]] = {}
        for entry, value in state.items():
            if entry.startswith(_SERVER):
                key, _, name = entry.removeprefix(_SERVER).partition("/")
                held.setdefault(numbers[name], {})[key] = value
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": held, "param_groups": groups})
