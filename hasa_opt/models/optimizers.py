"""Optimizers: how they are given, what is refused, and how one is started."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache, partial
from inspect import Parameter, isclass, signature, unwrap
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from hasa_opt._utils.showing import first_line, in_a_word
from hasa_opt.errors import InputError
from hasa_opt.models.seeding import seeded_rng

__all__ = ["OPTIMIZERS", "Given", "check_optimizer", "start"]

OptimizerName: TypeAlias = Literal["adam", "sgd"]
Given: TypeAlias = OptimizerName | type[Optimizer] | partial[Optimizer]
"""A name, a class, or a class with arguments: ``functools.partial(torch.optim.SGD, momentum=0.9)``.
"""

OPTIMIZERS: dict[str, type[Optimizer]] = {"adam": Adam, "sgd": SGD}
"""Name of each optimizer -> its class."""

_OWN_STEP = {"fused", "foreach", "differentiable"}
"""Arguments that say how the step is computed: where one is given, nobody chooses for the user."""


def start(given: Given, parameters: Iterable[Tensor], rate: float | None = None) -> Optimizer:
    """Start an optimizer, with the fused step where the class has one.

    That step is several times faster on small models.

    Parameters
    ----------
    given : str, class or partial
    parameters : iterable of tensor
    rate : float, optional
        The learning rate. Default: that of the arguments.
    """
    base, arguments = _parts(given)
    if _takes(base, "fused") and not _OWN_STEP & arguments.keys():  # type: ignore[arg-type]
        arguments["fused"] = True
    if rate is not None:
        arguments["lr"] = rate
    return _without_compiler(base)(parameters, **arguments)  # type: ignore[arg-type]


def check_optimizer(given: object, rate: float | None) -> None:
    """Refuse what is no optimizer, and arguments that its class does not take.

    Parameters
    ----------
    given : any
        A name is known by :data:`OPTIMIZERS`.
    rate : float or None
        The learning rate; None: no name is, and the arguments hold the rate.

    Raises
    ------
    InputError
        Also where a step takes more than one gradient, or the state, which outlives a round where
        the arguments hold the rate, could not be stored.
    """
    names = tuple(OPTIMIZERS) if rate is not None else ()
    if isinstance(given, str) and given in names:
        return
    base = given.func if isinstance(given, partial) else given
    if not (isclass(base) and issubclass(base, Optimizer) and base is not Optimizer):
        what = repr(given) if isinstance(given, str) else f"of type {type(base).__name__}"
        raise InputError(
            f"unknown optimizer {in_a_word(base) if isclass(base) else what}: use "
            f"{f'one of {names}, ' if names else ''}a class of torch.optim, or one with arguments, "
            f"such as functools.partial(torch.optim.SGD, {'' if names else 'lr=1.0, '}momentum=0.9)"
        )
    _check_arguments(cast(Given, given), has_rate=rate is not None)
    state = _try(cast(Given, given), rate)  # type: ignore[arg-type]
    for name, value in state.items() if rate is None else ():
        if not isinstance(value, Tensor) and value is not None:
            raise InputError(
                f"{in_a_word(given)} keeps {name} as a {type(value).__name__}, which checkpoints "
                "cannot hold: let it keep a tensor, or use another optimizer"
            )


def _check_arguments(given: Given, has_rate: bool) -> None:
    """Refuse arguments by position, a learning rate too many or missing, and closures."""
    base, arguments = _parts(given)
    if isinstance(given, partial) and given.args:
        raise InputError(f"{in_a_word(given)} has arguments by position: give them by name")
    if has_rate and "lr" in arguments:
        raise InputError(
            f"{in_a_word(given)} has lr, which learning_rate gives: leave it out of the arguments"
        )
    if not has_rate and "lr" not in arguments:
        raise InputError(
            f"{in_a_word(given)} has no learning rate: give it, as in "
            f"functools.partial(torch.optim.{base.__name__}, lr=1.0)"
        )
    closure = signature(base.step).parameters.get("closure")
    if closure is not None and closure.default is Parameter.empty:
        raise InputError(
            f"{base.__name__} computes the loss several times within a step (its step needs a "
            "closure), and training computes it once: use an optimizer that takes one gradient"
        )


@lru_cache(maxsize=32)
def _try(given: Given, rate: float | None) -> Mapping[str, Any]:
    """Take a step with a matrix, and give what is kept for it.

    Raises
    ------
    InputError
        If the optimizer refuses it.
    """
    matrix = nn.Parameter(torch.ones(2, 3))
    matrix.grad = torch.ones(2, 3)
    try:
        with seeded_rng(0):
            optimizer = start(given, [matrix], rate)
            optimizer.step()
    except Exception as error:  # Whatever a class raises for arguments that it does not take.
        raise InputError(
            f"{in_a_word(given)} cannot take a step ({first_line(error)}): correct its arguments, "
            "or use another optimizer"
        ) from error
    return dict(optimizer.state[matrix])


def _parts(given: Given) -> tuple[type[Optimizer], dict[str, Any]]:
    """Class and arguments."""
    if isinstance(given, partial):
        return cast(type[Optimizer], given.func), dict(given.keywords)
    return OPTIMIZERS[given] if isinstance(given, str) else given, {}


@lru_cache(maxsize=32)
def _takes(base: type[Optimizer], argument: str) -> bool:
    return argument in signature(base).parameters


@lru_cache(maxsize=32)
def _without_compiler(base: type[Optimizer]) -> type[Optimizer]:
    """Leave out what torch wraps around its methods for the sake of its compiler.

    The wrappers do nothing here, but import that compiler: a second in each process that trains.
    """
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict", "step")
    wrapped = {name: getattr(base, name) for name in names}
    plain = {name: unwrap(m) for name, m in wrapped.items() if m.__module__.startswith("torch.")}
    if "step" in plain:
        plain["step"] = torch.no_grad()(plain["step"])
    return cast(type[Optimizer], type(base.__name__, (base,), plain))
