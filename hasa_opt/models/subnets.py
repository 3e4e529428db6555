"""Subnets: what a network needs so that it can be cut, and the one way to cut it.

A network's hidden units form named *width groups*. A subnet of width r keeps the first
``floor(r * K)`` of the K units of each group (the fixed prefix of HeteroFL, arXiv:2010.01264, and
of HASA, arXiv:2606.07621) and behaves as the network with all other units removed.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from numbers import Real
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hasa_opt._utils.checks import listed
from hasa_opt._utils.units import ROUNDING, count_units, count_whole
from hasa_opt.errors import InputError
from hasa_opt.models.cuts import Coordinates, DimensionCut, Kept, count_kept
from hasa_opt.models.states import ties, versioned

__all__ = [
    "Cuttable",
    "block",
    "check_sizes",
    "check_state",
    "coordinates",
    "extract",
    "locate",
    "prefix",
    "scatter",
]


class Cuttable(nn.Module, ABC):
    """A network whose hidden units can be cut to a width.

    A subclass keeps every tensor it needs in ``state_dict()``, declares in :meth:`cuts` what cuts
    each of them, and rebuilds itself at other sizes in :meth:`build`.

    Parameters
    ----------
    sizes : mapping of str to int
        Number of units of each width group.
    n_outputs : int
        Size of the output's last dimension, which is never cut.

    Raises
    ------
    InputError
        If a size is below 1.
    """

    def __init__(self, sizes: Mapping[str, int], n_outputs: int) -> None:
        super().__init__()
        check_sizes(**sizes)
        check_sizes(n_outputs=n_outputs)
        self.sizes = dict(sizes)
        self.n_outputs = n_outputs

    @abstractmethod
    def cuts(self) -> Mapping[str, tuple[DimensionCut, ...]]:
        """For each entry of ``state_dict()`` and each of its dimensions: what cuts it."""

    @abstractmethod
    def build(self, sizes: Mapping[str, int]) -> Self:
        """Build the same architecture with other group sizes and fresh initial weights."""

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Copy a state into the model, as torch does.

        Parameters
        ----------
        state_dict : mapping of str to Tensor
            Where it says no versions of the layers, they are those of this model.
        strict, assign : bool
            As in :meth:`torch.nn.Module.load_state_dict`.
        """
        return super().load_state_dict(versioned(self, state_dict), strict, assign)

    @property
    def architecture(self) -> str:
        """SHA-256 of what the model computes: models with the same differ in weights at most."""
        without_addresses = re.sub(r" at 0x[0-9a-f]+", "", self._operations())
        return hashlib.sha256(without_addresses.encode()).hexdigest()

    def _operations(self) -> str:
        """Describe the layers and their settings, such as dropout; by default as printed."""
        return repr(self)

    def subnet_sizes(self, width: float) -> dict[str, int]:
        """Units that a subnet keeps: the first floor(width * K) of each group, at least one.

        Parameters
        ----------
        width : float
            In (0, 1].

        Returns
        -------
        dict of str to int
            Number of units of each width group.

        Raises
        ------
        InputError
            If the width is not in (0, 1].
        """
        if not (isinstance(width, Real) and 0 < width <= 1):
            raise InputError(f"width {width} is outside (0, 1]: give a share of the hidden units")
        return {group: count_units(width, size) for group, size in self.sizes.items()}


Network = TypeVar("Network", bound=Cuttable)


def check_sizes(**sizes: int) -> None:
    """Refuse sizes below 1.

    Raises
    ------
    InputError
        Naming the first such size.
    """
    for name, size in sizes.items():
        if size < 1:
            raise InputError(f"{name} = {size}, but a size must be at least 1")


def coordinates(model: Cuttable, width: float) -> dict[str, Coordinates]:
    """Locate the prefix subnet of a width within each tensor of the model's state.

    Parameters
    ----------
    model : SupernetModel
    width : float
        Share of the units of each group, in (0, 1].

    Returns
    -------
    dict of str to Coordinates
        For each entry of ``state_dict()``.

    Raises
    ------
    InputError
        If the width is not in (0, 1], or the model's cuts do not fit its tensors.
    """
    return locate(model, prefix(model, width))


def prefix(model: Cuttable, width: float) -> dict[str, slice]:
    """Keep the first units of each group (HeteroFL, arXiv:2010.01264; HASA, arXiv:2606.07621).

    Parameters
    ----------
    model : SupernetModel
    width : float
        Share of the units of each group, in (0, 1].

    Returns
    -------
    dict of str to slice
        The kept units of each width group.

    Raises
    ------
    InputError
        If the width is not in (0, 1].
    """
    return {group: slice(count) for group, count in model.subnet_sizes(width).items()}


def block(model: Cuttable, width: float, start: float) -> dict[str, slice]:
    """Keep as many units as :func:`prefix` does, from another one on.

    Blocks that are disjoint as shares of the units are disjoint in every group: one that ends at
    ``start`` or before ends at a unit at or before the first one of this.

    Parameters
    ----------
    model : SupernetModel
    width : float
        Share of the units of each group, in (0, 1].
    start : float
        Share of the units that lie before the block; with the width at most 1. The first unit is
        floor(start * K) of the K units of a group.

    Returns
    -------
    dict of str to slice
        The kept units of each width group.

    Raises
    ------
    InputError
        If the width is not in (0, 1], or the block goes beyond the supernet.
    """
    if not (isinstance(start, Real) and start >= 0 and start + width <= 1 + ROUNDING):
        raise InputError(
            f"a block of width {width} from {start} on goes beyond the supernet: begin between 0 "
            f"and {max(0.0, 1 - width):g}"
        )
    kept = {}
    for group, count in model.subnet_sizes(width).items():
        first = min(count_whole(start * model.sizes[group]), model.sizes[group] - count)
        kept[group] = slice(first, first + count) if first else slice(count)
    return kept


def locate(model: Cuttable, kept: Kept) -> dict[str, Coordinates]:
    """Locate the subnet made of the kept units within each tensor of the model's state.

    Parameters
    ----------
    model : SupernetModel
    kept : mapping of str to slice or (n_kept,) int64 tensor
        The units of each width group that the subnet has.

    Returns
    -------
    dict of str to Coordinates
        For each entry of ``state_dict()``.

    Raises
    ------
    InputError
        If the model's cuts do not fit its tensors.
    """
    state, cuts = model.state_dict(), model.cuts()
    _check_names(type(model).__name__ + ".cuts()", cuts, state)
    found: dict[str, Coordinates] = {}
    for name, tensor in state.items():
        try:
            found[name] = Coordinates.of(cuts[name], tensor.shape, model.sizes, kept)
        except InputError as error:
            raise InputError(f"{name}: {error}: correct {type(model).__name__}.cuts()") from None
    return found


def _check_names(
    what: str,
    given: Mapping[str, object],
    expected: Mapping[str, object],
    remedy: str = "name each tensor of the model's state once",
) -> None:
    """Refuse a mapping whose names are not those expected, such as those of the model's state."""
    if given.keys() != expected.keys():
        absent = listed(sorted(expected.keys() - given.keys()), repr)
        unknown = listed(sorted(given.keys() - expected.keys()), repr)
        raise InputError(f"{what} lacks [{absent}] and has the unknown names [{unknown}]: {remedy}")


def check_state(where: Mapping[str, Coordinates], state: Mapping[str, Tensor]) -> None:
    """Refuse a subnet's state whose names or shapes are not those of its coordinates.

    Parameters
    ----------
    where : mapping of str to Coordinates
        Of each tensor that the subnet has.
    state : mapping of str to Tensor
        What was received as the subnet's state.

    Raises
    ------
    InputError
        If a tensor is missing, unknown, or of another shape (nothing is broadcast).
    """
    _check_names("the subnet's state", state, where)
    for name, tensor in state.items():
        if tuple(tensor.shape) != where[name].shape:
            raise InputError(
                f"{name} of the subnet has shape {tuple(tensor.shape)}, but its width asks for "
                f"{where[name].shape}: send the state of extract(model, width)"
            )


def extract(model: Network, width: float, kept: Kept | None = None) -> Network:
    """Cut out the subnet of a width as a smaller model with its own copy of the weights.

    Parameters
    ----------
    model : SupernetModel
        It is not changed.
    width : float
        Share of the units of each group, in (0, 1].
    kept : mapping of str to slice or (n_kept,) int64 tensor, optional
        Which units of each width group they are, and how many. Default: ``prefix(model, width)``.

    Returns
    -------
    SupernetModel
        Of the same class.

    Raises
    ------
    InputError
        If the width is not in (0, 1], or the kept units are not some of each group, once each.
    """
    if kept is None:
        kept = prefix(model, width)
    _check_kept(model, kept)
    where = locate(model, kept)
    with torch.device("meta"), _Valueless():
        subnet = model.build(
            {group: count_kept(units, model.sizes[group]) for group, units in kept.items()}
        )
    weights = {name: where[name].read(full) for name, full in model.state_dict().items()}
    tied = ties(subnet)
    subnet.load_state_dict(weights, assign=True)
    for name, first in tied.items():
        path, _, attribute = name.rpartition(".")
        setattr(subnet.get_submodule(path), attribute, subnet.get_parameter(first))
    return subnet.train(model.training)


class _Valueless(TorchFunctionMode):
    """Draws no normal values for weights that hold none.

    On the meta device torch would do so in Python, with its compiler, whose import takes a second.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.normal_, nn.init.normal_):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def _check_kept(model: Cuttable, kept: Kept) -> None:
    """Refuse units that the model's groups do not have."""
    _check_names("kept", kept, model.sizes, "give the units of each width group")
    for group, units in kept.items():
        if isinstance(units, slice):
            continue
        size, chosen = model.sizes[group], torch.as_tensor(units)
        is_list = chosen.dtype == torch.int64 and chosen.dim() == 1
        if not is_list or len(set(chosen.tolist())) < len(chosen):
            raise InputError(f"kept[{group!r}] = {units} must be int64 units, each at most once")
        if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < size:
            raise InputError(f"kept[{group!r}] = {units} must be units from 0 to {size - 1}")


def scatter(model: Cuttable, width: float, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Write a subnet's state into a copy of the model's state: the inverse of :func:`extract`.

    Parameters
    ----------
    model : SupernetModel
        It is not changed.
    width : float
        Of the subnet, in (0, 1].
    state : mapping of str to Tensor
        The subnet's state.

    Returns
    -------
    dict of str to Tensor
        Full-size tensors; each coordinate that the subnet does not hold is bit-identical to the
        model's.

    Raises
    ------
    InputError
        If the width is not in (0, 1], or a tensor has another name or shape than its subnet.
    """
    where = coordinates(model, width)
    check_state(where, state)
    result: dict[str, Tensor] = {}
    for name, full in model.state_dict().items():
        result[name] = full.clone(memory_format=torch.contiguous_format)
        where[name].write(result[name], state[name])
    return result
