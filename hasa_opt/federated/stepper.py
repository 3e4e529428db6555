"""Stepper: what takes the steps of local training, for one client or for a stack of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from hasa_opt.federated.settings import LocalTraining
from hasa_opt.models.optimizers import Given, start
from hasa_opt.models.seeding import seeded_rng

_TINY = 1e-6
"""As in :func:`torch.nn.utils.clip_grad_norm_`."""


class Stepper:
    """Adds FedProx's term to the gradients, clips their norm, and lets the optimizer step.

    Parameters
    ----------
    parameters : iterable of Parameter
        With the weights that were received. In a stack the first dimension is that of the clients.
    settings : LocalTraining
    number : int
        Of the round.
    stacked : bool
        Whether the parameters are those of several clients.
    towards : sequence of Tensor, optional
        What the proximal term pulls each parameter to. Default: the weights that were received.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        settings: LocalTraining,
        number: int,
        *,
        stacked: bool = False,
        towards: Sequence[Tensor] | None = None,
    ) -> None:
        self._parameters = list(parameters)
        self._settings, self._stacked = settings, stacked
        rate = settings.rate(number)
        self._optimizer = start(settings.optimizer, self._parameters, rate)
        held = (towards or self._parameters) if settings.proximal else ()
        self._received = [parameter.detach().clone() for parameter in held]

    def step(self) -> None:
        """Take a step along the gradients that the parameters hold."""
        if self._settings.proximal:
            for parameter, received in zip(self._parameters, self._received, strict=True):
                if parameter.grad is not None:
                    moved = parameter.detach() - received
                    parameter.grad.add_(moved, alpha=self._settings.proximal)
        if self._settings.clip_norm is not None:
            clip = _clip_each if self._stacked else clip_grad_norm_
            clip(self._parameters, self._settings.clip_norm)
        self._optimizer.step()

    def keep(self, parameters: Sequence[Tensor]) -> None:
        """Go on with the first clients of the stack alone.

        Parameters
        ----------
        parameters : sequence of Parameter
            In the place of the former ones, and each a leading part of it.
        """
        self._optimizer.param_groups[0]["params"] = list(parameters)
        state = self._optimizer.state
        for before, now in zip(self._parameters, parameters, strict=True):
            for key, value in state.pop(before, {}).items():
                by_client = isinstance(value, Tensor) and value.shape == before.shape
                state[now][key] = value[: len(now)] if by_client else value
        self._received = [weights[: len(parameters[0])] for weights in self._received]
        self._parameters = list(parameters)


@torch.no_grad()
def _clip_each(parameters: Iterable[Tensor], most: float) -> None:
    """Clip the norm of each client's gradients, as ``clip_grad_norm_`` does that of one."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = [torch.linalg.vector_norm(g.reshape(len(g), -1), dim=1) for g in gradients]
    factors = most / (torch.linalg.vector_norm(torch.stack(norms), dim=0) + _TINY)
    for gradient in gradients:
        gradient.mul_(factors.clamp(max=1).view(-1, *[1] * (gradient.dim() - 1)))


@lru_cache(maxsize=32)
def steps_entry_by_entry(given: Given) -> bool:
    """Whether an optimizer moves each client of a stack as it moves that client alone.

    It is not taken on trust: two clients are moved together and alone, the first by three steps,
    the second by two. Optimizers that look at a whole tensor, such as Adafactor, are found out.
    """
    with seeded_rng(0):
        weights, *gradients = ([torch.randn(2, 3, 4), torch.randn(2, 3)] for _ in range(4))
        for gradient in chain.from_iterable(gradients):
            gradient[1] *= 7  # Clients that are alike would show nothing.
        try:
            settings = LocalTraining(optimizer=given, learning_rate=0.1)
            held = [nn.Parameter(tensor.clone()) for tensor in weights]
            together = Stepper(held, settings, 0, stacked=True)
            moved = [parameter.detach() for parameter in held]
            _follow(together, held, gradients[:2])
            held = [nn.Parameter(tensor[:1]) for tensor in moved]
            together.keep(held)
            _follow(together, held, [[tensor[:1] for tensor in gradients[2]]])
            for client, steps in enumerate((3, 2)):
                alone = [nn.Parameter(tensor[client].clone()) for tensor in weights]
                own = [[tensor[client] for tensor in step] for step in gradients[:steps]]
                _follow(Stepper(alone, settings, 0), alone, own)
                if not all(torch.allclose(m[client], a) for m, a in zip(moved, alone, strict=True)):
                    return False
        except Exception:  # Whatever a class raises for tensors of another dimension.
            return False
    return True


def _follow(
    stepper: Stepper, parameters: Iterable[Tensor], gradients: Iterable[Iterable[Tensor]]
) -> None:
    """Take a step along each of the gradients."""
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = gradient.clone()
        stepper.step()
