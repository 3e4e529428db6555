"""Groups: which axes are cut, and what that means for the tensors of a module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import networkx as nx

from hasa_opt.errors import InputError
from hasa_opt.models.cuts import Cut, Segments
from hasa_opt.models.traced.axes import Axis, Layout, MismatchError, Product, product_size, resolve
from hasa_opt.models.traced.labels import Labels

__all__ = ["Groups", "Length", "cut_of", "find_groups", "length_of"]


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
    whole : dict of str to str
        Parameters that an operation leaves at full width in some dimension -> why.
    """

    names: dict[Axis, str]
    sizes: dict[str, int]
    cuts: dict[str, tuple[Cut | Segments | None, ...]]
    whole: dict[str, str]


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
        If nothing is left to cut.
    """
    coupling = _coupling(labels, parameters)
    for place in [node for node in coupling if not isinstance(node, Axis)]:
        _choose_one(place)
    whole = _blocked(coupling)
    names: dict[Axis, str] = {}
    for axis in (node for node in coupling if isinstance(node, Axis) and node.free):
        first = min(coupling[axis], key=lambda place: place.order)
        names[axis] = _unused_name(first.tensor, set(names.values()))
    if not names and not whole:
        raise InputError(
            "nothing is left to cut: every dimension belongs to the input, the output or a part in "
            "keep; leave less at full width"
        )
    sizes = {name: int(axis.size) for axis, name in names.items()}
    cuts = {
        tensor: tuple(cut_of(layout, names) for layout in dims)
        for tensor, dims in labels.tensors.items()
    }
    return Groups(names, sizes, cuts, whole)


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
        else:
            axis.inner = True


def _blocked(coupling: nx.Graph) -> dict[str, str]:
    """List the parameters that an operation forbids to cut, which could be cut otherwise."""
    makers: dict[Axis, str] = {}
    for place in (node for node in coupling if not isinstance(node, Axis)):
        if not any(axis.free or axis.whole for axis in place.product):
            for axis in place.product:
                if axis.refusal and not _is_part(axis, coupling):
                    makers.setdefault(axis, place.tensor)
    makers = {a: tensor for a, tensor in makers.items() if not a.derived} or makers
    reasons: dict[str, str] = {}
    for axis, tensor in makers.items():
        reasons.setdefault(tensor, str(axis.refusal))
    return reasons


def _is_part(axis: Axis, coupling: nx.Graph) -> bool:
    """Whether an axis is a part of larger units that are cut, such as the entries of a head."""
    return axis.inner and any(a.free for place in coupling[axis] for a in place.product)


def _unused_name(tensor: str, taken: set[str]) -> str:
    """Name a group after the module that makes it, or after the tensor."""
    module = tensor.rpartition(".")[0] or tensor
    numbered = (f"{tensor}.{number}" for number in range(1, len(taken) + 2))
    return next(name for name in chain([module, tensor], numbered) if name not in taken)


def cut_of(layout: Layout, names: dict[Axis, str]) -> Cut | Segments | None:
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
