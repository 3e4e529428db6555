"""How messages are packed into Flower's records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from torch import Tensor

from hasa_opt.errors import InputError

__all__ = [
    "ARRAYS",
    "IDENTITY",
    "MEASURED",
    "PROFILE",
    "TRAINED",
    "WORK",
    "load",
    "pack",
    "readable",
    "reason",
    "unpack",
]

ARRAYS, WORK, PROFILE, MEASURED, TRAINED = "arrays", "work", "profile", "measured", "trained"
"""Names of the records in a message."""

IDENTITY = "identity"
"""Name of the query for a partition alone; that for the whole profile is :data:`PROFILE`."""


def pack(state: Mapping[str, Tensor] | None, **records: ConfigRecord | MetricRecord) -> RecordDict:
    """Put weights and records into the content of a message."""
    content = RecordDict(cast(Any, records))
    if state is not None:
        content[ARRAYS] = ArrayRecord(dict(state))
    return content


def unpack(message: Message) -> dict[str, Tensor]:
    """Take the weights out of a message."""
    return dict(message.content.array_records[ARRAYS].to_torch_state_dict())


def load(message: Message, name: str) -> Mapping[str, Any]:
    """Take one record that holds no weights out of a message."""
    return cast(Mapping[str, Any], message.content[name])


@contextmanager
def readable() -> Iterator[None]:
    """Refuse a message in which something is missing or of another kind.

    Raises
    ------
    InputError
        With the reason.
    """
    try:
        yield
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"the reply cannot be read ({error!r})") from error


def reason(message: Message) -> str:
    """Last line of an error, which names it."""
    if not message.has_error():
        return "it holds no error"
    lines = (message.error.reason or "").strip().splitlines()
    return lines[-1] if lines else f"error {message.error.code}"
