"""Whole units beside exact arithmetic."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasa_opt._utils.units import count_units, count_whole, whole_widths

DECIMALS = st.decimals(Decimal("0.001"), 1, places=3)
SIZES = st.integers(1, 10**6)


@given(DECIMALS, SIZES)
def test_a_width_keeps_what_its_decimal_says(decimal, size):
    exact = floor(Fraction(decimal) * size)
    assert count_units(float(decimal), size) == max(1, exact)


@given(st.integers(1, 1000), st.integers(1, 10**6))
def test_a_width_of_whole_units_keeps_them(size, units):
    units = 1 + units % size
    assert count_units(units / size, size) == units


@pytest.mark.parametrize(("units", "whole"), [(28.999999999999996, 29), (28.99, 28), (-0.5, -1)])
def test_only_rounding_is_made_good(units, whole):
    assert count_whole(units) == whole


@given(DECIMALS, DECIMALS, SIZES, st.integers(2, 65))
def test_whole_widths_are_whole_units_between_the_ends(one, other, size, most):
    low, high = sorted((one, other))
    found = whole_widths(float(low), float(high), size, most)
    units = [floor(width * size + 0.5) for width in found.tolist()]
    assert [unit / size for unit in units] == found.tolist()
    assert sorted(set(units)) == units
    assert len(units) <= most
    assert units[0] == max(1, floor(Fraction(low) * size))
    assert units[-1] == max(1, floor(Fraction(high) * size))
