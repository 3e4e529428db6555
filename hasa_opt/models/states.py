"""States: the tensors of a module by name, their versions, their bytes, and which are one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, cast

import numpy.typing as npt
import torch
from torch import Tensor, nn

__all__ = ["as_array", "ties", "versioned"]


def versioned(module: nn.Module, state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give a state the versions of a module's layers, unless it has some.

    Layers whose parameters changed between versions of a library refuse a state without them.

    Parameters
    ----------
    module : torch.nn.Module
        Whose state it is.
    state : mapping of str to Tensor
    """
    if hasattr(state, "_metadata"):
        return state
    told: Any = OrderedDict(state)
    told._metadata = getattr(module.state_dict(), "_metadata", None)
    return cast("Mapping[str, Any]", told)


def as_array(tensor: Tensor) -> npt.NDArray[Any]:
    """Give a tensor's values to numpy, or their bytes where it has no such type (bfloat16).

    Parameters
    ----------
    tensor : Tensor
    """
    try:
        return tensor.numpy(force=True)
    except TypeError:
        return tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy()


def ties(model: nn.Module) -> dict[str, str]:
    """Find parameters that stand under several names.

    Parameters
    ----------
    model : torch.nn.Module

    Returns
    -------
    dict of str to str
        Each further name of a parameter -> its first name.
    """
    first: dict[nn.Parameter, str] = {}
    named = list(model.named_parameters(remove_duplicate=False))
    for name, parameter in named:
        first.setdefault(parameter, name)
    return {name: first[parameter] for name, parameter in named if first[parameter] != name}
