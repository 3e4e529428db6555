"""Optimizers of a client, by name."""

from __future__ import annotations

from inspect import unwrap
from typing import cast

import torch
from torch.optim import SGD, Adam

Kind = type[Adam] | type[SGD]


def _without_compiler(base: Kind) -> Kind:
    """Leave out what torch wraps around an optimizer for the sake of its compiler.

    The wrappers do nothing here, but import that compiler: a second in each process that trains.
    """
    own = {name: unwrap(getattr(base, name)) for name in ("add_param_group", "zero_grad")}
    own["step"] = torch.no_grad()(unwrap(base.step))
    return cast(Kind, type(base.__name__, (base,), own))


OPTIMIZERS: dict[str, Kind] = {"adam": _without_compiler(Adam), "sgd": _without_compiler(SGD)}
"""Name of each optimizer -> its class."""
