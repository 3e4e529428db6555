"""Rules of the operations behind torch's layers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from hasa_opt.models.traced.axes import (
    ONE,
    Axis,
    Layout,
    dimension,
    has_free,
    mark_inner,
    mark_whole,
    multiply,
    quotient,
    size_of,
)
from hasa_opt.models.traced.labels import Dims, Site, rule, tensors_in, uncut

REDUCTION = "mixes all entries of a dimension"


@rule(
    "pointwise", "copy",
    "hardswish", "__and__", "__or__", "__xor__", "zeros_like", "ones_like", "full_like",
    "empty_like", "rand_like", "randn_like", "normal", "bernoulli", "uniform", "zero", "fill",
    "relu6", "expand_as", "rsub", "where",
)  # fmt: skip
def pointwise(site: Site, **arguments: Any) -> Dims:
    """Couple the operands dimension by dimension; entries of size 1 are broadcast."""
    return broadcast(site, tensors_in(arguments), len(site.shape))


@rule(
    "dropout", "feature_dropout", "alpha_dropout", "to", "type_as", "contiguous", "detach",
    "alias", "lift_fresh_copy", "detach_copy",
)  # fmt: skip
def alone(site: Site, self: Dims | None = None, input: Dims | None = None, **_: Any) -> Dims:
    """Work on one tensor; others lend their type alone."""
    return self if self is not None else input or Dims()


def broadcast(site: Site, operands: list[Dims], n_dims: int) -> Dims:
    """Couple the last dimensions of some tensors."""
    results = Dims()
    for position in range(-n_dims, 0):
        layouts = [dims[position] for dims in operands if len(dims) >= -position]
        layouts = [layout for layout in layouts if size_of(layout) != 1] or [ONE]
        for layout in layouts[1:]:
            site.join(layouts[0], layout)
        results.append(layouts[0])
    return results


@rule("prelu")
def prelu(site: Site, self: Dims, weight: Dims) -> Dims:
    """Couple the slopes with the channels, unless there is but one."""
    if weight and size_of(weight[0]) != 1:
        site.join(weight[0], self[1])
    return self


@rule("zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_full", "new_empty", "expand")
def uniform(site: Site, **arguments: Any) -> Dims:
    """Repeat one number, or a tensor along new dimensions: all entries are alike.

    So a dimension of a fixed size takes part in whatever cut it meets.
    """
    source = arguments["self"] if site.operation == "expand" else []
    missing = len(site.shape) - len(source)
    results = Dims()
    for position, size in enumerate(site.shape):
        copied = source[position - missing] if position >= missing else ONE
        if size_of(copied) == size:
            results.append(copied)
        elif isinstance(size, int):
            results.append(((Axis(size, copies=True),),))
        else:
            results.append(dimension(size, whole=True))
    site.resized["size"] = list(results)
    return results


@rule("arange", "eye", "linspace", "scalar_tensor", "rand", "randn", "randint", "randperm")
def made_of_numbers(site: Site, **arguments: Any) -> Dims:
    """Refuse to cut what is computed from fixed sizes; sizes of batch and time are data."""
    results = uncut(site.shape)
    for position, size in enumerate(site.shape):
        if isinstance(size, int) and size != 1:
            results[position] = ((Axis(size),),)
            site.refuse(results[position], "makes a tensor of a fixed size")
    return results


def _positions(dims: Dims, dim: Any) -> set[int]:
    """Positions of the dimensions that an argument names; all if it names none."""
    if dim is None or dim == []:
        return set(range(len(dims)))
    return {d % len(dims) for d in (dim if isinstance(dim, (list, tuple)) else [dim])}


def _only(dims: Dims, positions: Collection[int]) -> list[Layout]:
    """The dimensions at some positions; none of the others is cut."""
    return [layout if place in positions else ONE for place, layout in enumerate(dims)]


def _remaining(site: Site, dims: Dims, reduced: set[int], keepdim: bool) -> Dims:
    if keepdim:
        return Dims(ONE if i in reduced else layout for i, layout in enumerate(dims))
    return Dims(layout for i, layout in enumerate(dims) if i not in reduced)


@rule("sum")
def total(site: Site, self: Dims, dim: Any = None, keepdim: bool = False, **arguments: Any) -> Dims:
    """Sum over dimensions: a dropped unit adds nothing."""
    return _remaining(site, self, _positions(self, dim), keepdim)


@rule("norm", "linalg_vector_norm")
def length(site: Site, self: Dims, dim: Any = None, keepdim: bool = False, **order: Any) -> Dims:
    """Take a length over dimensions: a dropped unit adds nothing if the order is positive.

    One that gets no gradient is a part of an estimate that goes on while it is trained, such as the
    singular vectors of a spectral norm: those of different subnets do not make up one.
    """
    reduced = _positions(self, dim)
    given = order.get("ord", order.get("p"))
    if not site.records_gradients or (given is not None and not given > 0):
        for position in reduced:
            site.refuse(self[position], REDUCTION)
    return _remaining(site, self, reduced, keepdim)


@rule(
    "mean", "var", "std", "var_mean", "std_mean", "amax", "amin", "max", "min", "argmax", "argmin",
    "logsumexp", "prod", "any", "all", "median",
)  # fmt: skip
def reduction(
    site: Site, self: Dims, dim: Any = None, keepdim: bool = False, **arguments: Any
) -> list[Dims]:
    """Refuse to cut what is reduced: a dropped unit would change the result."""
    if site.operation in ("max", "min") and "other" in arguments:
        return [broadcast(site, [self, arguments["other"]], len(site.shape))]
    reduced = _positions(self, dim)
    counts = [size_of(self[position]) for position in reduced]
    if site.takes_statistics and all(isinstance(count, int) for count in counts):
        site.normalised["self"] = _only(self, reduced)
    else:
        for position in reduced:
            site.refuse(self[position], REDUCTION)
    return [_remaining(site, self, reduced, keepdim) for _ in site.shapes]


@rule("_weight_norm")
def weight_norm(site: Site, v: Dims, g: Dims, dim: int = 0) -> Dims:
    """Scale each entry of one dimension by the norm over all others, which then stay whole."""
    for position, (layout, scale) in enumerate(zip(v, g, strict=True)):
        if position != dim % len(v):
            site.refuse(layout, REDUCTION)
        elif size_of(scale) != 1:
            site.join(layout, scale)
    return v


@rule("softmax", "log_softmax", "_softmax", "cumsum", "cumprod", "sort", "flip", "roll", "topk")
def along(site: Site, self: Dims, dim: Any = -1, dims: Any = None, **arguments: Any) -> list[Dims]:
    """Refuse to cut the dimension along which entries depend on each other."""
    results = Dims(self)
    for position in _positions(self, dim if dims is None else dims):
        results[position] = site.bar([self[position]], site.shapes[0][position], REDUCTION)
    return [results for _ in site.shapes]


SPACE = "reads neighbouring entries of a dimension"


@rule("linear")
def linear(site: Site, input: Dims, weight: Dims, bias: Dims | None = None) -> Dims:
    """Read the last dimension, write the rows of the weight."""
    site.join(input[-1], weight[1])
    return _add_bias(site, Dims([*input[:-1], weight[0]]), bias)


def _add_bias(site: Site, result: Dims, bias: Dims | None) -> Dims:
    return result if bias is None else broadcast(site, [result, bias], len(result))


@rule("matmul", "bmm", "mm", "mv", "dot")
def matmul(site: Site, self: Dims, **arguments: Dims) -> Dims:
    """Contract the last dimension of one operand with the last but one of the other."""
    (other,) = arguments.values()
    site.join(self[-1], other[-2] if len(other) > 1 else other[0])
    rows, columns = self[-2:-1], other[-1:] if len(other) > 1 else []
    leading = broadcast(
        site, [Dims(self[:-2]), Dims(other[:-2])], len(site.shape) - len(rows) - len(columns)
    )
    return Dims([*leading, *rows, *columns])


@rule("addmm", "baddbmm")
def addmm(site: Site, self: Dims, **arguments: Any) -> Dims:
    """Add a matrix product to a bias."""
    left, right = (value for value in arguments.values() if isinstance(value, Dims))
    return _add_bias(site, matmul(site, left, other=right), self)


@rule("einsum")
def einsum(site: Site, equation: str, tensors: Sequence[Dims], path: Any = None) -> Dims:
    """Couple the dimensions that share a letter."""
    inputs, _, output = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    letters: dict[str, Layout] = {}
    plain = "." not in equation and "->" in equation
    if not plain or any(len(set(term)) != len(term) for term in terms):
        for layout in (layout for dims in tensors for layout in dims):
            site.refuse(layout, "has an equation with repeated or implied letters")
        return uncut(site.shape)
    for term, dims in zip(terms, tensors, strict=True):
        for letter, layout in zip(term, dims, strict=True):
            if size_of(letters.setdefault(letter, layout)) == 1:
                letters[letter] = layout
            elif size_of(layout) != 1:
                site.join(letters[letter], layout)
    return Dims(letters[letter] for letter in output)


@rule("embedding_bag")
def embedding_bag(
    site: Site, weight: Dims, indices: Dims, offsets: Dims, **arguments: Any
) -> list[Dims]:
    """Look up rows, which are never cut, and take their sum, mean or maximum entry by entry."""
    mark_whole(weight[0])
    per_sample = arguments.get("per_sample_weights") or Dims()
    for layout in (*indices, *offsets, *per_sample):
        mark_whole(layout)
    results = [uncut(shape) for shape in site.shapes]
    results[0][-1] = weight[1]
    if arguments.get("mode") == 2:  # Of a maximum it also says where that is.
        results[3][-1] = weight[1]
    return results


@rule("embedding")
def embedding(site: Site, weight: Dims, indices: Dims, **arguments: Any) -> Dims:
    """Look up rows, which are never cut."""
    mark_whole(weight[0])
    return Dims([*indices, weight[1]])


@rule("conv1d", "conv2d", "conv3d")
def convolution(
    site: Site, input: Dims, weight: Dims, bias: Dims | None = None, groups: int = 1, **_: Any
) -> Dims:
    """Read and write channels, cut by whole groups of the convolution where it has any.

    A depthwise convolution has one group per channel.
    """
    for layout in (*input[2:], *weight[2:]):
        mark_whole(layout)
    if len(input) != len(weight):
        site.refuse(input[-len(weight) + 1], "reads an input without a batch dimension")
    if groups == 1:
        site.join(input[1], weight[1])
    else:
        count = ((Axis(groups),),)
        filters = dimension(quotient(size_of(weight[0]), groups))
        site.join(input[1], multiply(count, weight[1]))
        site.join(weight[0], multiply(count, filters))
        site.resized["groups"] = [count]
    result = Dims([input[0], weight[0], *uncut(site.shape[2:])])
    if bias is not None:
        site.join(weight[0], bias[0])
    return result


@rule("conv_transpose1d", "conv_transpose2d")
def transposed_convolution(
    site: Site, input: Dims, weight: Dims, bias: Dims | None = None, groups: int = 1, **_: Any
) -> Dims:
    """Read and write channels."""
    for layout in (*input[2:], *weight[2:]):
        mark_whole(layout)
    if groups != 1:
        site.refuse(weight[0], "has groups")
        site.refuse(weight[1], "has groups")
    site.join(input[1], weight[0])
    if bias is not None:
        site.join(weight[1], bias[0])
    return Dims([input[0], weight[1], *uncut(site.shape[2:])])


@rule(
    "max_pool1d", "avg_pool1d", "adaptive_avg_pool1d", "adaptive_max_pool1d",
    "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d",
    "upsample_nearest1d", "upsample_linear1d", "upsample_nearest2d", "upsample_bilinear2d",
    "upsample_bicubic2d", "max_pool3d", "avg_pool3d", "adaptive_avg_pool3d",
)  # fmt: skip
def spatial(site: Site, **arguments: Any) -> list[Dims]:
    """Work on the last dimensions, of every channel alike."""
    source, n_spatial = next(iter(arguments.values())), int(site.operation[-2])
    return [
        Dims(
            site.bar([layout], size, SPACE) if position >= len(shape) - n_spatial else layout
            for position, (layout, size) in enumerate(zip(source, shape, strict=True))
        )
        for shape in site.shapes
    ]


@rule("batch_norm", "instance_norm")
def channel_norm(site: Site, input: Dims, **arguments: Any) -> Dims:
    """Normalise each channel by itself."""
    for name in ("weight", "bias", "running_mean", "running_var"):
        if arguments.get(name) is not None:
            site.join(input[1], arguments[name][0])
    return input


@rule("group_norm")
def group_norm(
    site: Site,
    input: Dims,
    num_groups: int,
    weight: Dims | None = None,
    bias: Dims | None = None,
    **arguments: Any,
) -> Dims:
    """Keep or drop whole normalisation groups, so that the statistics of the kept ones hold.

    One group over all channels is a layer normalisation: over the channels that are kept.
    """
    for layout in input[2:]:
        site.refuse(layout, SPACE)
    parameters = {"weight": weight, "bias": bias}
    for parameter in parameters.values():
        if parameter is not None:
            site.join(input[1], parameter[0])
    if num_groups == 1:
        site.normalised = {"input": _only(input, {1})}
        site.normalised |= {name: list(dims) for name, dims in parameters.items() if dims}
        return input
    count = ((Axis(num_groups),),)
    members = dimension(quotient(size_of(input[1]), num_groups))
    mark_inner(members)
    site.join(input[1], multiply(count, members))
    site.resized["num_groups"] = [count]
    return input


@rule("layer_norm", "rms_norm")
def layer_norm(
    site: Site,
    input: Dims,
    normalized_shape: Sequence[int],
    weight: Dims | None = None,
    bias: Dims | None = None,
    **arguments: Any,
) -> Dims:
    """Normalise over the units that are kept: the statistics are theirs alone."""
    first = len(input) - len(normalized_shape)
    normalised = input[first:]
    site.normalised["input"] = _only(input, range(first, len(input)))
    for name, parameter in {"weight": weight, "bias": bias}.items():
        for layout, scale in zip(normalised, parameter or [], strict=False):
            site.join(layout, scale)
        site.normalised[name] = list(parameter or [])
    site.resized["normalized_shape"] = normalised
    return input


def _share_keys(site: Site, query: Dims, key: Dims, value: Dims) -> None:
    """Keep with each head of keys and values all heads of the queries that read it."""
    site.join(key[-1], value[-1])
    queries, keys = size_of(query[-1]), size_of(key[-1])
    if queries != keys:
        site.join(query[-1], multiply(key[-1], dimension(quotient(queries, keys), inner=True)))
    key[-1] = value[-1] = query[-1]


@rule("scaled_dot_product_attention")
def attention(site: Site, query: Dims, key: Dims, value: Dims, **arguments: Any) -> Dims:
    """Keep or drop whole heads: the entries of a head are never cut."""
    site.join(query[-1], key[-1])
    site.join(key[-2], value[-2])
    for dims in (query, key, value):
        mark_inner(dims[-1])
        site.refuse(dims[-2], "mixes positions")
    leading = [Dims(dims[:-2]) for dims in (query, key, value)]
    if not any(map(has_free, leading[0])):
        site.refuse(query[-1], "has no heads to cut (use several)")
        site.refuse(value[-1], "has no heads to cut (use several)")
    if arguments.get("enable_gqa"):
        _share_keys(site, *leading)
    shared = broadcast(site, leading, len(site.shape) - 2)
    mask = arguments.get("attn_mask")
    if mask is not None:
        broadcast(site, [Dims([*shared, query[-2], key[-2]]), mask], len(mask))
    return Dims([*shared, query[-2], value[-1]])
