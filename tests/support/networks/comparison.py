"""A subnet beside the whole module with zero for all that the subnet does not hold.

What the module computes comes from the module alone: no operation that was traced is run. A layer
normalisation that is cut runs on the entries that are kept, by its own ``forward``.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from hasa_opt.models import Supernet, extract, locate, prefix
from hasa_opt.models.cuts import Kept
from hasa_opt.models.inputs import Inputs, each, predict

NORMALISES = re.compile(r"(Layer|RMS)Norm")
"""Class names of normalisations over all that they read."""

SCALED_APART = re.compile(r"weight_v|original1")
"""Directions of a normalised weight: with a length of zero they may point anywhere."""


def assert_is_masked_module(
    supernet: Supernet, module: nn.Module, example: Inputs, width: float, seed: int | None = None
) -> None:
    """Compare outputs and gradients with those of the module without the other units."""
    kept = drawn(supernet, width, seed)
    whole, inputs = in_double(module, example)
    supernet = copy.deepcopy(supernet).to(next(whole.parameters()).dtype)
    for training in (False, True):
        if training and draws(whole, inputs):
            continue
        subnet = extract(supernet, width, kept).train(training)
        reference = masked(whole, supernet, kept).train(training)
        outputs = predict(subnet, inputs), given(predict(reference, inputs))
        assert_close_outputs(*outputs)
        for output in outputs:
            weighted_sum(output).backward()
        assert_close_gradients(subnet, reference, locate(supernet, kept))


def drawn(supernet: Supernet, width: float, seed: int | None) -> Kept:
    """The first units of each group, or some in any order."""
    if seed is None:
        return prefix(supernet, width)
    generator = torch.Generator().manual_seed(seed)
    return {
        group: torch.randperm(size, generator=generator)[: max(1, int(width * size))]
        for group, size in supernet.sizes.items()
    }


def in_double(module: nn.Module, example: Inputs) -> tuple[nn.Module, Inputs]:
    """The module in double precision, unless it asks for another one."""
    double = copy.deepcopy(module).double()
    inputs = each(lambda part: part.double() if part.is_floating_point() else part, example)
    try:
        predict(double, inputs)
    except RuntimeError:
        return module, example
    return double, inputs


def draws(module: nn.Module, inputs: Inputs) -> bool:
    """Whether the module draws random numbers in training."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        before = torch.get_rng_state()
        predict(copy.deepcopy(module).train(), inputs)
        return not torch.equal(before, torch.get_rng_state())


def masked(module: nn.Module, supernet: Supernet, kept: Kept) -> nn.Module:
    """The module with zero for all coordinates of the units that are not kept."""
    reference, where = copy.deepcopy(module), locate(supernet, kept)
    entries = {
        path: held(where, f"{path}.weight", part)
        for path, part in reference.named_modules()
        if is_normalisation(part)
    }
    with torch.no_grad():
        for name, tensor in reference.state_dict(keep_vars=True).items():
            if tensor.is_floating_point() and not SCALED_APART.search(name):
                zero = torch.zeros_like(tensor)
                where[name].write(zero, where[name].read(tensor))
                tensor.copy_(zero)
    for path, index in entries.items():
        part = reference.get_submodule(path)
        part.register_forward_hook(on_kept(copy.deepcopy(part), index))
    return reference


def is_normalisation(part: nn.Module) -> bool:
    weight = getattr(part, "weight", None)
    one_group = isinstance(part, nn.GroupNorm) and part.num_groups == 1
    return (NORMALISES.search(type(part).__name__) or one_group) and isinstance(weight, Tensor)


def held(where: Mapping[str, Any], name: str, part: nn.Module) -> Tensor:
    """Which entries of a vector are kept."""
    return where[name].read(torch.arange(len(part.weight)))


def on_kept(bare: nn.Module, index: Tensor) -> Callable[..., Tensor]:
    """Run a normalisation on the entries that are kept; all others are zero."""
    channels_first = getattr(bare, "data_format", "") == "channels_first"
    dim = 1 if channels_first or isinstance(bare, nn.GroupNorm) else -1
    if hasattr(bare, "normalized_shape"):
        bare.normalized_shape = (len(index),)
    if isinstance(bare, nn.GroupNorm):
        bare.num_channels = len(index)

    def hook(part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        own = {name: tensor[index] for name, tensor in part.named_parameters(recurse=False)}
        result = functional_call(bare, own, (inputs[0].index_select(dim, index),))
        return torch.zeros_like(output).index_copy(dim, index, result)

    return hook


def given(output: Any) -> Any:
    """What a supernet gives of a module's output: the logits, or all tensors."""
    if isinstance(output, Mapping):
        tensors = {name: part for name, part in output.items() if isinstance(part, Tensor)}
        return tensors.get("logits", tensors)
    return output


def assert_close_outputs(actual: Any, expected: Any) -> None:
    pairs = zip(pytree.tree_leaves(actual), pytree.tree_leaves(expected), strict=True)
    for one, other in pairs:
        assert one.shape == other.shape
        assert_close(one, other, float(other.detach().abs().max()), "output")


def weighted_sum(output: Any) -> Tensor:
    """A number that depends on every output."""
    generator = torch.Generator().manual_seed(7)
    parts = [part for part in pytree.tree_leaves(output) if part.requires_grad]
    return sum((part * torch.randn(part.shape, generator=generator)).sum() for part in parts)


def assert_close_gradients(
    subnet: nn.Module, reference: nn.Module, where: Mapping[str, Any]
) -> None:
    gradients = {name: parameter.grad for name, parameter in reference.named_parameters()}
    for name, parameter in subnet.named_parameters():
        expected = gradients[name]
        if expected is None or parameter.grad is None:
            assert expected is parameter.grad, name
            continue
        scale = float(expected.abs().max())
        assert_close(parameter.grad, where[name].read(expected), scale, name)


def assert_close(one: Tensor, other: Tensor, scale: float, name: str) -> None:
    """Some networks compute in single precision whatever their weights are."""
    one = one.to(other.dtype)
    share = 1e-5 if one.dtype == torch.float64 else 1e-3
    torch.testing.assert_close(
        one, other, atol=share * scale + 1e-9, rtol=0, msg=lambda m: f"{name}: {m}"
    )
