"""Which tests of many wait for ``make nightly``."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import pytest

__all__ = ["some_nightly"]


def some_nightly(values: Iterable[Any], daily: Container[Any]) -> list[Any]:
    """Values of a test's parameter, of which all but the daily ones are marked nightly."""
    night = pytest.mark.nightly
    return [value if value in daily else pytest.param(value, marks=night) for value in values]
