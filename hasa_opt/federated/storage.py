"""Storage: how many bytes of models a server keeps, and each device from round to round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from torch import Tensor

from hasa_opt._utils.checks import IntArray

Sharing: TypeAlias = Sequence[int] | None
"""Number of the model that each client trains; None: all share the supernet."""


def at_server(weights: Mapping[str, Tensor], shared: Sequence[Sharing]) -> int:
    """Bytes of the models that a server keeps, where it keeps the most.

    Parameters
    ----------
    weights : dict of str to tensor
        State of the supernet.
    shared : sequence of Sharing
        What held at any time of the run.
    """
    kept = [1 if models is None else len(_several(models)) for models in shared]
    return max([1, *kept]) * _bytes(weights)


def at_devices(
    held: Mapping[str, Tensor], received: IntArray, shared: Sequence[Sharing], personal: bool
) -> IntArray:
    """Bytes that each client keeps from one round to the next, as no one else has them.

    Parameters
    ----------
    held : dict of str to tensor
        What clients keep to themselves, by names such as ``"3/model/decoder.bias"``.
    received : (n_rounds, n_clients) int64
        Bytes of the subnets that clients were sent.
    shared : sequence of Sharing
        What held at any time of the run: a client alone with its model keeps that, in the size in
        which it was last sent one.
    personal : bool
        Whether clients deploy personal models, for which each keeps the last local one.
    """
    kept = [0] * received.shape[1]
    for name, tensor in held.items():
        client, _, part = name.partition("/")
        is_model, is_bias = part.startswith("model/"), part == "bias"
        # A local model has the output bias of its client.
        if client.isdecimal() and (is_model if personal else is_bias):
            kept[int(client)] += tensor.nbytes
    for row in _alone(shared):
        sent = received[:, row][received[:, row] > 0]
        kept[row] = max([kept[row], *sent[-1:].tolist()])
    return np.array(kept, dtype=np.int64)


def _several(models: Sequence[int]) -> list[int]:
    """Numbers of the models that several clients share."""
    return [number for number, clients in Counter(models).items() if clients > 1]


def _alone(shared: Sequence[Sharing]) -> set[int]:
    """Rows of the clients that had a model to themselves at any time."""
    rows: set[int] = set()
    for models in shared:
        if models is not None:
            clients = Counter(models)
            rows |= {row for row, number in enumerate(models) if clients[number] == 1}
    return rows


def _bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())
