"""Tiers that are drawn anew in each round, and models of clients' own."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from hasa_opt import Clients
from hasa_opt.errors import InputError
from hasa_opt.policies import MENU, POLICIES, Setting
from hasa_opt.policies.dynamic import DynamicTiers, tiers_of_round
from hasa_opt.policies.whole_units import Charges, Meter, subnets_of

SAMPLES = [40, 100, 60, 80, 120, 50]
COUNTS = [[90, 5], [80, 9], [70, 4], [1, 90], [0, 60], [2, 80]]
METER = Meter.of({"hidden": 40}, lambda width: round(40 * width))
ROUNDS = 20


def setting(budget: float = 0.5, **more: object) -> Setting:
    clients = Clients(SAMPLES, counts=COUNTS, names=list("abcdef"), **more)
    return Setting(clients, np.zeros(6), budget)


def plan(own: DynamicTiers) -> list:
    return [own(SimpleNamespace(round=number)) for number in range(own.rounds)]


def test_each_round_draws_every_width_alike_often() -> None:
    many = replace(setting(), clients=Clients([10] * 5000))
    first, second = (tiers_of_round(many, number) for number in (0, 1))
    tiers = []
    for drawn in (first, second):
        _, tier, often = np.unique(drawn.round(6), return_inverse=True, return_counts=True)
        assert often == pytest.approx(1000, rel=0.1)
        tiers.append(tier)
    same = np.mean(tiers[0] == tiers[1])
    assert same == pytest.approx(1 / len(MENU), abs=0.02), "two rounds know nothing of each other"


def test_a_draw_hangs_on_seed_round_and_name() -> None:
    own = setting()
    drawn = [tiers_of_round(own, number) for number in range(4)]
    assert len({tuple(each) for each in drawn}) == 4
    assert not np.array_equal(tiers_of_round(replace(own, seed=1), 0), drawn[0])
    turned = replace(own, clients=own.clients.subset(np.arange(6)[::-1]))
    np.testing.assert_allclose(tiers_of_round(turned, 2), drawn[2][::-1])


@pytest.mark.parametrize("budget", [0.35, 0.5])
@pytest.mark.parametrize("caps", [None, [0.5, 1, 0.6, 1, 1, 0.7]])
def test_the_budget_of_the_run_is_kept(budget: float, caps: list[float] | None) -> None:
    own = setting(budget, max_width=caps)
    charges, spent = Charges(own, METER), []
    for subnets in plan(DynamicTiers(own, METER, ROUNDS)):
        assert (subnets.widths <= own.caps).all()
        np.testing.assert_allclose(subnets.widths * 40, np.round(subnets.widths * 40))
        spent.append(charges.share(subnets.widths))
    assert budget - 0.01 < np.min(spent)
    assert budget - 1 / 40 / ROUNDS < np.mean(spent) <= budget + 1e-9


def test_caps_that_do_not_bind_change_nothing() -> None:
    meter = Meter.of({"hidden": 24}, lambda width: round(24 * width))  # 0.8 is no whole unit.
    free, capped = (
        plan(DynamicTiers(setting(max_width=caps), meter, ROUNDS)) for caps in (None, [1.0] * 6)
    )
    for one, other in zip(free, capped, strict=True):
        np.testing.assert_array_equal(one.widths, other.widths)


def test_fedrolex_draws_the_same_tiers_and_rolls() -> None:
    mine = [POLICIES[name].allocator for name in ("heterofl_dynamic", "fedrolex_dynamic")]
    first, second = (made(setting(), METER, ROUNDS, True) for made in mine)
    assert [subnets.scheme for subnets in plan(second)] == ["rolling"] * ROUNDS
    for one, other in zip(plan(first), plan(second), strict=True):
        np.testing.assert_array_equal(one.widths, other.widths)
    assert first.describe() != second.describe()
    assert first.describe() == DynamicTiers(setting(), METER, ROUNDS).describe()
    assert first.describe() != DynamicTiers(setting(0.4), METER, ROUNDS).describe()
    capped = setting(max_width=[0.5, 1, 0.6, 1, 1, 0.7])
    assert first.describe() != DynamicTiers(capped, METER, ROUNDS).describe()


def test_models_of_ones_own_have_the_widths_of_uniform() -> None:
    uniform = subnets_of(POLICIES["uniform"], setting(0.36), METER, ROUNDS)
    local = subnets_of(POLICIES["local"], setting(0.36), METER, ROUNDS)
    assert local.models.tolist() == local.later.models.tolist() == list(range(6))
    clustered = subnets_of(POLICIES["clustered"], setting(0.36), METER, ROUNDS)
    assert clustered.models.tolist() == [0, 0, 0, 1, 1, 1]
    for found in (local, clustered):
        np.testing.assert_array_equal(found.wanted, uniform.wanted)
        assert found.share == uniform.share
    alike = replace(setting(), clients=Clients(SAMPLES, counts=[[9, 9]] * 6))
    assert subnets_of(POLICIES["clustered"], alike, METER, ROUNDS).models is None
    unknown = replace(setting(), clients=Clients(SAMPLES))
    with pytest.raises(InputError, match=r"counts .* not known"):
        subnets_of(POLICIES["clustered"], unknown, METER, ROUNDS)
