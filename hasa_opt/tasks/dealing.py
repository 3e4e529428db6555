"""Dealing: which samples of each client train, and which are held out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from hasa_opt._utils.checks import IntArray, sequence
from hasa_opt._utils.names import name_list, tidy
from hasa_opt._utils.streams import HELD_OUT, client_number, generator
from hasa_opt.errors import InputError

__all__ = ["Dealt", "Shares", "rows_by_client"]


class Dealt(NamedTuple):
    """Rows of one client's splits, int64; validation and test may be empty."""

    train: IntArray
    validation: IntArray
    test: IntArray


@dataclass(frozen=True)
class Shares:
    """Which share of each client's samples is held out, drawn by a seed and the client's name.

    Every split that can be filled is: of a single sample, training has it; of two, the test has
    one; validation comes third.

    Parameters
    ----------
    test, validation : float in [0, 1)
    seed : int

    Raises
    ------
    InputError
        If a share is none, or nothing is left to train on.
    """

    test: float
    validation: float
    seed: int

    def __post_init__(self) -> None:
        for name in ("test", "validation"):
            value = getattr(self, name)
            if not isinstance(value, Real) or not 0 <= float(value) < 1:
                raise InputError(f"{name}_share = {value!r} must be from 0 to below 1")
        if self.test + self.validation >= 1:
            raise InputError(
                f"test_share {self.test} and validation_share {self.validation} leave nothing to "
                "train on: give shares that sum to less than 1"
            )

    @classmethod
    def beside(
        cls, test: Any, validation: Any, test_share: float, validation_share: float, seed: int
    ) -> Shares:
        """Shares where splits may be given, of which nothing is held out then: None is no split."""
        shares = (
            test_share if test is None else 0.0,
            validation_share if validation is None else 0.0,
        )
        return cls(*shares, seed)

    def deal(self, name: str, size: int) -> Dealt:
        """Deal the rows 0 to ``size - 1`` of a client.

        Parameters
        ----------
        name : str
            The client.
        size : int
            Its samples, at least 1.
        """
        order = generator(self.seed, HELD_OUT, client_number(name)).permutation(size)
        room = size - 1
        reserved = int(self.validation > 0 and room > 1)
        n_test = self._held(self.test, size, room - reserved)
        n_validation = self._held(self.validation, size, room - n_test)
        test, validation, train = np.split(order, [n_test, n_test + n_validation])
        return Dealt(*(np.sort(part) for part in (train, validation, test)))

    @staticmethod
    def _held(share: float, size: int, room: int) -> int:
        """How many samples a share is: at least one, where there is room."""
        return min(max(1, round(share * size)), room) if share else 0


def rows_by_client(client: Any, size: int) -> Mapping[str, IntArray]:
    """Rows of each client, in the order in which the clients come first.

    Parameters
    ----------
    client : n strings or whole numbers
        The client that each row belongs to.
    size : int
        Rows that there are.

    Raises
    ------
    InputError
        If there is not one name for each row.
    """
    names = name_list([_plain(name) for name in sequence(client, "client")], "client")
    if len(names) != size:
        raise InputError(f"client has {len(names)} entries for {size} samples: give one per sample")
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    return {tidy(name): np.array(own, dtype=np.int64) for name, own in rows.items()}


def _plain(name: Any) -> Any:
    """A number or string of numpy or torch as one of Python."""
    return name.item() if hasattr(name, "item") else name
