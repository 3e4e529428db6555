"""The end of a round: what arrived is averaged into the server's model."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable
from itertools import chain
from typing import Literal

from hasa_opt.federated.aggregate import Update, aggregate
from hasa_opt.federated.record import Round
from hasa_opt.models.supernet import SupernetModel


def merge(
    server: SupernetModel,
    updates: Iterable[Update],
    aggregation: Literal["full", "selective"],
    local: Collection[str],
    now: Round,
) -> None:
    """Average the updates into the server's model, or keep it, with a warning, without any.

    Parameters
    ----------
    server
        The supernet as it was broadcast; it is changed.
    updates
        Sound ones, in the order of the clients.
    aggregation, local
        As for :func:`aggregate`.
    now
        The round, which notes that it is empty.
    """
    arrived = iter(updates)
    first = next(arrived, None)
    if first is None:
        now.note(None, "empty", "no update was left: the model stays as it was")
        warnings.warn(f"round {now.number}: no update was left, the model is kept", stacklevel=3)
        return
    server.load_state_dict(aggregate(server, chain([first], arrived), aggregation, local))
