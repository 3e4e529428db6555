"""Parts of one subnet: what each batch trains where a scheme draws narrower widths."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import nn

from hasa_opt.federated.batches import output_layer
from hasa_opt.federated.subnets import Recent, Subnets
from hasa_opt.models.cuts import Kept
from hasa_opt.models.supernet import SupernetModel

if TYPE_CHECKING:
    from hasa_opt.tasks import Split


class Parts:
    """Cuts parts out of a subnet while it trains; the module of a width is built once.

    Parameters
    ----------
    subnet
        The client's model.
    split
        The client's training samples.
    """

    def __init__(self, subnet: SupernetModel, split: Split) -> None:
        self._subnet, self._split = subnet, split
        self._heads: Recent[nn.Linear | None] = Recent()

    @cached_property
    def _subnets(self) -> Subnets:
        return Subnets(self._subnet)

    @contextmanager
    def cut(self, kept: Kept) -> Iterator[tuple[SupernetModel, nn.Linear | None]]:
        """Cut a part out of the subnet, and hand its gradients back to the subnet afterwards.

        Coordinates that the part does not hold get a gradient of zero.

        Yields
        ------
        tuple
            The part with the subnet's weights of now, and its :func:`output_layer`.
        """
        mould, where = self._subnets.now(kept)
        yield mould.model, self._heads.get(mould, lambda: output_layer(mould.model, self._split))
        gradients = {name: own.grad for name, own in mould.model.named_parameters()}
        for name, parameter in self._subnet.named_parameters():
            gradient = gradients[name]
            if gradient is not None:
                parameter.grad = torch.zeros_like(parameter)
                where[name].write(parameter.grad, gradient)
