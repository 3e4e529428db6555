"""Names, signatures, printed output and trained bits are those that were recorded.

Where a change of them is meant, ``python tests/freeze/record.py NAME`` records it anew.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from record import FROZEN, environment
from scenarios import SCENARIOS, TRAINED, observe

pytestmark = pytest.mark.slow

RECORDED: dict[str, Any] = json.loads(FROZEN.read_text(encoding="utf-8"))


def test_every_scenario_is_recorded() -> None:
    assert sorted(RECORDED["scenarios"]) == sorted(SCENARIOS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_moved(name: str) -> None:
    here, there = environment(), RECORDED["environment"]
    if name in TRAINED and here != there:
        pytest.skip(f"bits were recorded on {there}, this is {here}")
    assert observe(name) == RECORDED["scenarios"][name]
