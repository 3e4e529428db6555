"""The supernet of a user's module: traced, checked against the module, built at any sizes."""

from __future__ import annotations

import gc
import math
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from typing import Any, Self

import torch
from torch import Tensor, nn

from hasa_opt._utils.files import sha256
from hasa_opt.errors import InputError
from hasa_opt.models.cuts import DimensionCut, unfold
from hasa_opt.models.inputs import Inputs, each, tensors
from hasa_opt.models.states import as_array
from hasa_opt.models.subnets import locate
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.models.traced.blueprint import Blueprint, draft
from hasa_opt.models.traced.capture import capture, draw, without_weights
from hasa_opt.models.traced.kept import fingerprint, recall, store
from hasa_opt.models.traced.signature import check_example, doubled
from hasa_opt.models.traced.verification import agrees, check_determined, verify

FEW = 8
"""Number of samples of the example on which a supernet is compared with its module."""


class Supernet(SupernetModel):
    """A user's own module as a supernet.

    The module's operations are traced by ``torch.export``, once in training and once in evaluation
    mode, and every dimension of every tensor is followed through them: dimensions that an operation
    couples are cut together. A subnet runs the same operations on smaller tensors. Whatever cannot
    be cut exactly stays at full width with a warning, or is refused where too little is left. See
    the page on slicing.

    Parameters
    ----------
    module : torch.nn.Module
        Maps one or several tensors to one tensor, to a tuple, list or dict of tensors, or to a
        mapping with ``logits``. It is copied, not changed.
    example_input : (n, ...) Tensor, or dict or tuple of tensors
        A typical batch, such as ``task.train[0].inputs``; several are given by the names of the
        module's arguments, or by position. The number of samples, and the size of the next
        dimension (time) where the module allows, may differ later.
    keep : sequence of str
        Paths of modules, or names of parameters, that stay at full width, with all that they read.
    trace : path, optional
        File that keeps what was found of the module, for the next process. It is written where
        there is none, or that of another module, and run as code is: name a file of your own.

    Raises
    ------
    InputError
        If the module cannot be traced or cut; the operation and the module are named.
    """

    def __init__(
        self,
        module: nn.Module,
        example_input: Inputs,
        keep: Sequence[str] = (),
        *,
        trace: str | PathLike[str] | None = None,
    ) -> None:
        _check(module, example_input, keep)
        key = "" if trace is None else fingerprint(module, example_input, keep)
        if trace is None or not self._recall(trace, key, module, example_input):
            with _without_collection():
                self._trace(module, example_input, keep)
            if trace is not None:
                store(trace, key, replace(self._blueprint, prototype=nn.Module()))
        if self.whole:
            tensor, reason = next(iter(self.whole.items()))
            warnings.warn(
                f"{type(module).__name__} is cut in part: {tensor} cannot be cut: {reason} "
                f"(supernet.whole lists {len(self.whole)} parameters that are kept whole)",
                stacklevel=2,
            )

    def _recall(
        self, trace: str | PathLike[str], key: str, module: nn.Module, example_input: Inputs
    ) -> bool:
        """Take what a file keeps of the module, if it still computes what the module does."""
        held = recall(trace, key)
        if held is None:
            return False
        prototype = without_weights(module)
        self._fill(module, replace(held, prototype=prototype, example_input=example_input))
        return agrees(self, module, each(lambda part: part[:FEW], doubled(example_input)))

    def _fill(self, module: nn.Module, blueprint: Blueprint) -> None:
        """Become the supernet of a module at full width, with its weights."""
        self._assemble(blueprint, blueprint.sizes)
        self.load_state_dict(module.state_dict())
        device = tensors(blueprint.example_input)[0].device
        self.to(device).train(module.training)

    def _trace(self, module: nn.Module, example_input: Inputs, keep: Sequence[str]) -> None:
        """Trace a module, find what is cut, and compare with the module."""
        example = doubled(example_input)
        captures = {mode: capture(module, example, training=mode) for mode in (True, False)}
        few = each(lambda part: part[:FEW], example)
        check_determined(module, few)
        held = each(lambda part: part.detach().clone(), example_input)
        drafted = draft(module, captures, keep, held)
        self._fill(module, drafted)
        verify(self, module, few, drafted.signature, drafted.programs[False])

    @property
    def whole(self) -> Mapping[str, str]:
        """Parameters that an operation leaves at full width in some dimension, and why."""
        return self._blueprint.whole

    def _assemble(self, blueprint: Blueprint, sizes: Mapping[str, int]) -> None:
        """Register tensors of a subnet's shapes under the names of the module's.

        They may be names of our own, such as ``sizes``. So they go past the attributes, straight to
        where torch keeps tensors and parts; our attributes are set before.
        """
        super().__init__(sizes, blueprint.n_outputs)
        self._blueprint, self.example_input = blueprint, blueprint.example_input
        self._programs = {mode: p.at(sizes) for mode, p in blueprint.programs.items()}
        holders: dict[int, nn.Module] = {id(blueprint.prototype): self}
        parameters: dict[int, nn.Parameter] = {}
        for path, part in _holding_parts(blueprint.prototype):
            holder = holders.setdefault(id(part), nn.Module())
            if path:
                parent, _, attribute = path.rpartition(".")
                self.get_submodule(parent)._modules[attribute] = holder
            for name, parameter in part.named_parameters(recurse=False):
                if id(parameter) not in parameters:
                    smaller = self._shaped(_join(path, name), parameter)
                    parameters[id(parameter)] = nn.Parameter(smaller, parameter.requires_grad)
                holder._parameters[name] = parameters[id(parameter)]
            for name, buffer in part.named_buffers(recurse=False):
                stored = _join(path, name) in blueprint.cuts
                held = self._shaped(_join(path, name), buffer) if stored else buffer.clone()
                _hold(holder, name, held, stored)
        for name, constant in blueprint.constants.items():
            _hold(self, name, constant.clone(), stored=False)

    def __setattr__(self, name: str, value: Any) -> None:
        for held in (self.__dict__.get("_parameters", {}), self.__dict__.get("_buffers", {})):
            if name in held:
                held[name] = value
                return
        super().__setattr__(name, value)

    def get_submodule(self, target: str) -> nn.Module:
        """Find a part of the module by its path, also one that is named like an attribute."""
        part: nn.Module | None = self
        for name in target.split(".") if target else ():
            part = None if part is None else part._modules.get(name)
        if part is None:
            raise AttributeError(f"{target!r} is no part of the supernet")
        return part

    def get_parameter(self, target: str) -> nn.Parameter:
        """Find a parameter by its path, also one that is named like an attribute."""
        found = self._tensor(target)
        if not isinstance(found, nn.Parameter):
            raise AttributeError(f"{target!r} is no parameter of the supernet")
        return found

    def _tensor(self, name: str) -> Tensor:
        """Find a parameter or buffer by its path."""
        path, _, attribute = name.rpartition(".")
        part = self.get_submodule(path)
        found = part._parameters.get(attribute, part._buffers.get(attribute))
        if found is None:
            raise AttributeError(f"{name!r} is no tensor of the supernet")
        return found

    def _operations(self) -> str:
        """Describe the traced operations and the tensors outside of the state."""
        stored = self.state_dict().keys()
        constants = [held for name, held in self.named_buffers() if name not in stored]
        return f"{self._programs} {sha256(map(as_array, constants))}"

    def _shaped(self, name: str, tensor: Tensor) -> Tensor:
        """Make an empty tensor of the shape that a tensor of the prototype has in this subnet."""
        cuts = zip(self._blueprint.cuts[name], tensor.shape, strict=True)
        shape = [math.prod(unfold(cut, length, self.sizes)) for cut, length in cuts]
        return torch.empty(shape, dtype=tensor.dtype)

    def forward(self, *inputs: Tensor, **named: Tensor) -> Any:
        """Compute the module's output.

        Parameters
        ----------
        *inputs, **named : Tensor
            As the example input, but for the sizes that may vary.

        Returns
        -------
        (..., n_outputs) Tensor, or (n,) of one number for each sample, or the tuple or dict of
        tensors that the module gives
        """
        program = self._programs[self.training]
        read = self._blueprint.signature.read(inputs, named)
        return program.run(read, {at: self._tensor(name) for at, name in program.tensors.items()})

    def cuts(self) -> Mapping[str, tuple[DimensionCut, ...]]:
        """What cuts each dimension of each entry of the state."""
        return self._blueprint.cuts

    def build(self, sizes: Mapping[str, int]) -> Self:
        """Build the same network at other sizes, with fresh initial weights.

        They are the leading units of what the ``reset_parameters`` of the module and its parts draw
        at full width.

        Raises
        ------
        InputError
            If there is a parameter that no such method initialises.
        """
        blueprint = self._blueprint
        model = type(self).__new__(type(self))
        model._assemble(blueprint, sizes)
        for name, buffer in self.named_buffers():
            if name not in blueprint.cuts:
                path, _, attribute = name.rpartition(".")
                setattr(model.get_submodule(path), attribute, buffer.clone())
        if torch.get_default_device().type != "meta":
            full = type(self).__new__(type(self))
            with torch.device("meta"):
                full._assemble(blueprint, blueprint.sizes)
            where = locate(full, {group: slice(count) for group, count in sizes.items()})
            drawn = draw(blueprint.prototype)
            model.load_state_dict({name: where[name].read(t) for name, t in drawn.items()})
        return model


@contextmanager
def _without_collection() -> Iterator[None]:
    """Collect no garbage: tracing makes millions of objects, which would be looked through."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _holding_parts(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """List a module and its parts, by path, as far as they hold tensors: others only compute."""
    for path, part in module.named_modules(remove_duplicate=False):
        if not path or any(True for _ in (*part.parameters(), *part.buffers())):
            yield path, part


def _hold(part: nn.Module, name: str, buffer: Tensor, stored: bool) -> None:
    """Register a buffer, under any name."""
    part._buffers[name] = buffer
    if not stored:
        part._non_persistent_buffers_set.add(name)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _check(module: nn.Module, example: object, keep: Sequence[str]) -> None:
    """Refuse what cannot be traced."""
    if not isinstance(module, nn.Module) or isinstance(module, torch.jit.ScriptModule):
        given = module.__name__ if isinstance(module, type) else f"a {type(module).__name__}"
        raise InputError(f"module is {given}: give an instance of torch.nn.Module, not scripted")
    if isinstance(keep, str):
        raise InputError(f"keep = {keep!r} is one string: give a list, keep=[{keep!r}]")
    if not isinstance(keep, Collection):
        raise InputError(f"keep = {keep!r} must be a list of names, such as keep=['head']")
    known = {name for name, _ in [*module.named_modules(), *module.named_parameters()]}
    for part in keep:
        if part not in known or not part:
            raise InputError(
                f"keep names {part!r}, which is neither a module nor a parameter of "
                f"{type(module).__name__}: use the names of named_modules()"
            )
    check_example(example)
    if next(module.parameters(), None) is None:
        raise InputError(f"{type(module).__name__} has no parameters: there is nothing to cut")
