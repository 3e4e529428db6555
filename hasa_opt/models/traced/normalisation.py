"""Normalisations that are written out: which means are taken of units only to normalise them.

A layer normalisation runs over the units that are kept. Written out, it is a mean of squares (or a
variance) whose root divides what it was taken of, and a mean that is subtracted from what it was
taken of. A mean that goes anywhere else is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from numbers import Real

from torch.fx import Node

from hasa_opt.models.traced.stand_ins import operation_name

__all__ = ["statistics"]

_CASTS = {"to", "_to_copy", "type_as", "contiguous", "alias", "clone"}
_SPREADS = {"var", "std"}
_STEPS = {"add", "clamp", "clamp_min", "reciprocal"}
_ROOTS = {"sqrt", "rsqrt"}


def statistics(nodes: Sequence[Node]) -> set[Node]:
    """Find the calls that take a mean or a spread of units to normalise them.

    Parameters
    ----------
    nodes : sequence of torch.fx.Node
        All calls of a module.
    """
    known = set(nodes)
    return {node for node in nodes if _is_statistic(node, known)}


def _is_statistic(node: Node, nodes: Set[Node]) -> bool:
    name = operation_name(node)
    if name not in _SPREADS | {"mean"} or not _keeps_dimensions(node):
        return False
    source = node.all_input_nodes[0]
    if name in _SPREADS:
        return _only_divides(node, _base(source), nodes, rooted=name == "std")
    square = _squared(source)
    if square is not None:
        return _only_divides(node, _base(square), nodes, rooted=False)
    return _is_only_subtracted(node, _base(source), nodes)


def _keeps_dimensions(node: Node) -> bool:
    """Whether a reduction over named dimensions leaves them with the size 1."""
    names = [argument.name for argument in node.target._schema.arguments]  # type: ignore[union-attr]
    arguments = dict(zip(names, node.args, strict=False)) | node.kwargs
    return bool(arguments.get("keepdim")) and bool(arguments.get("dim"))


def _operands(node: Node) -> tuple[object, object]:
    """The two operands of a binary operation."""
    first, second, *_ = (*node.args, *node.kwargs.values(), None)
    return first, second


def _squared(node: Node) -> Node | None:
    """What a call squares, if it does."""
    node = _uncast(node)
    first, second = _operands(node)
    name = operation_name(node).removesuffix("_")
    if (name == "pow" and second == 2) or (name == "mul" and first is second) or name == "square":
        return first if isinstance(first, Node) else None
    return None


def _uncast(node: Node) -> Node:
    """What a tensor is but for its type."""
    while node.op == "call_function" and operation_name(node) in _CASTS:
        node = node.all_input_nodes[0]
    return node


def _base(node: Node) -> Node:
    """What a tensor is but for its type, before its mean is subtracted from it."""
    node = _uncast(node)
    if node.op == "call_function" and operation_name(node) in ("sub", "sub_"):
        first, second = _operands(node)
        if isinstance(first, Node) and isinstance(second, Node):
            mean, base = _uncast(second), _base(first)
            if operation_name(mean) == "mean" and _base(mean.all_input_nodes[0]) is base:
                return base
    return node


def _users(node: Node, nodes: Set[Node]) -> Iterator[Node]:
    """What reads a result, other than casts of it."""
    for user in node.users:
        if user in nodes:
            if operation_name(user) in _CASTS:
                yield from _users(user, nodes)
            else:
                yield user


def _is_only_subtracted(node: Node, base: Node, nodes: Set[Node]) -> bool:
    """Whether a mean is subtracted from what it was taken of, and read by nothing else."""
    users = list(_users(node, nodes))
    return bool(users) and all(
        operation_name(user) == "sub"
        and isinstance(first := _operands(user)[0], Node)
        and _base(user) is base
        and _base(first) is base
        for user in users
    )


def _only_divides(node: Node, base: Node, nodes: Set[Node], *, rooted: bool) -> bool:
    """Whether nothing but the root of a spread is used, and it scales what it was taken of."""
    users = list(_users(node, nodes))
    return bool(users) and all(_divides(user, base, nodes, rooted=rooted) for user in users)


def _divides(node: Node, base: Node, nodes: Set[Node], *, rooted: bool) -> bool:
    name, (first, second) = operation_name(node).removesuffix("_"), _operands(node)
    if len(node.all_input_nodes) == 1:
        if name in _ROOTS or (name == "pow" and second in (0.5, -0.5)):
            return not rooted and _only_divides(node, base, nodes, rooted=True)
        plain = name in _STEPS and all(
            arg is None or isinstance(arg, Real) for arg in node.args[1:]
        )
        return plain and _only_divides(node, base, nodes, rooted=rooted)
    scaled = [
        operand
        for operand in (first, second)
        if isinstance(operand, Node) and _base(operand) is base
    ]
    return (
        rooted and name in ("mul", "div") and bool(scaled) and (name == "mul" or scaled[0] is first)
    )
