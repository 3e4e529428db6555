"""Verification: a traced supernet computes what the module computes that it was made from."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from hasa_opt.errors import InputError
from hasa_opt.models.inputs import Inputs, describe, each, predict, tensors
from hasa_opt.models.seeding import seeded_rng
from hasa_opt.models.states import versioned
from hasa_opt.models.subnets import extract, locate, prefix
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.models.traced.capture import Outputs, copied
from hasa_opt.models.traced.masked import over_kept
from hasa_opt.models.traced.program import Program
from hasa_opt.models.traced.signature import Signature

TOLERANCES = {torch.float64: 1e-6}
"""Type of the weights -> the largest difference, as a share of the largest output; else 1e-3."""

_DRAWS = 20
"""Repetitions where random numbers are drawn: a single coin passes once in a million times."""


def verify(
    model: SupernetModel,
    module: nn.Module,
    example: Inputs,
    signature: Signature,
    program: Program,
) -> None:
    """Compare a traced supernet with the module that it was made from.

    The supernet must compute what the module computes, at other numbers of samples (and of time
    steps) too; the module's output must stay when the units of each group change places; and a
    subnet must run in both modes and compute what the module computes with zero for all weights of
    the other units. Where a normalisation sees the kept units alone, the traced operations with
    that normalisation take the module's place. Weights are disturbed, so that none is zero.

    Raises
    ------
    InputError
        If one of it fails.
    """
    with seeded_rng(0), torch.no_grad():
        reference, inputs = _in_double(module, example)
        for parameter in reference.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
        supernet = copy.deepcopy(model).to(next(reference.parameters()).dtype).eval()
        supernet.load_state_dict(reference.module.state_dict())
        expected = reference(inputs)
        if not _close(predict(supernet, inputs), expected):
            raise _differs(module, inputs, inputs)
        _compare_variations(supernet, reference, inputs, signature)
        _load(reference.module, _permuted(supernet))
        if not _close(reference(inputs), expected):
            raise InputError(
                f"{type(module).__name__} tells the units of a width group apart, in a way that "
                "its operations do not show: leave the part where it does at full width with "
                "keep=[its path]"
            )
        _try_subnet(supernet, inputs)
        _compare_masked(supernet, reference, inputs, program)


def agrees(model: SupernetModel, module: nn.Module, example: Inputs) -> bool:
    """Whether a supernet gives what the module gives that it was once made from."""
    with seeded_rng(0), torch.no_grad():
        reference, inputs = _in_double(module, example)
        supernet = copy.deepcopy(model).to(next(reference.parameters()).dtype).eval()
        return _close(predict(supernet, inputs), reference(inputs))


def _load(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    module.load_state_dict(versioned(module, state))


def check_determined(module: nn.Module, example: Inputs) -> None:
    """Refuse a module whose output is random, or no number, in evaluation mode.

    Raises
    ------
    InputError
        If it is.
    """
    name = type(module).__name__
    with seeded_rng(0), torch.no_grad():
        reference, inputs = _in_double(module, example)
        before = torch.get_rng_state()
        first = reference(inputs)
        draws = not torch.equal(before, torch.get_rng_state())
        again = [reference(inputs) for _ in range(_DRAWS if draws else 1)]
    if not _is_finite(first):
        raise InputError(
            f"{name} computes values that are not finite for the example input: give an example "
            "as in training, and guard against logarithms and quotients of zero"
        )
    if not all(_equal(first, output) for output in again):
        raise InputError(
            f"{name} draws random numbers in evaluation mode (such as dropout(x) without "
            "training=self.training): draw them while self.training is True alone"
        )


def _in_double(module: nn.Module, example: Inputs) -> tuple[Outputs, Inputs]:
    """Copy a module for evaluation, in double precision unless it fixes another one."""
    double = Outputs(copied(module)).eval().double()
    inputs = each(lambda part: part.double() if part.is_floating_point() else part, example)
    try:
        double(each(itemgetter([0]), inputs))
    except RuntimeError:
        return Outputs(copied(module)).eval(), example
    return double, inputs


def _compare_variations(
    supernet: SupernetModel, reference: Outputs, inputs: Inputs, signature: Signature
) -> None:
    for sample in signature.variations(inputs):
        try:
            expected = reference(sample)
        except (RuntimeError, ValueError, IndexError, AssertionError):
            continue  # The module itself does not take this number of time steps.
        if not _close(predict(supernet, sample), expected):
            raise _differs(reference.module, sample, inputs)


def _differs(module: nn.Module, sample: Inputs, example: Inputs) -> InputError:
    return InputError(
        f"{type(module).__name__} computes something else for {describe(sample)} than for the "
        f"example, {describe(example)}: its forward() must not branch on the shape of its input"
    )


def _close(actual: Any, expected: Any) -> bool:
    pairs = zip(pytree.tree_leaves(actual), pytree.tree_leaves(expected), strict=True)
    return all(_is_close(one, other) for one, other in pairs)


def _is_close(actual: Tensor, expected: Tensor) -> bool:
    if actual.shape != expected.shape or not expected.isfinite().all():
        return False
    if not expected.is_floating_point():
        return torch.equal(actual, expected)
    tolerance = TOLERANCES.get(expected.dtype, 1e-3)
    return bool((actual - expected).abs().max() <= tolerance * expected.abs().max())


def _is_finite(output: Any) -> bool:
    return all(bool(part.isfinite().all()) for part in pytree.tree_leaves(output))


def _equal(first: Any, second: Any) -> bool:
    pairs = zip(pytree.tree_leaves(first), pytree.tree_leaves(second), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


def _permuted(model: SupernetModel) -> dict[str, Tensor]:
    """Let the units of each group change places in all tensors."""
    kept = {group: torch.randperm(size) for group, size in model.sizes.items()}
    for group, units in kept.items():
        if torch.equal(units, torch.arange(len(units))):
            kept[group] = units.flip(0)
    where = locate(model, kept)
    return {name: where[name].read(tensor) for name, tensor in model.state_dict().items()}


def _try_subnet(supernet: SupernetModel, inputs: Inputs) -> None:
    for width in (0.3, 0.6):
        subnet = extract(supernet, width)
        for training in (True, False):
            try:
                predict(subnet.train(training), inputs)
            except (RuntimeError, IndexError, ValueError) as error:
                raise InputError(
                    f"the subnet of width {width} cannot run: {str(error).splitlines()[0]} (a size "
                    "in forward() that does not follow its units: leave that part at full width "
                    "with keep=[its path])"
                ) from error


def _compare_masked(
    supernet: SupernetModel, reference: Outputs, inputs: Inputs, program: Program
) -> None:
    state, kept = supernet.state_dict(), prefix(supernet, 0.5)
    where = locate(supernet, kept)
    masked = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    for name, tensor in state.items():
        where[name].write(masked[name], where[name].read(tensor))
    if program.normalises_units:
        held = dict(supernet.named_buffers(remove_duplicate=False)) | masked
        full = over_kept(program, supernet.sizes, kept)
        expected = full.run(tensors(inputs), {at: held[name] for at, name in full.tensors.items()})
    else:
        _load(reference.module, masked)
        expected = reference(inputs)
    if not _is_finite(expected):
        return
    if not _close(predict(extract(supernet, 0.5), inputs), expected):
        raise InputError(
            f"the units of {type(reference.module).__name__} that are left out would change what "
            "the others compute (such as exp(x) / exp(x).sum(), which is a softmax over units): "
            "leave the part where they do at full width with keep=[its path]"
        )
