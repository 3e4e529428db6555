"""Programs: the operations of a captured module, run at any sizes of its width groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

import networkx as nx
import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import Node
from torch.fx.node import map_aggregate, map_arg
from torch.nn import functional
from torch.utils import _pytree as pytree

from hasa_opt.errors import InputError
from hasa_opt.models.cuts import Cut, Segments
from hasa_opt.models.traced.axes import Axis, Layout, MismatchError, Product, product_size, resolve
from hasa_opt.models.traced.capture import Capture
from hasa_opt.models.traced.labels import Labels, Site, called


@dataclass(frozen=True)
class Groups:
    """The width groups of a module.

    Parameters
    ----------
    names : dict of Axis to str
        Each axis that is cut -> the name of its group.
    sizes : dict of str to int
        Number of units of each group.
    cuts : dict of str to tuple
        For each tensor of the module: what cuts each of its dimensions.
    """

    names: dict[Axis, str]
    sizes: dict[str, int]
    cuts: dict[str, tuple[Cut | Segments | None, ...]]


@dataclass(frozen=True)
class Length:
    """A number of entries that depends on the kept units: a sum of multiples of group sizes.

    Parameters
    ----------
    terms : tuple of pairs
        (factor, name of the group or None) of each term.
    """

    terms: tuple[tuple[int, str | None], ...]

    def at(self, sizes: Mapping[str, int]) -> int:
        """Count the entries of a subnet."""
        return sum(n if group is None else n * sizes[group] for n, group in self.terms)


def find_groups(labels: Labels, parameters: Sequence[str]) -> Groups:
    """Choose the axes that are cut: in each parameter the outermost one that may be.

    Parameters
    ----------
    labels : Labels
        What the dimensions of all tensors are made of.
    parameters : sequence of str
        Names of the parameters, in the order of their use.

    Raises
    ------
    InputError
        If an operation forbids to cut a parameter, or nothing is left to cut.
    """
    coupling = _coupling(labels, parameters)
    for place in [node for node in coupling if not isinstance(node, Axis)]:
        _choose_one(place)
    _refuse_blocked(coupling)
    names: dict[Axis, str] = {}
    for axis in (node for node in coupling if isinstance(node, Axis) and node.free):
        first = min(coupling[axis], key=lambda place: place.order)
        names[axis] = _unused_name(first.tensor, set(names.values()))
    if not names:
        raise InputError(
            "nothing is left to cut: every dimension belongs to the input, the output or a part in "
            "keep; leave less at full width"
        )
    sizes = {name: int(axis.size) for axis, name in names.items()}
    cuts = {
        tensor: tuple(_cut(layout, names) for layout in dims)
        for tensor, dims in labels.tensors.items()
    }
    return Groups(names, sizes, cuts)


@dataclass(frozen=True)
class _Place:
    """One term of one dimension of a parameter."""

    order: int
    tensor: str
    product: Product


def _coupling(labels: Labels, parameters: Sequence[str]) -> nx.Graph:
    """Connect each place in a parameter with the axes that it is made of."""
    coupling = nx.Graph()
    for tensor in parameters:
        for layout in labels.tensors[tensor]:
            for product in resolve(layout):
                place = _Place(len(coupling), tensor, product)
                coupling.add_edges_from((place, axis) for axis in product)
    return coupling


def _choose_one(place: _Place) -> None:
    """Cut the outermost axis alone; the others are parts of its units."""
    free = [axis for axis in place.product if axis.free]
    for axis in free[1:]:
        if axis is free[0]:
            axis.refusal = f"{place.tensor} reads products of its units with each other"
        axis.inner = True


def _refuse_blocked(coupling: nx.Graph) -> None:
    """Raise where an operation forbids to cut a parameter that could be cut otherwise."""
    makers: dict[Axis, str] = {}
    for place in (node for node in coupling if not isinstance(node, Axis)):
        if not any(axis.free or axis.whole for axis in place.product):
            for axis in place.product:
                if axis.refusal:
                    makers.setdefault(axis, place.tensor)
    makers = {a: tensor for a, tensor in makers.items() if not a.derived} or makers
    if makers:
        axis, tensor = next(iter(makers.items()))
        keep = list(dict.fromkeys(name.rpartition(".")[0] or name for name in makers.values()))
        raise InputError(
            f"{tensor} cannot be cut: {axis.refusal}: change that operation, or leave what it "
            f"reads at full width with keep={keep}"
        )


def _unused_name(tensor: str, taken: set[str]) -> str:
    """Name a group after the module that makes it, or after the tensor."""
    module = tensor.rpartition(".")[0] or tensor
    numbered = (f"{tensor}.{number}" for number in range(1, len(taken) + 2))
    return next(name for name in chain([module, tensor], numbered) if name not in taken)


def _cut(layout: Layout, names: dict[Axis, str]) -> Cut | Segments | None:
    """Say what cuts a dimension."""
    segments: list[Cut | int] = []
    for product in resolve(layout):
        cut = _cut_product(product, names)
        if isinstance(cut, int) and segments and isinstance(segments[-1], int):
            segments[-1] += cut
        else:
            segments.append(cut)
    if len(segments) == 1:
        return segments[0] if isinstance(segments[0], Cut) else None
    return tuple(segments)


def _cut_product(product: Product, names: dict[Axis, str]) -> Cut | int:
    for position, axis in enumerate(product):
        if axis in names:
            blocks, span = product_size(product[:position]), product_size(product[position + 1 :])
            return Cut(names[axis], int(blocks), int(span))
    return int(product_size(product))


def length_of(layout: Layout, names: Mapping[Axis, str]) -> Length | None:
    """Count the entries of a dimension in units of its groups; None if it is not cut.

    Raises
    ------
    MismatchError
        If the dimension also depends on batch or time.
    """
    terms: list[tuple[int, str | None]] = []
    for product in resolve(layout):
        groups = [names[axis] for axis in product if axis in names]
        factor = product_size(tuple(axis for axis in product if axis not in names))
        if groups and not (isinstance(factor, int) and len(groups) == 1):
            raise MismatchError
        terms.append((factor, groups[0] if groups else None))
    return Length(tuple(terms)) if any(group for _, group in terms) else None


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
    """

    result: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    last_use: tuple[str, ...] = ()


def _operation_of(step: Step) -> str:
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
    output : str
        Name of the output.
    dtype : torch.dtype
        The floating-point type at the time of tracing: the type of the weights takes its place.
    """

    tensors: dict[str, str]
    steps: tuple[Step, ...]
    inputs: tuple[str, ...]
    output: str
    dtype: torch.dtype

    @property
    def normalises_units(self) -> bool:
        """Whether a layer normalisation runs over units that are cut, before :meth:`at`."""
        leaves = (
            leaf
            for step in self.steps
            if _operation_of(step).startswith(("aten.layer_norm", "aten.rms_norm"))
            for leaf in pytree.tree_leaves(step.args)
        )
        return any(isinstance(leaf, Length) for leaf in leaves)

    def at(self, sizes: Mapping[str, int]) -> Program:
        """Fill in the sizes of a subnet."""

        def fill(leaf: Any) -> Any:
            return leaf.at(sizes) if isinstance(leaf, Length) else leaf

        steps = tuple(
            replace(s, args=map_aggregate(s.args, fill), kwargs=map_aggregate(s.kwargs, fill))
            for s in self.steps
        )
        return replace(self, steps=steps)

    def run(self, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
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
        return values[self.output]  # type: ignore[no-any-return]


def write_program(
    captured: Capture, labels: Labels, names: Mapping[Axis, str], dtype: torch.dtype
) -> Program:
    """Turn captured operations into a program whose sizes follow those of the width groups."""
    used = {source for node in captured.nodes for source in node.all_input_nodes}
    steps = [_step(node, labels.sites.get(node), names) for node in captured.nodes]
    return Program(
        {node.name: name for node, name in captured.placeholders.items() if node in used},
        _free_early(steps, captured.output.name),
        tuple(node.name for node in captured.inputs),
        captured.output.name,
        dtype,
    )


def _step(node: Node, site: Site | None, names: Mapping[Axis, str]) -> Step:
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
    return Step(node.name, function, refer(tuple(args)), refer(kwargs))


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


def _free_early(steps: Sequence[Step], output: str) -> tuple[Step, ...]:
    """Note after which step each result is no longer needed."""
    needed = {output}
    done: list[Step] = []
    for step in reversed(steps):
        leaves = pytree.tree_leaves((step.args, step.kwargs))
        sources = {leaf.name for leaf in leaves if isinstance(leaf, Value)} | {step.result}
        done.append(replace(step, last_use=tuple(sorted(sources - needed))))
        needed |= sources
    return tuple(done[::-1])
