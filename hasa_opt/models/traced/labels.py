"""Labels: a layout for every dimension of every tensor that a captured module computes.

Every operation has a rule, found by its name; an operation without a rule may work on uncut
dimensions alone.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import SymInt, Tensor, nn
from torch.fx import Node
from torch.fx.node import map_arg
from torch.utils import _pytree as pytree

from hasa_opt.models.traced.axes import (
    Layout,
    MismatchError,
    Size,
    axes_of,
    dimension,
    is_whole,
    mark_whole,
    refuse,
    simple,
    size_of,
    unify,
)
from hasa_opt.models.traced.capture import Capture, module_path
from hasa_opt.models.traced.normalisation import statistics
from hasa_opt.models.traced.stand_ins import called, operation_name


class Dims(list[Layout]):
    """The layouts of a tensor's dimensions."""


Rule = Callable[..., Any]
"""Takes a :class:`Site` and the arguments of the operation by name, with :data:`Dims` for each
tensor; returns the :data:`Dims` of each result."""

RULES: dict[str, Rule] = {}
"""Name of each operation, without its overload -> its rule."""


MAKERS = {
    *("zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_full", "new_empty"),
    *("arange", "eye", "linspace", "scalar_tensor", "rand", "randn", "randint", "randperm"),
    *("expand", "repeat", "repeat_interleave"),
}
"""Operations that make new dimensions: their rules also hold for what belongs to the data."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register the rule of some operations."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def uncut(shape: Sequence[Size]) -> Dims:
    """Lay out a tensor that belongs to the data."""
    return Dims(dimension(size, whole=True) for size in shape)


@dataclass(eq=False)
class Site:
    """One call of an operation, as its rule sees it.

    Parameters
    ----------
    operation : str
        Name of the operation.
    path : str
        Path of the module that calls it; "" is the root.
    shapes : list of tuple
        Shape of each result.
    resized : dict of str to list of Layout
        For each argument that says a number of entries: the layouts whose sizes it says.
    barred : list of pairs of Layout
        A dimension that must not be cut, and the one that is made of it.
    records_gradients : bool
        Is not called under ``no_grad()``.
    takes_statistics : bool
        Takes a mean or a spread that does nothing but normalise what it is taken of.
    normalised : dict of str to list of Layout
        Of an operation that runs over the kept units alone: for each argument that is a tensor,
        the layouts of its dimensions, whole ones for those that it does not normalise.
    """

    operation: str
    path: str
    shapes: list[tuple[Size, ...]]
    resized: dict[str, list[Layout]] = field(default_factory=dict)
    barred: list[tuple[Layout, Layout]] = field(default_factory=list)
    records_gradients: bool = True
    takes_statistics: bool = False
    normalised: dict[str, list[Layout]] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[Size, ...]:
        """Shape of the only result."""
        return self.shapes[0]

    def refuse(self, layout: Layout, problem: str) -> None:
        """Forbid to cut a dimension."""
        refuse(layout, self._reason(problem))

    def bar(self, layouts: Sequence[Layout], size: Size, problem: str) -> Layout:
        """Forbid to cut some dimensions, and the one of a given size that is made of them."""
        if all(map(is_whole, layouts)) or not isinstance(size, int):
            result = dimension(size, whole=True)
        else:
            result = dimension(size)
            self.refuse(result, problem)
            for axis in axes_of(result):
                axis.derived = True
            if len(layouts) == 1:
                self.barred.append((layouts[0], result))
        for layout in layouts:
            self.refuse(layout, problem)
        return result

    def _reason(self, problem: str) -> str:
        where = f"module {self.path!r}" if self.path else "the outermost forward()"
        return f"{self.operation} in {where} {problem}"

    def join(self, left: Layout, right: Layout) -> None:
        """Make two dimensions the same one."""
        try:
            if size_of(left) != size_of(right):
                raise MismatchError
            unify(left, right)
        except MismatchError:
            for layout in (left, right):
                self.refuse(layout, "brings together dimensions that are made up differently")

    def attempt(self, regroup: Callable[[], Dims], dims: Dims, problem: str) -> Dims:
        """Regroup dimensions, or forbid to cut them."""
        try:
            return regroup()
        except MismatchError:
            return Dims(self.bar(dims, size, problem) for size in self.shape)


@dataclass(eq=False)
class Labels:
    """The layouts of a module's tensors.

    Parameters
    ----------
    tensors : dict of str to Dims
        Layouts of each parameter and buffer, by name; tied ones share them.
    sites : dict of torch.fx.Node to Site
        For each node of each capture: its call.
    """

    tensors: dict[str, Dims]
    sites: dict[Node, Site] = field(default_factory=dict)


def label_tensors(
    module: nn.Module, constants: Mapping[str, Tensor], keep: Sequence[str]
) -> Labels:
    """Start with one axis per dimension of each parameter, buffer and constant."""
    known: dict[int, Dims] = {}
    tensors: dict[str, Dims] = {}
    stored = module.state_dict(keep_vars=True)
    outside = {n: b for n, b in module.named_buffers(remove_duplicate=False) if n not in stored}
    for name, tensor in {**stored, **outside, **constants}.items():
        dims = known.setdefault(id(tensor), Dims(dimension(size) for size in tensor.shape))
        tensors[name] = dims
        for layout in dims:
            if is_kept(name, keep):
                mark_whole(layout)
            elif name not in stored:
                refuse(
                    layout,
                    f"the constant tensor {name!r} is no entry of state_dict() (make it a "
                    "persistent buffer) and",
                )
    return Labels(tensors)


def is_kept(name: str, keep: Sequence[str]) -> bool:
    """Whether a module or a tensor lies in a part that is left at full width."""
    return any(name == part or name.startswith(part + ".") for part in keep)


def propagate(labels: Labels, captured: Capture, keep: Sequence[str]) -> None:
    """Label all tensors of a captured module, merging and splitting axes on the way."""
    values: dict[Node, Any] = {
        node: labels.tensors[name] for node, name in captured.placeholders.items()
    }
    values |= {node: uncut(sizes(node.meta["val"])) for node in captured.inputs}
    normalising = statistics(captured.nodes)
    for node in captured.nodes:
        if node.target is operator.getitem:
            source, index = node.args
            values[node] = values[source][index]  # type: ignore[index]
        elif results_of(node):  # Others compute a number from sizes.
            site = Site(operation_name(node), module_path(node), list(map(sizes, results_of(node))))
            site.takes_statistics = node in normalising
            site.records_gradients = node.meta.get("grad", True)
            results = _apply(site, node, _bind(node, values), keep)
            values[node] = results[0] if isinstance(node.meta["val"], Tensor) else results
            labels.sites[node] = site
    for layout in (layout for output in captured.outputs for layout in values[output]):
        mark_whole(layout)


def settle(labels: Labels) -> None:
    """Leave whole what a dimension of the data was picked from, such as a table of positions."""
    barred = [pair for site in labels.sites.values() for pair in site.barred]
    for source, result in reversed(barred):
        if size_of(result) != 1 and is_whole(result):
            mark_whole(source)


def sizes(tensor: Tensor) -> tuple[Size, ...]:
    """Read a shape with symbolic batch and time."""
    return tuple(
        simple(size.node.expr) if isinstance(size, SymInt) else size for size in tensor.shape
    )


def results_of(node: Node) -> list[Tensor]:
    """List the tensors that a call computes."""
    return [leaf for leaf in pytree.tree_leaves(node.meta["val"]) if isinstance(leaf, Tensor)]


def _bind(node: Node, values: Mapping[Node, Any]) -> dict[str, Any]:
    """Name the arguments of a call, each tensor in them replaced by its layouts."""
    names = [argument.name for argument in called(node)._schema.arguments]
    arguments = dict(zip(names, node.args, strict=False)) | node.kwargs
    return {
        name: map_arg(argument, lambda source: values.get(source, source))
        for name, argument in arguments.items()
    }


def tensors_in(arguments: Any) -> list[Dims]:
    """List the tensors among the arguments of a call."""
    leaves = pytree.tree_leaves(arguments, is_leaf=lambda leaf: isinstance(leaf, Dims))
    return [leaf for leaf in leaves if isinstance(leaf, Dims)]


def _apply(
    site: Site, node: Node, arguments: dict[str, Any], keep: Sequence[str]
) -> Sequence[Dims]:
    """Label the results of a call."""
    inputs = [layout for dims in tensors_in(arguments) for layout in dims]
    function = _rule(site.operation, node)
    if is_kept(site.path, keep):
        for layout in inputs:
            mark_whole(layout)
    elif not all(map(is_whole, inputs)) or site.operation in MAKERS:
        problem = "is an operation without a rule for cut dimensions"
        if function is not None:
            try:
                results = function(site, **arguments)
                return [results] if isinstance(results, Dims) else results
            except (IndexError, KeyError, TypeError, ValueError):
                problem = "is used in a way that its rule for cut dimensions does not know"
        return [Dims(site.bar(inputs, n, problem) for n in shape) for shape in site.shapes]
    return [uncut(shape) for shape in site.shapes]


def _rule(operation: str, node: Node) -> Rule | None:
    """Find the rule of an operation; what changes a tensor in place shares it."""
    if operation.endswith("_") and not operation.startswith("__"):
        operation = operation.removesuffix("_")
    if operation not in RULES and torch.Tag.pointwise in called(node).tags:
        operation = "pointwise"
    return RULES.get(operation)
