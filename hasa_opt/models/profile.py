"""What a subnet costs to hold, to send and to train, as a function of its width."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from hasa_opt.errors import InputError
from hasa_opt.models.supernet import SupernetModel, coordinates, extract


def units(model: SupernetModel, width: float) -> int:
    """Count the units that a subnet keeps over all width groups."""
    return sum(model.subnet_sizes(width).values())


def parameter_bytes(model: SupernetModel, width: float) -> int:
    """Count the bytes of a subnet's state: what one transfer of it costs."""
    where = coordinates(model, width)
    state = model.state_dict()
    return sum(math.prod(where[name].shape) * state[name].element_size() for name in state)


def training_flops(model: SupernetModel, width: float, sample: Tensor) -> int:
    """Count the floating-point operations of one forward and backward pass of a subnet.

    Matrix products and convolutions count, elementwise work does not.

    Parameters
    ----------
    model
        The supernet.
    width
        Width of the subnet.
    sample
        A batch of one sample, shape (1, ...).

    Raises
    ------
    InputError
        If the width is not in (0, 1], or the model cannot process the sample.
    """
    # In double precision an LSTM runs as plain matrix products; the counter misses the fused one.
    subnet = extract(model, width).to("cpu", torch.float64).eval()
    inputs = sample.double() if sample.is_floating_point() else sample
    try:
        with FlopCounterMode(display=False) as counter:
            subnet(inputs).sum().backward()
    except (IndexError, RuntimeError) as error:
        raise InputError(
            f"{type(model).__name__} cannot process an input of shape {tuple(sample.shape)} and "
            f"type {sample.dtype}: build the model for the task's inputs ({error})"
        ) from error
    return int(counter.get_total_flops())
