"""Rules of operations that rearrange, join and take apart dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

from hasa_opt.models.traced.axes import (
    ONE,
    Axis,
    Layout,
    MismatchError,
    Size,
    dimension,
    is_whole,
    mark_inner,
    mark_whole,
    multiply,
    product_size,
    quotient,
    resolve,
    size_of,
    substitute,
    take,
)
from hasa_opt.models.traced.labels import Dims, Site, rule, uncut

PICKS = "picks single entries of a dimension"


@rule("view", "reshape", "_unsafe_view", "view_copy", "flatten", "unflatten")
def view(site: Site, self: Dims, dim: int = 0, **arguments: Any) -> Dims:
    """Regroup the entries, read in order, into other dimensions."""
    results = site.attempt(
        lambda: Dims(take(self, site.shape)), self, "mixes parts of several dimensions"
    )
    if site.operation == "unflatten":
        first = dim % len(self)
        site.resized["sizes"] = results[first : first + len(arguments["sizes"])]
    elif site.operation != "flatten":
        site.resized["shape" if "shape" in arguments else "size"] = list(results)
    return results


@rule("permute")
def permute(site: Site, self: Dims, dims: Sequence[int]) -> Dims:
    """Reorder dimensions."""
    return Dims(self[dim] for dim in dims)


@rule("transpose", "swapaxes", "swapdims")
def transpose(site: Site, self: Dims, **arguments: int) -> Dims:
    """Exchange two dimensions."""
    first, second = arguments.values()
    results = Dims(self)
    results[first], results[second] = self[second], self[first]
    return results


@rule("t", "numpy_T", "mT")
def exchange(site: Site, self: Dims) -> Dims:
    """Exchange the last two dimensions."""
    return Dims([*self[:-2], *self[:-3:-1]])


@rule("movedim")
def movedim(site: Site, self: Dims, source: Any, destination: Any) -> Dims:
    """Move dimensions to other places."""
    sources = [source] if isinstance(source, int) else source
    places = [destination] if isinstance(destination, int) else destination
    moved = {p % len(self): s % len(self) for s, p in zip(sources, places, strict=True)}
    others = iter([i for i in range(len(self)) if i not in moved.values()])
    return Dims(self[moved[i] if i in moved else next(others)] for i in range(len(self)))


@rule("pad", "constant_pad_nd")
def pad(
    site: Site, self: Dims, pad: Sequence[Any], mode: str = "constant", value: Any = None
) -> Dims:
    """Put zeros before and behind the units, which are cut as what they are added to."""
    results, counts = Dims(self), [ONE] * len(pad)
    zeros = mode == "constant" and not value
    for number in range(len(pad) // 2):
        dim, places = len(self) - 1 - number, (2 * number, 2 * number + 1)
        before, behind = (pad[place] for place in places)
        known = all(isinstance(entries, int) and entries >= 0 for entries in (before, behind))
        if (before, behind) == (0, 0):
            continue
        if not (known and zeros) or is_whole(self[dim]):
            problem = "reads neighbouring entries of a dimension"
            results[dim] = site.bar([self[dim]], site.shape[dim], problem)
            continue
        added = [((Axis(n, copies=True),),) if n else () for n in (before, behind)]
        results[dim] = added[0] + self[dim] + added[1]
        for place, layout in zip(places, added, strict=True):
            counts[place] = layout or ONE
    site.resized["pad"] = counts
    return results


@rule("pixel_shuffle")
def pixel_shuffle(site: Site, self: Dims, upscale_factor: int) -> Dims:
    """Make pixels of the channels: those of one are the parts of a larger unit."""
    return _between_channels_and_pixels(site, self, dimension(upscale_factor**2, inner=True), ONE)


@rule("pixel_unshuffle")
def pixel_unshuffle(site: Site, self: Dims, downscale_factor: int) -> Dims:
    """Make channels of the pixels."""
    return _between_channels_and_pixels(site, self, ONE, dimension(downscale_factor**2, inner=True))


def _between_channels_and_pixels(site: Site, self: Dims, before: Layout, after: Layout) -> Dims:
    """Lay out the channels, of which so many entries before are so many entries after."""
    for layout in self[-2:]:
        site.refuse(layout, "reads neighbouring entries of a dimension")
    channels = dimension(quotient(size_of(self[-3]), size_of(before)))
    site.join(self[-3], multiply(channels, before))
    return Dims([*self[:-3], multiply(channels, after), *uncut(site.shape[-2:])])


@rule("channel_shuffle")
def channel_shuffle(site: Site, self: Dims, groups: int) -> Dims:
    """Exchange groups and members of the channels."""
    count, members = dimension(groups), dimension(quotient(size_of(self[1]), groups))
    site.join(self[1], multiply(count, members))
    site.resized["groups"] = [count]
    return Dims([self[0], multiply(members, count), *self[2:]])


@rule("unsqueeze")
def unsqueeze(site: Site, self: Dims, dim: int) -> Dims:
    """Add a dimension of size 1."""
    results = Dims(self)
    results.insert(dim % (len(self) + 1), ONE)
    return results


@rule("squeeze")
def squeeze(site: Site, self: Dims, dim: Any = None) -> Dims:
    """Remove dimensions of size 1."""
    chosen = range(len(self)) if dim is None else dim if isinstance(dim, (list, tuple)) else [dim]
    gone = {d % len(self) for d in chosen if size_of(self[d]) == 1}
    return Dims(layout for i, layout in enumerate(self) if i not in gone)


@rule("repeat")
def repeat(site: Site, self: Dims, repeats: Sequence[Any]) -> Dims:
    """Put copies of each dimension one after another."""
    sources = [ONE] * (len(repeats) - len(self)) + list(self)
    results, counts = Dims(), []
    for layout, times, size in zip(sources, repeats, site.shape, strict=True):
        counts.append(_count_of_copies(layout, times))
        if isinstance(times, int):
            results.append(multiply(counts[-1], layout))
        else:
            results.append(
                site.bar([layout], size, "repeats a dimension a varying number of times")
            )
    site.resized["repeats"] = counts
    return results


@rule("repeat_interleave")
def repeat_interleave(site: Site, self: Dims, dim: int | None = None, **arguments: Any) -> Dims:
    """Put copies of each entry one after another."""
    repeats = arguments["repeats"]
    if dim is None or not isinstance(repeats, int):
        return Dims(site.bar(self, size, PICKS) for size in site.shape)
    results = Dims(self)
    count = _count_of_copies(self[dim], repeats)
    results[dim] = multiply(self[dim], count)
    site.resized["repeats"] = [count]
    return results


def _count_of_copies(layout: Layout, times: Any) -> Layout:
    """Lay out the copies of a dimension; those of data take part in whatever cut they meet."""
    if not isinstance(times, int) or times == 1:
        return ONE
    return ((Axis(times, inner=not is_whole(layout), copies=True),),)


@rule("cat", "concatenate", "concat")
def cat(site: Site, tensors: Sequence[Dims], dim: int = 0) -> Dims:
    """Add up one dimension and couple the others."""
    place = dim % len(site.shape)
    results = Dims()
    for position in range(len(site.shape)):
        # An empty tensor of one dimension goes with everything.
        layouts = [dims[position] for dims in tensors if len(dims) == len(site.shape)]
        if position == place:
            results.append(tuple(product for layout in layouts for product in resolve(layout)))
            continue
        for layout in layouts[1:]:
            site.join(layouts[0], layout)
        results.append(layouts[0])
    return results


@rule("stack")
def stack(site: Site, tensors: Sequence[Dims], dim: int = 0) -> Dims:
    """Couple all dimensions and count the tensors in a new one."""
    for dims in tensors[1:]:
        for first, other in zip(tensors[0], dims, strict=True):
            site.join(first, other)
    results = Dims(tensors[0])
    results.insert(dim % len(site.shape), dimension(len(tensors), inner=True))
    return results


@rule("select")
def select(site: Site, self: Dims, dim: int, index: Any) -> Dims:
    """Pick one entry of a dimension, which then cannot be cut."""
    site.refuse(self[dim], PICKS)
    return Dims(layout for i, layout in enumerate(self) if i != dim % len(self))


@rule("unbind")
def unbind(site: Site, self: Dims, dim: int = 0) -> list[Dims]:
    """Pick every entry of a dimension."""
    return [select(site, self, dim, index) for index in range(len(site.shapes))]


@rule("index_select")
def index_select(site: Site, self: Dims, dim: int, index: Dims) -> Dims:
    """Pick some entries of a dimension, which then cannot be cut."""
    results = Dims(self)
    results[dim] = site.bar([self[dim]], site.shape[dim], PICKS)
    return results


@rule("index")
def index(site: Site, self: Dims, indices: Sequence[Dims | None]) -> Dims:
    """Pick entries by index tensors; the dimensions before and after them stay what they are."""
    places = [position for position, picked in enumerate(indices) if picked is not None]
    first, last = places[0], places[-1]
    for position, layout in enumerate(self):
        if position in places or len(places) != last - first + 1:
            site.refuse(layout, PICKS)
    if len(places) != last - first + 1:
        return uncut(site.shape)
    if len(places) == 1 and len(indices[first] or []) == 1:
        results = Dims(self)
        results[first] = site.bar([self[first]], site.shape[first], PICKS)
        return results
    after = self[last + 1 :]
    n_picked = len(site.shape) - first - len(after)
    return Dims([*self[:first], *uncut(site.shape[first : first + n_picked]), *after])


@rule("slice", "narrow")
def slice_(
    site: Site, self: Dims, dim: int = 0, start: Any = None, end: Any = None, **arguments: Any
) -> Dims:
    """Take a run of entries: whole copies or whole terms of the dimension, or it cannot be cut."""
    results, layout = Dims(self), self[dim]
    size, length, first = size_of(layout), site.shape[dim], start or 0
    if length == size and arguments.get("step", 1) == 1:
        return results
    try:
        if is_whole(layout) or site.operation != "slice" or arguments.get("step", 1) != 1:
            raise MismatchError
        first = first + size if first < 0 else first
        before, results[dim], _ = _cut_off(layout, [first, length, size - first - length])
        site.resized |= {"start": [before], "end": [before + results[dim]]}
    except MismatchError:
        if not isinstance(length, int):
            mark_whole(layout)  # As long as the sequence: a table of positions.
        results[dim] = site.bar([layout], length, PICKS)
    return results


def _cut_off(layout: Layout, lengths: Sequence[Size]) -> list[Layout]:
    """Take a dimension apart into consecutive runs.

    Raises
    ------
    MismatchError
        If they end neither with the terms of a sum nor with the copies of a product.
    """
    terms = resolve(layout)
    if any(not isinstance(length, int) or length < 0 for length in lengths):
        raise MismatchError
    ends = list(accumulate(map(product_size, terms), initial=0))
    borders = list(accumulate(lengths, initial=0))
    if set(borders) <= set(ends):
        places = [ends.index(border) for border in borders[:-1]] + [len(terms)]
        return [terms[a:b] for a, b in pairwise(places)]
    if len(terms) != 1:
        raise MismatchError
    part = min(length for length in lengths if length)
    if part == 1 or any(length % part for length in lengths):
        raise MismatchError
    copies, run = take([layout], [product_size(terms[0]) // part, part])
    mark_inner(copies)
    return [run * (length // part) for length in lengths]


@rule("split", "split_with_sizes", "chunk")
def split_(site: Site, self: Dims, dim: int = 0, **arguments: Any) -> list[Dims]:
    """Take a dimension apart into consecutive parts."""
    layout = self[dim]
    lengths = [shape[dim] for shape in site.shapes]
    try:
        parts = _parts(layout, lengths)
        ((name, length),) = arguments.items()
        by_number = isinstance(length, int)
        if by_number and len(set(map(resolve, parts))) > 1:
            raise MismatchError
        if name != "chunks":
            site.resized[name] = parts[:1] if by_number else parts
    except MismatchError:
        problem = "splits a dimension into parts of different kinds"
        parts = [site.bar([layout], length, problem) for length in lengths]
    results = [Dims(self) for _ in parts]
    for dims, part in zip(results, parts, strict=True):
        dims[dim] = part
    return results


def _parts(layout: Layout, lengths: Sequence[Size]) -> list[Layout]:
    """Take a dimension apart; parts of different sizes become axes of their own."""
    if is_whole(layout):
        return [dimension(length, whole=True) for length in lengths]
    terms = resolve(layout)
    unequal = len(set(lengths)) > 1
    if unequal and len(terms) == 1 and len(terms[0]) == 1:
        axes = [Axis(length) for length in lengths]
        substitute(terms[0][0], tuple((axis,) for axis in axes))
        return [((axis,),) for axis in axes]
    return _cut_off(layout, lengths)


@rule("glu")
def glu(site: Site, self: Dims, dim: int = -1) -> Dims:
    """Gate one half of a dimension by the other."""
    results = Dims(self)
    try:
        results[dim], gate = _cut_off(self[dim], [site.shape[dim]] * 2)
        site.join(results[dim], gate)
    except MismatchError:
        results[dim] = site.bar([self[dim]], site.shape[dim], PICKS)
    return results
