"""Axes: what the dimensions of all tensors are made of, and which of them are the same.

A dimension is described by a *layout*: a sum (concatenation) of products (one index inside another)
of atomic *axes*. A fused query-key-value projection of 4 heads of 16 is the product 3 x 4 x 16, two
concatenated feature maps are the sum 24 + 12. Axes start as whole dimensions; they are merged where
an operation makes two dimensions the same, and taken apart where it looks inside one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import sympy

Size: TypeAlias = Any
"""A number of entries: an int, or a sympy expression where it depends on batch or time."""


class MismatchError(Exception):
    """Two layouts of one size cannot be brought together."""


@dataclass(eq=False)
class Axis:
    """An atomic axis.

    Parameters
    ----------
    size : int or sympy expression
        Number of entries.
    whole : bool
        Belongs to the data, the output or a kept part, so it is never cut.
    inner : bool
        Part of a larger unit, or a count of copies, so it is never cut itself.
    refusal : str, optional
        Why an operation forbids to cut it.
    copies : bool
        Its entries are alike; it is cut only where it meets an axis that is cut.
    derived : bool
        Made by an operation of an axis that must not be cut: whole once that one is.
    becomes : Layout, optional
        The layout that has taken the place of this axis.
    """

    size: Size
    whole: bool = False
    inner: bool = False
    refusal: str | None = None
    copies: bool = False
    derived: bool = False
    becomes: Layout | None = None

    @property
    def free(self) -> bool:
        """Whether it may be cut."""
        return not (self.whole or self.inner or self.copies or self.refusal)


Product = tuple[Axis, ...]
Layout = tuple[Product, ...]

ONE: Layout = ((),)
"""The layout of a dimension of size 1."""


def dimension(size: Size, *, whole: bool = False, inner: bool = False) -> Layout:
    """Make a dimension of one new axis."""
    return ONE if size == 1 else ((Axis(size, whole, inner),),)


def divides(part: Size, total: Size) -> bool:
    """Whether a size is a divisor of another one, whatever batch and time are."""
    if isinstance(part, int) and isinstance(total, int):
        return total % part == 0
    quotient = sympy.cancel(sympy.sympify(total) / part)
    return bool(sympy.denom(quotient) == 1)


def quotient(total: Size, part: Size) -> Size:
    """Divide one size by a divisor of it."""
    if isinstance(part, int) and isinstance(total, int):
        return total // part
    return simple(sympy.cancel(sympy.sympify(total) / part))


def simple(size: Size) -> Size:
    """Turn an expression without symbols into an integer."""
    return int(size) if isinstance(size, int) or size.is_Integer else size


def size_of(layout: Layout) -> Size:
    """Count the entries of a layout."""
    return simple(sum((product_size(product) for product in layout), start=0))


def product_size(product: Product) -> Size:
    """Count the entries of a product."""
    size: Size = 1
    for axis in product:
        size = size * axis.size
    return simple(size)


def axes_of(layout: Layout) -> Iterator[Axis]:
    """List the atomic axes that a layout is made of by now."""
    for product in resolve(layout):
        yield from product


def has_free(layout: Layout) -> bool:
    """Whether any part of a layout may be cut."""
    return any(axis.free for axis in axes_of(layout))


def multiply(outer: Layout, inner: Layout) -> Layout:
    """Lay out one dimension inside another: entry (i, j) is at i * size(inner) + j.

    A sum that would have to be repeated a number of times that varies is never cut.
    """
    products: list[Product] = []
    for product in outer:
        if len(inner) == 1:
            products.append(product + inner[0])
            continue
        times = product_size(product)
        for axis in product:
            axis.inner = True
        if isinstance(times, int):
            products += inner * times
        else:
            for axis in (axis for term in inner for axis in term):
                axis.whole = True
            products.append((Axis(simple(times * size_of(inner)), whole=True),))
    return tuple(products)


def resolve(layout: Sequence[Product]) -> Layout:
    """Rewrite a layout in the axes that have taken the place of its own."""
    products: list[Product] = []
    for product in layout:
        expanded: Layout = ONE
        for axis in product:
            part = ((axis,),) if axis.becomes is None else resolve(axis.becomes)
            expanded = multiply(expanded, part)
        products += expanded
    return _join_uncut(products)


def _first(rest: list[Axis]) -> Axis:
    """Take the first atomic axis off a list of which some may have been replaced."""
    while rest[0].becomes is not None:
        layout = resolve(((rest[0],),))
        if len(layout) != 1:
            raise MismatchError
        rest[:1] = layout[0]
    return rest.pop(0)


def _join_uncut(products: Sequence[Product]) -> Layout:
    """Write equal terms as a product, and neighbouring ones that are never cut as one axis."""
    if len(products) == 1:
        return tuple(products)
    if len(products) > 1 and len(set(products)) == 1:  # Copies of one thing.
        return ((Axis(len(products), inner=True), *products[0]),)
    joined: list[Product] = []
    for product in products:
        whole = all(axis.whole for axis in product)
        if whole and joined and all(axis.whole for axis in joined[-1]):
            total = simple(product_size(joined[-1]) + product_size(product))
            joined[-1] = (Axis(total, whole=True),)
        else:
            joined.append(product)
    return tuple(joined)


def is_whole(layout: Layout) -> bool:
    """Whether all of a layout belongs to the data, the output or a kept part."""
    return all(axis.whole for axis in axes_of(layout))


def mark_whole(layout: Layout) -> None:
    """Never cut a layout."""
    for axis in axes_of(layout):
        axis.whole = True


def mark_inner(layout: Layout) -> None:
    """Make a layout a part of larger units."""
    for axis in axes_of(layout):
        axis.inner = True


def refuse(layout: Layout, reason: str) -> None:
    """Never cut a layout, because of an operation."""
    for axis in axes_of(layout):
        axis.refusal = axis.refusal or reason


def unify(left: Layout, right: Layout) -> None:
    """Make two layouts of one size the same.

    Raises
    ------
    MismatchError
        If no common layout is found.
    """
    left, right = resolve(left), resolve(right)
    if left == right:
        return
    if is_whole(left) and is_whole(right):
        return
    if len(left) == 1 and len(left[0]) == 1:
        substitute(left[0][0], right)
    elif len(right) == 1 and len(right[0]) == 1:
        substitute(right[0][0], left)
    elif len(left) == 1 and len(right) == 1:
        _unify_products(left[0], right[0])
    elif len(left) == 1:
        _unify_product_with_sum(left[0], right)
    elif len(right) == 1:
        _unify_product_with_sum(right[0], left)
    else:
        _unify_sums(list(left), list(right))


def substitute(axis: Axis, layout: Layout) -> None:
    """Put a layout in the place of an axis; what is known of the axis holds for its parts.

    Raises
    ------
    MismatchError
        If the sizes differ, or the axis is a part of the layout.
    """
    parts = [part for product in layout for part in product]
    if axis in parts or axis.size != size_of(layout):
        raise MismatchError
    if axis.whole:
        mark_whole(layout)
    if len(parts) == 1:
        parts[0].inner = parts[0].inner or axis.inner
        parts[0].copies = parts[0].copies and axis.copies
    elif axis.inner:
        mark_inner(layout)
    if axis.refusal:
        refuse(layout, axis.refusal)
    for part in parts:
        part.derived = part.derived or axis.derived
    if len(layout) > 1 and not axis.copies:  # What zeros are added to is no longer alike.
        for part in (product[0] for product in layout if len(product) == 1):
            part.copies = False
    axis.becomes = layout


def split(axis: Axis, outer: Size) -> tuple[Axis, Axis]:
    """Take an axis apart into one of a given size and one inside of it."""
    parts = Axis(outer), Axis(quotient(axis.size, outer))
    substitute(axis, (parts,))
    return parts


def _unify_products(left: Product, right: Product) -> None:
    rest = [list(left), list(right)]
    while rest[0] and rest[1]:
        first, second = _first(rest[0]), _first(rest[1])
        if first is second:
            continue
        if first.size == second.size:
            unify(((first,),), ((second,),))
        elif divides(first.size, second.size):
            outer, inner = split(second, first.size)
            rest[0].insert(0, first)
            rest[1][:0] = [outer, inner]
        elif divides(second.size, first.size):
            outer, inner = split(first, second.size)
            rest[0][:0] = [outer, inner]
            rest[1].insert(0, second)
        else:
            raise MismatchError
    if rest[0] or rest[1]:
        raise MismatchError


def _unify_product_with_sum(product: Product, terms: Layout) -> None:
    """A x T = B1 + B2 + ...: each term has the inner part T, and A is the sum of what is left."""
    inner = product[1:]
    size = product_size(inner)
    heads: list[Product] = []
    for term in terms:
        if not divides(size, product_size(term)):
            raise MismatchError
        outer, part = take([(term,)], [quotient(product_size(term), size), size])
        unify(part, (inner,))
        heads += outer
    unify(((product[0],),), tuple(heads))


def _unify_sums(left: list[Product], right: list[Product]) -> None:
    while left and right:
        left[:1], right[:1] = resolve(left[:1]), resolve(right[:1])
        first, second = left.pop(0), right.pop(0)
        if product_size(first) == product_size(second):
            unify((first,), (second,))
            continue
        long, terms, short = (
            (first, left, second)
            if _shorter(product_size(second), product_size(first))
            else (second, right, first)
        )
        if len(long) != 1:
            raise MismatchError
        parts = Axis(product_size(short)), Axis(simple(long[0].size - product_size(short)))
        substitute(long[0], tuple((part,) for part in parts))
        unify((short,), ((parts[0],),))
        terms.insert(0, (parts[1],))
    if left or right:
        raise MismatchError


def _shorter(first: Size, second: Size) -> bool:
    if not (isinstance(first, int) and isinstance(second, int)):
        raise MismatchError
    return first < second


def take(layouts: Sequence[Layout], sizes: Sequence[Size]) -> list[Layout]:
    """Regroup the entries of some dimensions, read one after another, into others (a view).

    Raises
    ------
    MismatchError
        If a dimension to come would mix parts of several axes.
    """
    sources = [resolve(layout) for layout in layouts]
    targets = list(sizes)
    results: list[Layout] = []
    while targets or sources:
        chunk, wanted = _matching_chunk(sources, targets)
        results += _regroup(chunk, wanted)
    return results


def _matching_chunk(sources: list[Layout], targets: list[Size]) -> tuple[list[Layout], list[Size]]:
    """Take the fewest dimensions off both lists that hold equally many entries."""
    chunk, wanted = ([sources.pop(0)] if sources else []), ([targets.pop(0)] if targets else [])
    while (have := _total(map(size_of, chunk))) != (want := _total(wanted)):
        if sources and (divides(have, want) or not targets):
            chunk.append(sources.pop(0))
        elif targets:
            wanted.append(targets.pop(0))
        else:
            raise MismatchError
    return chunk, wanted


def _total(sizes: Iterator[Size] | Sequence[Size]) -> Size:
    total: Size = 1
    for size in sizes:
        total = total * size
    return simple(total)


def _regroup(chunk: list[Layout], wanted: list[Size]) -> list[Layout]:
    if all(is_whole(layout) for layout in chunk):
        return [dimension(size, whole=True) for size in wanted]
    everything: Layout = ONE
    for layout in chunk:
        everything = multiply(everything, layout)
    if sum(size != 1 for size in wanted) == 1:
        return [ONE if size == 1 else everything for size in wanted]
    if len(everything) != 1:
        raise MismatchError
    axes = list(everything[0])
    return [_take_axes(axes, size) for size in wanted]


def _take_axes(axes: list[Axis], size: Size) -> Layout:
    """Take axes off the front that make up a size; the last one is taken apart if need be."""
    taken: list[Axis] = []
    while size != 1:
        if not axes:
            raise MismatchError
        axis = axes.pop(0)
        if axis.size != size and not divides(axis.size, size):
            if not divides(size, axis.size):
                raise MismatchError
            axis, inner = split(axis, size)
            axes.insert(0, inner)
        taken.append(axis)
        size = quotient(size, axis.size)
    return (tuple(taken),)
