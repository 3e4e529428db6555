"""Programs: the operations of a captured module, run at any sizes of its width groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import Node
from torch.fx.node import map_aggregate, map_arg
from torch.nn import functional
from torch.utils import _pytree as pytree

from hasa_opt.errors import InputError
from hasa_opt.models.cuts import DimensionCut
from hasa_opt.models.traced.axes import Axis, Layout, MismatchError
from hasa_opt.models.traced.capture import Capture
from hasa_opt.models.traced.groups import Length, cut_of, length_of
from hasa_opt.models.traced.labels import Labels, Site
from hasa_opt.models.traced.stand_ins import called


@dataclass(frozen=True)
class Value:
    """The result of an earlier step, or a tensor of the module, by name."""

    name: str


@dataclass(frozen=True)
class Operation:
    """An operation of torch; it is pickled by its name."""

    name: str

    def __post_init__(self) -> None:
        function: Any = torch.ops
        for part in self.name.split("."):
            function = getattr(function, part)
        object.__setattr__(self, "function", function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return self.function(*args, **kwargs)  # type: ignore[attr-defined]

    def __reduce__(self) -> tuple[type[Operation], tuple[str]]:
        return Operation, (self.name,)


@dataclass(frozen=True)
class InMode:
    """A call for which gradients are recorded, or not, whatever the caller does."""

    function: Callable[..., Any]
    records_gradients: bool

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        with torch.set_grad_enabled(self.records_gradients):
            return self.function(*args, **kwargs)


@dataclass(frozen=True)
class Step:
    """One call.

    Parameters
    ----------
    result : str
        Name of its result.
    function : callable
        What is called.
    args, kwargs : tuple, dict
        Arguments; those that are earlier results are :class:`Value`.
    last_use : tuple of str
        Names that no later step needs.
    normalised : dict of int or str to tuple
        Of a call that normalises units: for each argument that is a tensor of them, by position or
        name, what cuts the dimensions over which it runs.
    """

    result: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    last_use: tuple[str, ...] = ()
    normalised: Mapping[int | str, tuple[DimensionCut, ...]] = field(default_factory=dict)


def operation_of(step: Step) -> str:
    """Name the operation of torch that a step calls; "" for other functions."""
    function = step.function.function if isinstance(step.function, InMode) else step.function
    return function.name if isinstance(function, Operation) else ""


@dataclass(frozen=True)
class Program:
    """A module's operations in one mode.

    Parameters
    ----------
    tensors : dict of str to str
        For each tensor of the module that it reads: the name in the steps -> in the module.
    steps : tuple of Step
        The calls in their order.
    inputs : tuple of str
        Names of the inputs.
    output : Value, or tuple, list or dict of Value
        What it gives.
    dtype : torch.dtype
        The floating-point type at the time of tracing: the type of the weights takes its place.
    """

    tensors: dict[str, str]
    steps: tuple[Step, ...]
    inputs: tuple[str, ...]
    output: Any
    dtype: torch.dtype

    @property
    def normalises_units(self) -> bool:
        """Whether a normalisation runs over units that are cut."""
        return any(step.normalised for step in self.steps)

    def at(self, sizes: Mapping[str, int]) -> Program:
        """Fill in the sizes of a subnet."""

        def fill(leaf: Any) -> Any:
            return leaf.at(sizes) if isinstance(leaf, Length) else leaf

        steps = tuple(
            replace(s, args=map_aggregate(s.args, fill), kwargs=map_aggregate(s.kwargs, fill))
            for s in self.steps
        )
        return replace(self, steps=steps)

    def run(self, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Any:
        """Compute the output.

        Parameters
        ----------
        inputs : sequence of Tensor
            The module's inputs, in the order of their names.
        tensors : mapping of str to Tensor
            The module's tensors by their names in the steps.
        """
        values: dict[str, Any] = {**dict(zip(self.inputs, inputs, strict=True)), **tensors}
        device = inputs[0].device
        dtype = next((t.dtype for t in tensors.values() if t.is_floating_point()), self.dtype)

        def fill(argument: Any) -> Any:
            if isinstance(argument, Value):
                return values[argument.name]
            if isinstance(argument, (list, tuple)):
                return [fill(part) for part in argument]
            if isinstance(argument, torch.device):
                return device
            return dtype if argument is self.dtype else argument

        for step in self.steps:
            args = [fill(argument) for argument in step.args]
            kwargs = {name: fill(argument) for name, argument in step.kwargs.items()}
            values[step.result] = step.function(*args, **kwargs)
            for name in step.last_use:
                del values[name]
        return pytree.tree_map_only(Value, lambda value: values[value.name], self.output)


def write_program(
    captured: Capture, labels: Labels, names: dict[Axis, str], dtype: torch.dtype
) -> Program:
    """Turn captured operations into a program whose sizes follow those of the width groups."""
    used = {source for node in captured.nodes for source in node.all_input_nodes}
    steps = [_step(node, labels.sites.get(node), names) for node in captured.nodes]
    outputs = tuple(node.name for node in captured.outputs)
    used |= set(captured.outputs)
    return Program(
        {node.name: name for node, name in captured.placeholders.items() if node in used},
        _free_early(steps, outputs),
        tuple(node.name for node in captured.inputs),
        pytree.tree_unflatten([Value(name) for name in outputs], captured.structure),
        dtype,
    )


def _step(node: Node, site: Site | None, names: dict[Axis, str]) -> Step:
    args, kwargs = list(node.args), dict(node.kwargs)
    if site is not None:
        parameters = called(node)._schema.arguments
        for position, parameter in enumerate(parameters):
            if parameter.name in site.resized:
                holder: Any = args if position < len(args) else kwargs
                key: Any = position if position < len(args) else parameter.name
                holder[key] = _sized(holder[key], site, site.resized[parameter.name], names)
        value = node.meta["val"]
        reads = any(isinstance(source.meta["val"], Tensor) for source in node.all_input_nodes)
        if not reads and isinstance(value, Tensor) and value.is_floating_point():
            kwargs["dtype"] = value.dtype
    function = called(node)
    if function is torch.ops.aten.dropout.default:
        function = functional.dropout  # Whoever draws the masks of a client looks for this one.
    elif isinstance(function, OpOverload):
        function = Operation(str(function))
    if "grad" in node.meta:
        function = InMode(function, node.meta["grad"])
    refer: Any = partial(map_arg, fn=lambda source: Value(source.name))  # type: ignore[arg-type,return-value]
    normalised = {} if site is None else _normalised(node, site, names)
    return Step(node.name, function, refer(tuple(args)), refer(kwargs), normalised=normalised)


def _normalised(
    node: Node, site: Site, names: dict[Axis, str]
) -> dict[int | str, tuple[DimensionCut, ...]]:
    """Say what cuts the dimensions over which a normalisation runs, for each of its arguments."""
    found: dict[int | str, tuple[DimensionCut, ...]] = {}
    for position, parameter in enumerate(called(node)._schema.arguments):
        layouts = site.normalised.get(parameter.name, [])
        cuts = tuple(cut_of(layout, names) for layout in layouts)
        if any(cut is not None for cut in cuts):
            found[position if position < len(node.args) else parameter.name] = cuts
    return found


def _sized(argument: Any, site: Site, layouts: Sequence[Layout], names: Mapping[Axis, str]) -> Any:
    """Let an argument follow the sizes of the layouts that it describes."""
    if not isinstance(argument, (list, tuple)):
        return _size(argument, layouts[0], names)
    sizes = [_size(n, layout, names) for n, layout in zip(argument, layouts, strict=True)]
    if sizes.count(-1) > 1 and site.operation in ("view", "reshape"):
        raise InputError(
            f"{site.operation} in module {site.path!r} merges heads with the batch and leaves "
            "another size open: give that size as a number"
        )
    return sizes


def _size(entries: Any, layout: Layout, names: Mapping[Axis, str]) -> Any:
    try:
        length = length_of(layout, names)
    except MismatchError:
        return -1  # Heads times batch: what the other sizes leave.
    return entries if length is None or entries == -1 else length


def _free_early(steps: Sequence[Step], outputs: Sequence[str]) -> tuple[Step, ...]:
    """Note after which step each result is no longer needed."""
    needed = set(outputs)
    done: list[Step] = []
    for step in reversed(steps):
        leaves = pytree.tree_leaves((step.args, step.kwargs))
        sources = {leaf.name for leaf in leaves if isinstance(leaf, Value)} | {step.result}
        done.append(replace(step, last_use=tuple(sorted(sources - needed))))
        needed |= sources
    return tuple(done[::-1])
