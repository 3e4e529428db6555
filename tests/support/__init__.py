"""What several tests share: problems, models, programs that are run on their own."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

TESTS = Path(__file__).parents[1]
TIMES = int(os.environ.get("TIMES", "1"))
"""How many times as many random problems as usual the tests marked ``fuzz`` draw."""


def environment(**more: str) -> dict[str, str]:
    """Variables of a process of its own that imports ``support``."""
    places = filter(None, [str(TESTS), os.environ.get("PYTHONPATH")])
    return os.environ | more | {"PYTHONPATH": os.pathsep.join(places)}


def key_of(seed: int, number: int, name: str) -> tuple[int, int, int]:
    """Of which a client's random numbers in a round are made: the first 63 bits of a digest."""
    return seed, number, int(hashlib.sha256(name.encode()).hexdigest()[:16], 16) // 2


def many(count: int) -> range:
    """Seeds of random problems: ``count``, or ``TIMES`` as many."""
    return range(count * TIMES)
