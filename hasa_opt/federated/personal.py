"""What clients keep to themselves: their output bias, and the model that they trained last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from hasa_opt.errors import InputError
from hasa_opt.federated.batch_norm import Static
from hasa_opt.federated.units import Extraction
from hasa_opt.models.cuts import Kept
from hasa_opt.models.supernet import SupernetModel

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the local model among which validation data choose: a choice, the quarters."""

_BIAS, _UNITS, _MODEL = "bias", "units", "model"


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
        self._keep_models = keep_models
        self._held: dict[int, dict[str, Tensor]] = {}

    @property
    def local(self) -> frozenset[str]:
        """Names of the parameters that are not averaged."""
        return frozenset() if self.bias is None else frozenset({self.bias})

    def local_parameters(self, client: int) -> dict[str, Tensor]:
        """Parameters that a client has instead of the server's."""
        held = self._held.get(client, {})
        return {self.bias: held[_BIAS]} if self.bias is not None and _BIAS in held else {}

    def take(self, client: int, state: Mapping[str, Tensor], kept: Kept) -> None:
        """Let a client keep what it has trained."""
        held: dict[str, Tensor] = {}
        if self.bias is not None:
            held[_BIAS] = state[self.bias].clone()
        if self._keep_models:
            held |= {f"{_UNITS}/{group}": _listed(units) for group, units in kept.items()}
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
        held = self._held.get(client, {})
        local, extraction = _below(held, _MODEL), Extraction(model)
        if not local:
            return extraction.copy(kept)
        whole = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        for name, coordinates in extraction.place(_below(held, _UNITS)).where.items():
            coordinates.write(whole[name], local[name])
        return {name: at.read(whole[name]) for name, at in extraction.place(kept).where.items()}

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
        held = self._held.get(client, {})
        last: Kept = _below(held, _UNITS) or kept
        local = _below(held, _MODEL)
        for share in shares:
            subnet = self.subnet(client, last, statistics, model)
            with torch.no_grad():
                for name, parameter in subnet.named_parameters():
                    parameter.lerp_(local.get(name, parameter), share)
            yield subnet

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


def _listed(units: slice | Tensor) -> Tensor:
    """Units of a group as indices."""
    if isinstance(units, slice):
        return torch.arange(units.start or 0, units.stop, units.step or 1)
    return units
