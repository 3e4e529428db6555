"""Units: which of the supernet's a subnet is made of, and how it is cut out and put back."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from hasa_opt._utils.streams import UNITS, WIDTHS, Key, client_stream, derive_seed
from hasa_opt._utils.units import count_whole
from hasa_opt.federated.jobs import Draw, Job
from hasa_opt.models.cuts import Coordinates, Kept
from hasa_opt.models.states import ties
from hasa_opt.models.subnets import block, extract, locate
from hasa_opt.models.subnets import prefix as leading_units
from hasa_opt.models.supernet import SupernetModel

Scheme = Callable[[SupernetModel, float, Key], Kept]
"""Chooses the kept units from the server's model, the width and the key (seed, round, client)."""


def prefix(model: SupernetModel, width: float, key: Key) -> Kept:
    """Keep the first units of each group, in every round (HeteroFL, arXiv:2010.01264)."""
    return leading_units(model, width)


def rolling(model: SupernetModel, width: float, key: Key) -> Kept:
    """Keep a window that moves on by one unit per round and wraps (FedRolex, arXiv:2212.01548).

    In round t it starts at unit t of each group, for all clients alike, so K rounds train each of
    the K units of a group equally often.
    """
    return {
        group: _ascending((torch.arange(count) + key[1]) % model.sizes[group])
        for group, count in model.subnet_sizes(width).items()
    }


def random(model: SupernetModel, width: float, key: Key) -> Kept:
    """Draw units anew per client and round (Federated Dropout, arXiv:1812.07210)."""
    generator = torch.Generator().manual_seed(derive_seed((*key, UNITS)))
    return {
        group: _ascending(torch.randperm(model.sizes[group], generator=generator)[:count])
        for group, count in model.subnet_sizes(width).items()
    }


def ordered_dropout(model: SupernetModel, width: float, key: Key) -> Kept:
    """Hold the prefix; each batch trains a narrower prefix of it (FjORD, arXiv:2102.13451).

    :func:`uniform_fifths` draws the width of each batch.
    """
    return leading_units(model, width)


def uniform_fifths(width: float, key: Key) -> Iterator[float]:
    """Draw the width of each batch from 0.2, 0.4, 0.6, 0.8 below the client's, and the client's.

    All are equally likely: the uniform distribution over five widths of FjORD, arXiv:2102.13451.
    """
    menu = [fifth / 5 for fifth in range(1, 5) if fifth / 5 < width] + [float(width)]
    generator = client_stream(key, WIDTHS)
    while True:
        yield menu[generator.integers(len(menu))]


@dataclass(frozen=True)
class MirroredWidths:
    """Draws the width of each batch evenly around a mean, in antithetic pairs.

    Widths are ``mean + d step`` for a whole number d, uniform between ``2 mean - width`` and the
    client's width. Of two batches in a row the second has -d, and so has each batch of an odd
    round beside that of the round before: over two rounds the mean is exact.

    Parameters
    ----------
    mean : float
    step : float
        Distance between neighbouring widths.
    """

    mean: float
    step: float

    def __call__(self, width: float, key: Key) -> Iterator[float]:
        """Draw without end, from the client's width and the key."""
        seed, number, client = key
        generator = client_stream((seed, number // 2, client), WIDTHS)
        most = count_whole((width - self.mean) / self.step)
        sign = -1 if number % 2 else 1
        while True:
            distance = sign * int(generator.integers(-most, most + 1)) * self.step
            yield self.mean + distance
            yield self.mean - distance


def _ascending(units: Tensor) -> Tensor:
    """Keep the units in the supernet's order: at width 1 the subnet is the supernet."""
    return units.sort().values


SCHEMES: dict[str, Scheme] = {
    "prefix": prefix,
    "rolling": rolling,
    "random": random,
    "ordered_dropout": ordered_dropout,
}
"""Name of each scheme -> its function."""

DRAWS: dict[str, Draw] = {"ordered_dropout": uniform_fifths}
"""Name of each scheme whose batches train less than the client holds -> how much they train."""


def find_units(
    model: SupernetModel, scheme: str, width: float, key: Key, start: float | None = None
) -> Kept:
    """Find the units that a client trains.

    Parameters
    ----------
    model : SupernetModel
    scheme : str
        Name in :data:`SCHEMES`.
    width : float
    key : (int, int, int)
        (seed, round, client).
    start : float, optional
        Share of the units that lie before a block; None: those of the scheme.
    """
    return SCHEMES[scheme](model, width, key) if start is None else block(model, width, start)


def find_draw(model: SupernetModel, scheme: str, mean: float | None = None) -> Draw | None:
    """Find what draws the width of a client's batches; None: all train the whole subnet.

    Parameters
    ----------
    model : SupernetModel
    scheme : str
        Name in :data:`SCHEMES`.
    mean : float, optional
        Mean of the widths under "ordered_dropout". Default: five widths, as in FjORD.
    """
    if mean is None:
        return DRAWS.get(scheme)
    return MirroredWidths(mean, 1 / math.gcd(*model.sizes.values()))


RECENT = 32
"""Values that are remembered at a time: a choice, more than a menu has widths."""


Value = TypeVar("Value")


def identity(model: SupernetModel, kept: Kept) -> tuple[bytes, ...]:
    """Make kept units, slices or indices, a key: the same for the same units."""
    sizes = model.sizes
    return tuple(torch.arange(sizes[group])[kept[group]].numpy().tobytes() for group in sizes)


class Mould:
    """A subnet whose weights are replaced again and again.

    Parameters
    ----------
    model : SupernetModel
        The subnet.
    """

    def __init__(self, model: SupernetModel) -> None:
        self.model = model
        self.learned = dict(model.named_parameters(remove_duplicate=False))
        self.tied = ties(model)
        self._places: dict[str, tuple[nn.Module, str]] = {}
        for name in model.state_dict():
            path, _, attribute = name.rpartition(".")
            self._places[name] = model.get_submodule(path), attribute
        self.buffers = sorted(self._places.keys() - self.learned.keys())

    def wrap(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Make parameters that share the memory of tensors; tied ones share the first one's.

        Returns
        -------
        dict
            Parameters and buffers by their names in the state.
        """
        held: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            if name not in self.learned:
                held[name] = tensor
            elif name in self.tied:
                held[name] = held[self.tied[name]]
            else:
                held[name] = nn.Parameter(tensor, self.learned[name].requires_grad)
        return held

    def fill(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Put tensors in the place of the state's, wrapped as parameters, which are returned."""
        held = self.wrap(tensors)
        for name, (module, attribute) in self._places.items():
            setattr(module, attribute, held[name])
        return held


@dataclass(frozen=True, eq=False)
class Place:
    """Where a subnet lies in the supernet.

    Attributes
    ----------
    where : dict of str to Coordinates
        Coordinates of each tensor.
    sizes : tuple of shapes
        Shapes of the subnet's tensors: subnets are trained together where these are the same.
    n_bytes : int
        Bytes of the subnet's state.
    common : bool
        Whether other clients are likely to hold the same units.
    """

    where: Mapping[str, Coordinates]
    sizes: tuple[tuple[int, ...], ...]
    n_bytes: int
    common: bool


class Extraction:
    """Cuts the subnets of a server that does not change during a round.

    Parameters
    ----------
    server : SupernetModel
        The supernet. What depends on its architecture alone is remembered while it exists.
    """

    def __init__(self, server: SupernetModel) -> None:
        self.server = server
        self._state = server.state_dict()
        self._received: Recent[dict[str, Tensor]] = Recent()
        self._moulds, self._places = _remembered.setdefault(server, (Recent(), Recent()))

    def cut(self, job: Job) -> SupernetModel:
        """Give a job's subnet with its own copy of the weights; the next cut may reuse the module.

        The tensors of an earlier ``state_dict()`` stay as they are.
        """
        key = (job.width, self.place(job.kept).sizes)
        mould = self._moulds.get(key, lambda: self.mould(job))
        mould.fill(self.weights(job))
        return mould.model

    def mould(self, job: Job) -> Mould:
        """Build a subnet of the job's sizes."""
        return Mould(extract(self.server, job.width, job.kept))

    def now(self, kept: Kept) -> tuple[Mould, Mapping[str, Coordinates]]:
        """Give the subnet of the kept units with the server's weights of now, and where it lies.

        For a server that changes; the next call may refill the same mould.
        """
        place = self.place(kept)
        mould = self._moulds.get(place.sizes, lambda: Mould(extract(self.server, 1.0, kept)))
        mould.fill(self._read(place))
        return mould, place.where

    def weights(self, job: Job) -> dict[str, Tensor]:
        """Copy the weights of a job's subnet: the server's, but for the client's own."""
        return self.copy(job.kept) | {name: tensor.clone() for name, tensor in job.local.items()}

    def copy(self, kept: Kept) -> dict[str, Tensor]:
        """Copy the server's weights of the kept units."""
        place = self.place(kept)
        if not place.common:
            return self._read(place)
        known = self._received.get(place, lambda: self._read(place))
        return {name: tensor.clone() for name, tensor in known.items()}

    def _read(self, place: Place) -> dict[str, Tensor]:
        return {name: place.where[name].read(full) for name, full in self._state.items()}

    def place(self, kept: Kept) -> Place:
        """Locate the kept units; units that are slices are located once."""
        key: list[Any] = []
        for group, units in kept.items():
            if not isinstance(units, slice):
                return self._locate(kept, common=False)
            key += group, units.start, units.stop, units.step
        return self._places.get(tuple(key), lambda: self._locate(kept, common=True))

    def _locate(self, kept: Kept, common: bool) -> Place:
        where = locate(self.server, kept)
        sizes = {name: coordinates.shape for name, coordinates in where.items()}
        held = self._state.items()
        n_bytes = sum(math.prod(sizes[name]) * full.element_size() for name, full in held)
        return Place(where, tuple(sizes.values()), n_bytes, common)


class Recent(Generic[Value]):
    """The :data:`RECENT` values that were made last, by their keys."""

    def __init__(self) -> None:
        self._values: dict[Hashable, Value] = {}

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Look a value up, or make it."""
        if key not in self._values:
            if len(self._values) == RECENT:
                del self._values[next(iter(self._values))]
            self._values[key] = make()
        return self._values[key]


_remembered: WeakKeyDictionary[nn.Module, tuple[Recent[Mould], Recent[Place]]] = WeakKeyDictionary()
