"""What a subnet costs to hold, to send and to train, as a function of its width."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import unwrap
from types import MethodType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from hasa_opt._utils.checks import FloatArray, IntArray, array
from hasa_opt._utils.showing import in_a_word
from hasa_opt.errors import InputError
from hasa_opt.models.inputs import Inputs, describe, each, predict, tensors
from hasa_opt.models.optimizers import Given, check_optimizer, start
from hasa_opt.models.seeding import seeded_rng
from hasa_opt.models.subnets import Cuttable, coordinates, extract
from hasa_opt.models.targets import cross_entropy


@dataclass(frozen=True, eq=False)
class Profile:
    """What the subnet of each width costs.

    Parameters
    ----------
    widths : (n_widths,) floats
        Increasing; the last one is 1. A budget given as a share is a share of its cost.
    flops : (n_widths,) integers
        Floating-point operations of a training step.
    parameters : (n_widths,) integers
        Numbers that are trained.
    transfer_bytes : (n_widths,) integers
        What one transfer of the subnet takes on the wire.
    memory_bytes : (n_widths,) integers
        Peak memory of a training step.
    batch_size : int
        Samples of a training step.
    optimizer : str
        Its name.
    """

    widths: FloatArray
    flops: IntArray
    parameters: IntArray
    transfer_bytes: IntArray
    memory_bytes: IntArray
    batch_size: int
    optimizer: str

    def max_width(self, memory_bytes: npt.ArrayLike) -> FloatArray:
        """Find the widest profiled subnet that each device can train: its cap.

        Parameters
        ----------
        memory_bytes : (n_clients,) numbers
            What each device has for training.

        Returns
        -------
        (n_clients,) floats
            Ready for ``Clients(max_width=...)``.

        Raises
        ------
        InputError
            If a device cannot train even the narrowest subnet.
        """
        given = array(memory_bytes, "memory")
        if given.ndim != 1 or given.dtype.kind not in "iuf":
            raise InputError(
                f"memory has shape {given.shape} and type {given.dtype}: give one number per client"
            )
        room = given.astype(np.float64)
        fitting = np.searchsorted(np.maximum.accumulate(self.memory_bytes), room, side="right")
        short = np.flatnonzero((fitting == 0) | np.isnan(room))
        if len(short):
            row = int(short[0])
            raise InputError(
                f"client {row} has {room[row]:.0f} bytes, but width {self.widths[0]:g} takes "
                f"{self.memory_bytes[0]} to train: profile a narrower width, a smaller batch or "
                f"another optimizer, or leave the client out ({len(short)} such client(s))"
            )
        caps: FloatArray = self.widths[fitting - 1]
        return caps


def profile(
    model: Cuttable,
    widths: Sequence[float] | FloatArray,
    sample: Inputs,
    optimizer: Given = "adam",
) -> Profile:
    """Measure what the prefix subnets of a supernet cost to train.

    Parameters
    ----------
    model : SupernetModel
        The supernet; it is not changed.
    widths : sequence of float
        The menu; width 1 joins it.
    sample : (batch_size, ...) Tensor, or dict or tuple of them
        A batch of the size that clients train with.
    optimizer : str, class or partial
        That which clients use, as in :class:`~hasa_opt.federated.LocalTraining`.

    Returns
    -------
    Profile
        FLOPs and bytes are counted exactly, memory is what two training steps on the CPU took.

    Raises
    ------
    InputError
        If a width is not in (0, 1], the optimizer is refused, or the model cannot process the
        sample.
    """
    given = array(widths, "widths")
    if given.size and given.dtype.kind not in "iuf":
        raise InputError(f"widths {widths} must be numbers in (0, 1]")
    menu = np.union1d(given.astype(np.float64), 1.0)
    parts = tensors(sample) if isinstance(sample, Tensor | tuple | dict) else []
    if not parts or not all(
        isinstance(part, Tensor) and part.dim() and len(part) for part in parts
    ):
        raise InputError(
            "sample must be a training batch: a tensor of shape (batch_size, ...), or a dict or "
            "tuple of them"
        )
    check_optimizer(optimizer, rate=0.0)

    def measured(values: Sequence[int]) -> IntArray:
        return np.array(values, dtype=np.int64)

    return Profile(
        menu,
        measured([training_flops(model, width, sample) for width in menu]),
        measured([parameters(model, width) for width in menu]),
        measured([parameter_bytes(model, width) for width in menu]),
        measured([training_bytes(model, width, sample, optimizer) for width in menu]),
        len(parts[0]),
        in_a_word(optimizer),
    )


def units(model: Cuttable, width: float) -> int:
    """Count the units that a subnet keeps over all width groups.

    Parameters
    ----------
    model : SupernetModel
    width : float
        In (0, 1].
    """
    return sum(model.subnet_sizes(width).values())


def parameters(model: Cuttable, width: float) -> int:
    """Count the numbers that a subnet trains; tied weights count once.

    Parameters
    ----------
    model : SupernetModel
    width : float
        In (0, 1].
    """
    where = coordinates(model, width)
    return sum(math.prod(where[name].shape) for name, _ in model.named_parameters())


def parameter_bytes(model: Cuttable, width: float) -> int:
    """Count the bytes of a subnet's state: what one transfer costs; tied weights count once.

    Parameters
    ----------
    model : SupernetModel
    width : float
        In (0, 1].
    """
    where = coordinates(model, width)
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    return sum(
        math.prod(where[name].shape) * tensor.element_size()
        for name, tensor in tensors.items()
        if name in where
    )


def training_flops(model: Cuttable, width: float, sample: Inputs) -> int:
    """Count the floating-point operations of one forward and backward pass of a subnet.

    Matrix products, convolutions and attention count, elementwise work does not.

    Parameters
    ----------
    model : SupernetModel
        The supernet.
    width : float
        Width of the subnet.
    sample : (batch_size, ...) Tensor
        A training batch.

    Raises
    ------
    InputError
        If the width is not in (0, 1], or the model cannot process the sample.
    """
    # In double precision an LSTM runs as plain matrix products, and so does attention by this
    # kernel; the counter misses the fused ones of a CPU.
    subnet = extract(model, width).to("cpu", torch.float64).eval()
    inputs = each(lambda part: part.double() if part.is_floating_point() else part, sample)
    try:
        with _Counter(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            sum(part.sum() for part in tree_leaves(predict(subnet, inputs))).backward()
    except (IndexError, RuntimeError, ValueError) as error:
        raise unsuitable(model, sample, error) from error
    return int(counter.get_total_flops())


class _Counter(FlopCounterMode):
    """Counts without what torch wraps around a counter for the sake of its compiler.

    The wrapper does nothing here, but imports that compiler: a second in each process that counts.
    """

    def __enter__(self) -> Self:
        super().__enter__()  # type: ignore[no-untyped-call]
        mode: Any = self.mode
        mode.__torch_dispatch__ = MethodType(unwrap(type(mode).__torch_dispatch__), mode)
        return self


def training_bytes(model: Cuttable, width: float, sample: Inputs, optimizer: Given = "adam") -> int:
    """Measure the peak memory of training a subnet on the CPU.

    It holds the weights, their gradients, the optimizer's state, the activations that the backward
    pass needs, what operations take while they run, and the batch.

    Parameters
    ----------
    model : SupernetModel
        The supernet.
    width : float
        Width of the subnet.
    sample : (batch_size, ...) Tensor
        A training batch.
    optimizer : str, class or partial
        As for :class:`~hasa_opt.federated.LocalTraining`.

    Raises
    ------
    InputError
        If the width is not in (0, 1], or the model cannot process the sample.
    """
    subnet = extract(model, width).to("cpu").train()
    stepper = start(optimizer, subnet.parameters(), 0.0)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # Else the profiler writes to stderr.
    try:
        with seeded_rng(0), torch.autograd.profiler.profile(profile_memory=True) as recorded:
            for _ in range(2):  # The first step allocates the optimizer's state.
                stepper.zero_grad()
                _loss(predict(subnet, sample)).backward()  # type: ignore[no-untyped-call]
                stepper.step()
    except (IndexError, RuntimeError, ValueError) as error:
        raise unsuitable(model, sample, error) from error
    events = [event for event in recorded.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    held = [*subnet.parameters(), *subnet.buffers(), *tensors(sample)]
    return sum(tensor.nbytes for tensor in held) + int(np.cumsum(changes).max())


def _loss(logits: Any) -> Tensor:
    """Cross entropy as in training; the logits are freed before the backward pass.

    Of outputs without a row of scores for each sample, the sum: it holds as little.
    """
    if not isinstance(logits, Tensor) or logits.dim() < 2:
        return torch.stack([part.sum() for part in tree_leaves(logits)]).sum()
    targets = torch.zeros(logits.shape[:-1], dtype=torch.int64)
    return cross_entropy(logits, targets, "mean")


def unsuitable(model: Cuttable, sample: Inputs, error: Exception) -> InputError:
    """Say that a model cannot process a sample."""
    return InputError(
        f"{type(model).__name__} cannot process {describe(sample)}: build the model for the "
        f"task's inputs ({error})"
    )
