"""What several tests share: problems, models, programs that are run on their own."""

from __future__ import annotations

import os
from pathlib import Path

TESTS = Path(__file__).parents[1]
TIMES = int(os.environ.get("TIMES", "1"))
"""How many times as many random problems as usual the tests marked ``fuzz`` draw."""


def environment(**more: str) -> dict[str, str]:
    """Variables of a process of its own that imports ``support``."""
    places = filter(None, [str(TESTS), os.environ.get("PYTHONPATH")])
    return os.environ | more | {"PYTHONPATH": os.pathsep.join(places)}


def many(count: int) -> range:
    """Seeds of random problems: ``count``, or ``TIMES`` as many."""
    return range(count * TIMES)
