"""Random streams: every number drawn is a function of a seed and of what it is drawn for.

Neither the caller's random state nor what was drawn before plays a part, so that a run can be
resumed and its clients trained in any order. Two kinds of streams: those of a task, by
:func:`generator`, and those of a run, whose keys are such as (seed, round, client). A client
stands in a key by its name (:func:`client_number`), so that clients who join, leave or change
places move nobody else's numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import IntArray
from hasa_opt._utils.names import tidy
from hasa_opt.errors import InputError

STREAMS = 2
"""Version of what random numbers hang on; in version 1 that was a client's row, not its name."""

Key = tuple[int, int, int]
"""(seed, round, client), of which a client's random numbers in a round are made; the client by
its :func:`client_number`."""


class Purpose(IntEnum):
    """What a stream beside local training is drawn for; different purposes are independent."""

    SAMPLING = 1
    FAULTS = 2
    POLICY = 3
    TESTS = 4
    AVAILABILITY = 5


UNITS, WIDTHS, MENU = 1, 2, 5
"""Endings of a client's key: units drawn by a scheme, widths of its batches, widths of a menu."""

FOLDS = 5
"""Stream of a task from which the parts of its training samples are dealt."""

HELD_OUT = 6
"""Stream of a task from which its validation and test samples are dealt."""


def derive_seed(key: Sequence[int]) -> int:
    """Mix integers such as (seed, round, client) into one 63-bit seed.

    Raises
    ------
    InputError
        If a part of the key is negative.
    """
    if any(part < 0 for part in key):
        raise InputError(f"random key {tuple(key)} has a negative part: use integers >= 0")
    mixed = np.random.SeedSequence([int(part) for part in key]).generate_state(1, np.uint64)
    return int(mixed[0]) >> 1


def client_number(name: str) -> int:
    """Number by which a client stands in keys: 63 bits of the SHA-256 of its tidy name."""
    digest = hashlib.sha256(tidy(name).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def client_numbers(names: Iterable[str]) -> IntArray:
    """:func:`client_number` of each of some clients, ``(n_clients,)``."""
    return np.array([client_number(name) for name in names], dtype=np.int64)


def priorities(purpose: Purpose, key: Sequence[int], clients: IntArray) -> npt.NDArray[np.uint64]:
    """Draw a number for each client, as a function of the key and of the client alone.

    Parameters
    ----------
    purpose : Purpose
    key : sequence of int
        Such as (seed, round).
    clients : (n_clients,) int64
        Their :func:`client_number`.

    Returns
    -------
    (n_clients,) uint64
        Uniform and independent: two rounds of the mixer SplitMix64 (Steele, Lea and Flood 2014),
        which takes a millisecond for 100,000 clients.
    """
    seeds = np.random.SeedSequence(key, spawn_key=(purpose,)).generate_state(2, np.uint64)
    mixed = clients.astype(np.uint64)
    for seed in seeds:
        mixed = mixed + seed
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed


def stream(purpose: Purpose, *key: int) -> np.random.Generator:
    """Generator of a purpose and a key such as (seed, round, client), independent of all others."""
    return np.random.default_rng(np.random.SeedSequence(key, spawn_key=(purpose,)))


def client_stream(key: Sequence[int], ending: int) -> np.random.Generator:
    """Generator of a client's key and an ending such as :data:`WIDTHS`."""
    return np.random.default_rng(derive_seed((*key, ending)))


def generator(seed: int, *parts: int) -> np.random.Generator:
    """Random generator of one stream of a task, independent of all other streams and seeds.

    Raises
    ------
    InputError
        If the seed is negative.
    """
    if seed < 0:
        raise InputError(f"seed is {seed}: it must be at least 0")
    return np.random.default_rng([seed, *parts])
