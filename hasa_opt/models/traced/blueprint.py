"""Blueprints: what is cut of a module, and what all its subnets share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from hasa_opt._utils.units import count_units
from hasa_opt.errors import InputError
from hasa_opt.models.cuts import DimensionCut, unfold
from hasa_opt.models.inputs import Inputs
from hasa_opt.models.traced import rules_layers, rules_recurrent, rules_shape  # noqa: F401
from hasa_opt.models.traced.axes import Size, mark_whole
from hasa_opt.models.traced.capture import Capture, without_weights
from hasa_opt.models.traced.groups import Groups, find_groups
from hasa_opt.models.traced.labels import Labels, label_tensors, propagate, settle, sizes
from hasa_opt.models.traced.program import Program, write_program
from hasa_opt.models.traced.signature import Signature

__all__ = ["Blueprint", "draft"]

LARGEST_AT_HALF = 0.75
"""Share of the parameters that a subnet of width 0.5 has at most, where operations leave some of
them whole; a module of which they leave more is refused."""


@dataclass(frozen=True, eq=False)
class Blueprint:
    """What all subnets of a module share.

    Parameters
    ----------
    prototype : torch.nn.Module
        The module without the values of its parameters.
    constants : mapping of str to Tensor
        Tensors outside of ``state_dict()`` that the operations read, by name.
    programs : mapping of bool to Program
        The operations in training (True) and in evaluation (False).
    cuts : mapping of str to tuple
        What cuts each tensor of the state.
    sizes : mapping of str to int
        Number of units of each width group of the full module.
    signature : Signature
        The inputs.
    n_outputs : int
        Size of the output's last dimension.
    example_input : Inputs
        The batch that the module was traced with.
    whole : mapping of str to str
        Parameters that an operation leaves at full width in some dimension -> why.
    """

    prototype: nn.Module
    constants: Mapping[str, Tensor]
    programs: Mapping[bool, Program]
    cuts: Mapping[str, tuple[DimensionCut, ...]]
    sizes: Mapping[str, int]
    signature: Signature
    n_outputs: int
    example_input: Inputs
    whole: Mapping[str, str]

    def __deepcopy__(self, memo: dict[int, Any]) -> Blueprint:
        return self


def _label(module: nn.Module, captures: Mapping[bool, Capture], keep: Sequence[str]) -> Labels:
    """Follow the dimensions of all tensors through both modes."""
    constants = captures[True].constants | captures[False].constants
    labels = label_tensors(module, constants, keep)
    used = {name for c in captures.values() for name in c.tensors_in_use()}
    idle = [
        dims
        for name, dims in labels.tensors.items()
        if not any(dims is labels.tensors[other] for other in used)
    ]
    for layout in (layout for dims in idle for layout in dims):
        mark_whole(layout)
    for captured in captures.values():
        propagate(labels, captured, keep)
    settle(labels)
    return labels


def _parameters_in_use(module: nn.Module, captures: Mapping[bool, Capture]) -> list[str]:
    """List the parameters in the order in which the module reads them."""
    first = {id(parameter): name for name, parameter in module.named_parameters()}
    names = {n: first[id(p)] for n, p in module.named_parameters(remove_duplicate=False)}
    read = [name for c in captures.values() for name in c.tensors_in_use()]
    return list(dict.fromkeys(names[name] for name in read if name in names))


def _check_cut(module: nn.Module, groups: Groups) -> None:
    """Refuse a module of which operations leave too little to cut.

    Raises
    ------
    InputError
        Naming the first operation.
    """
    if not groups.whole:
        return
    half = {group: count_units(0.5, size) for group, size in groups.sizes.items()}
    full = cut = 0
    for name, parameter in module.named_parameters():
        dims = zip(groups.cuts[name], parameter.shape, strict=True)
        full += parameter.numel()
        cut += math.prod(math.prod(unfold(part, length, half)) for part, length in dims)
    if cut > LARGEST_AT_HALF * full:
        tensor, reason = next(iter(groups.whole.items()))
        keep = list(dict.fromkeys(name.rpartition(".")[0] or name for name in groups.whole))
        raise InputError(
            f"{tensor} cannot be cut: {reason}: change that operation, or leave what it reads at "
            f"full width with keep={keep}"
        )


def draft(
    module: nn.Module,
    captures: Mapping[bool, Capture],
    keep: Sequence[str],
    example_input: Inputs,
) -> Blueprint:
    """Find what is cut, and put together what all subnets share.

    Parameters
    ----------
    module : torch.nn.Module
    captures : mapping of bool to Capture
        Its operations in training (True) and in evaluation (False).
    keep : sequence of str
        Modules and parameters that stay at full width.
    example_input : Inputs

    Raises
    ------
    InputError
        If nothing, or too little, is left to cut, or the outputs are of no fixed number.
    """
    labels = _label(module, captures, keep)
    groups = find_groups(labels, _parameters_in_use(module, captures))
    _check_cut(module, groups)
    dtype = next(p.dtype for p in module.parameters() if p.is_floating_point())
    evaluating = captures[False]
    inputs = [sizes(node.meta["val"]) for node in evaluating.inputs]
    outputs = [sizes(node.meta["val"]) for node in evaluating.outputs]
    return Blueprint(
        without_weights(module),
        captures[True].constants | captures[False].constants,
        {mode: write_program(c, labels, groups.names, dtype) for mode, c in captures.items()},
        {name: groups.cuts[name] for name in module.state_dict()},
        groups.sizes,
        Signature.of(example_input, inputs),
        _count_outputs(module, outputs),
        example_input,
        groups.whole,
    )


def _count_outputs(module: nn.Module, shapes: Sequence[Sequence[Size]]) -> int:
    """Read the number of outputs, of the first of several, off their last dimension.

    A tensor of one number for each sample has one.
    """
    last = [shape[-1] if len(shape) > 1 else 1 for shape in shapes if shape]
    fixed = [size for size in last if isinstance(size, int)]
    if not fixed:
        raise InputError(
            f"{type(module).__name__} returns a tensor of shape {tuple(shapes[0])}: its last "
            "dimension must be the outputs, of a fixed number"
        )
    return fixed[0]
