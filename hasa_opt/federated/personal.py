"""What clients keep to themselves: their output bias, and the model that they trained last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from hasa_opt.clients.counts import Counts
from hasa_opt.errors import InputError
from hasa_opt.federated.batch_norm import Static
from hasa_opt.federated.units import Extraction
from hasa_opt.models.cuts import Kept
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.policies.catalogue import RECOMMENDED
from hasa_opt.policies.policy import LOCAL_BIAS, PERSONAL, Policy
from hasa_opt.rules.groups import labels_differ

Part: TypeAlias = tuple[Kept, Mapping[str, Tensor]]
"""Units of a model, and their weights."""

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the local model among which validation data choose: a choice, the quarters."""

_BIAS, _UNITS, _MODEL, _ROUND = "bias", "units", "model", "round"


class Personal:
    """State of the clients of one run that the server never sees.

    Parameters
    ----------
    model : SupernetModel
        The supernet.
    local_bias : bool
        Whether each client keeps its output bias, which is then neither sent nor averaged.
    keep_models : bool
        Whether the clients keep the model that they trained last.

    Raises
    ------
    InputError
        If the model has no output bias that could be kept.
    """

    def __init__(self, model: SupernetModel, local_bias: bool, keep_models: bool) -> None:
        self.bias = output_bias(model) if local_bias else None
        self._extraction = Extraction(model)
        self.keep_models = keep_models
        self._held: dict[int, dict[str, Tensor]] = {}

    @property
    def local(self) -> frozenset[str]:
        """Names of the parameters that are not averaged."""
        return frozenset() if self.bias is None else frozenset({self.bias})

    def local_parameters(self, client: int) -> dict[str, Tensor]:
        """Parameters that a client has instead of the server's."""
        held = self._held.get(client, {})
        return {self.bias: held[_BIAS]} if self.bias is not None and _BIAS in held else {}

    def last_units(self, client: int) -> Kept | None:
        """The units that a client trained last, as far as it keeps what it trained."""
        return _below(self._held.get(client, {}), _UNITS) or None

    def take(self, client: int, state: Mapping[str, Tensor], kept: Kept, number: int) -> None:
        """Let a client keep what it has trained in a round."""
        held: dict[str, Tensor] = {}
        if self.bias is not None:
            held[_BIAS] = state[self.bias].clone()
        if self.keep_models:
            held |= {f"{_UNITS}/{group}": listed_units(units) for group, units in kept.items()}
            held |= {f"{_MODEL}/{name}": tensor.clone() for name, tensor in state.items()}
        if held:
            self._held[client] = held

    def own(self, client: int, kept: Kept, model: SupernetModel) -> dict[str, Tensor]:
        """Cut a subnet of a client's last model; units that it does not hold are the common one's.

        Parameters
        ----------
        client : int
        kept : dict of str to slice or int64 tensor
            The units, which may be others than those that it holds.
        model : SupernetModel
            The common one.
        """
        local, common = self._last_part(client), Extraction(model).copy(kept)
        return overlaid(model, [(kept, common), local], kept) if local else common

    def over(
        self, client: int, kept: Kept, model: SupernetModel, received: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The same where the units of the common one were received, or none, if it holds all."""
        local = self._last_part(client)
        return overlaid(model, [(kept, received), local], kept) if local else dict(received)

    def _last_part(self, client: int) -> Part | None:
        held = self._held.get(client, {})
        local = _below(held, _MODEL)
        return (_below(held, _UNITS), local) if local else None

    def subnet(
        self, client: int, kept: Kept, statistics: Static, model: SupernetModel
    ) -> SupernetModel:
        """Cut a client's subnet of a model that it shares, with the client's own output bias.

        The next one may take its place.
        """
        is_common = model is self._extraction.server
        extraction = self._extraction if is_common else Extraction(model)
        subnet = extraction.now(kept)[0].model
        statistics.fill(subnet, kept)
        with torch.no_grad():
            for name, tensor in self.local_parameters(client).items():
                subnet.get_parameter(name).copy_(tensor)
        return subnet

    def models(
        self,
        client: int,
        kept: Kept,
        statistics: Static,
        shares: Sequence[float],
        model: SupernetModel,
    ) -> Iterator[SupernetModel]:
        """Interpolate to a client's last local model: ``global + share (local - global)``.

        The subnet is that of the units which the client trained last. A client that has trained
        nothing has the global one. Running statistics are the global ones.
        """
        last = self.last_units(client) or kept
        for share in shares:
            yield self.mixed(client, self.subnet(client, last, statistics, model), share)

    @torch.no_grad()
    def mixed(self, client: int, subnet: SupernetModel, share: float) -> SupernetModel:
        """Move a common subnet, in place, by a share to the client's last local model."""
        local = _below(self._held.get(client, {}), _MODEL)
        for name, parameter in subnet.named_parameters():
            parameter.lerp_(local.get(name, parameter), share)
        return subnet

    def state(self) -> dict[str, Tensor]:
        """All that clients hold, by names such as ``"3/model/decoder.bias"``."""
        return {
            f"{client}/{name}": tensor
            for client, held in self._held.items()
            for name, tensor in held.items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`state` gave; names that begin with no row are left alone."""
        self._held = {}
        for key, tensor in state.items():
            client, _, name = key.partition("/")
            if client.isdecimal():
                self._held.setdefault(int(client), {})[name] = tensor


class Elsewhere(Personal):
    """The same where clients are machines of their own, which keep what they trained themselves.

    The server knows of which units it is, and from which round.
    """

    def take(self, client: int, state: Mapping[str, Tensor], kept: Kept, number: int) -> None:
        """Note what a client keeps."""
        if self.bias is not None or self.keep_models:
            units = {f"{_UNITS}/{group}": listed_units(units) for group, units in kept.items()}
            self._held[client] = units | {_ROUND: torch.tensor(number)}

    def last_round(self, client: int) -> int:
        """The round of what a client keeps; -1: it keeps nothing."""
        return int(self._held.get(client, {}).get(_ROUND, -1))

    def forget(self, client: int) -> None:
        """Know that a client no longer has what it kept."""
        self._held.pop(client, None)

    def local_parameters(self, client: int) -> dict[str, Tensor]:
        """None: the client has them."""
        return {}


def overlaid(model: SupernetModel, parts: Iterable[Part], kept: Kept) -> dict[str, Tensor]:
    """Cut the kept units out of parts of a model, of which later ones lie above earlier ones.

    What no part holds is the model's.
    """
    extraction = Extraction(model)
    whole = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for units, state in parts:
        where = extraction.place(units).where
        for name, tensor in state.items():
            where[name].write(whole[name], tensor)
    return {name: at.read(whole[name]) for name, at in extraction.place(kept).where.items()}


def resolved(policy: Policy, counts: Counts | None, model: SupernetModel) -> Policy:
    """The policy with the options about which "recommended" decides itself.

    Each client mixes the common with its last local model, as its validation data say, and has an
    output bias of its own where labels differ between clients by more than chance.
    """
    if policy.rule != RECOMMENDED:
        return policy
    differ = counts is not None and labels_differ(counts)
    return policy.having(PERSONAL, *([LOCAL_BIAS] if differ and has_output_bias(model) else []))


def output_bias(model: SupernetModel) -> str:
    """Name of the bias of a model's output layer.

    Raises
    ------
    InputError
        If no linear layer with a bias gives the outputs.
    """
    found = find_output_bias(model)
    if found is None:
        raise InputError(
            f"{type(model).__name__} has no linear output layer with a bias: "
            'use output_bias="shared"'
        )
    return found


def find_output_bias(model: SupernetModel) -> str | None:
    """Name of the bias of a model's output layer; None if no linear layer gives the outputs."""
    cuts, shapes = model.cuts(), {name: t.shape for name, t in model.state_dict().items()}
    found = [
        name
        for name, shape in shapes.items()
        if name.endswith("bias") and cuts[name] == (None,) and shape == (model.n_outputs,)
        if len(shapes.get(name.removesuffix("bias") + "weight", ())) == 2
    ]
    return found[-1] if found else None


def has_output_bias(model: SupernetModel) -> bool:
    """Whether clients can have an output bias of their own."""
    try:
        output_bias(model)
    except InputError:
        return False
    return True


def _below(held: Mapping[str, Tensor], folder: str) -> dict[str, Tensor]:
    """Entries whose names begin with a folder, without it."""
    prefix = f"{folder}/"
    return {name[len(prefix) :]: held[name] for name in held if name.startswith(prefix)}


def listed_units(units: slice | Tensor) -> Tensor:
    """Units of a group as indices."""
    if isinstance(units, slice):
        return torch.arange(units.start or 0, units.stop, units.step or 1)
    return units
