"""The policy recommended, asked by hand: groups, the budget, and the trial of going alone."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from hasa_opt import Clients
from hasa_opt.policies import Setting, Subnets
from hasa_opt.policies.clustered import Clustered
from hasa_opt.policies.recommended import Recommended, spaced
from hasa_opt.policies.whole_units import Charges, Meter

SAMPLES = np.array([40, 100, 60, 80, 120, 50])
GROUPS = [0, 0, 0, 1, 1, 1]
LOSS = np.array([0.2, 0.3, 0.25, 2.0, 1.8, 2.2])
ALIKE = np.tile([30, 30, 30], (6, 1))
APART = np.array([[90, 5, 1], [80, 9, 2], [70, 4, 0], [1, 3, 90], [0, 8, 60], [2, 5, 80]])
TOGETHER = np.full((6, 6), 0.5) + 0.5 * np.eye(6)
SPLIT = np.kron(np.eye(2), np.full((3, 3), 0.8)) + 0.2 * np.eye(6)
ROUNDS = 30
WORSE = {look: np.full(6, -0.2) for look in (3, 6, 9, 12, 15)}
BETTER = {12: np.full(6, 0.2), 15: np.full(6, 0.4)}


def meter(power: int = 1, units: int = 40) -> Meter:
    return Meter.of({"hidden": units}, lambda width: round((width * units) ** power))


def policy(
    counts: np.ndarray | None = None,
    budget: float = 0.5,
    rounds: int = ROUNDS,
    caps: list[float] | None = None,
    power: int = 1,
    **options: object,
) -> Recommended:
    clients = Clients(SAMPLES, counts=counts, max_width=caps)
    setting = Setting(clients, np.zeros(len(SAMPLES)), budget)
    return Recommended(setting, meter(power), rounds, **options)


def seen(number: int, subnets: Subnets | None, **more: object) -> SimpleNamespace:
    known = {"train_loss": LOSS, "update_similarity": TOGETHER, "judged": {}, "local_gain": BETTER}
    return SimpleNamespace(round=number, subnets=subnets, **(known | more))


def first(own: Recommended) -> Subnets:
    found = own(seen(0, None))
    assert found is not None
    return found


def test_blocks_are_spaced_evenly_over_the_supernet() -> None:
    widths = np.full(6, 0.25)
    three = np.array([0, 1, 2, 2, 1, 0])
    np.testing.assert_allclose(spaced(three, widths), [0, 0.375, 0.75, 0.75, 0.375, 0])
    assert not spaced(np.zeros(6, dtype=int), widths).any()
    mixed = np.array([0.5, 0.5, 0.5, 0.2, 0.4, 0.4])
    np.testing.assert_allclose(spaced(np.array(GROUPS), mixed), [0, 0, 0, 0.6, 0.6, 0.6])


def test_at_first_all_share_one_width() -> None:
    found = first(policy())
    assert np.ptp(found.widths) == 0
    assert found.share == pytest.approx(0.5)
    assert not found.has_blocks
    assert found.models is None


def test_counts_show_groups_at_the_first_look() -> None:
    own = policy(APART)
    found = own(seen(3, first(own)))
    assert found is not None
    assert found.reason == "2 groups by the counts of labels"
    assert np.unique(found.starts[:3]).size == np.unique(found.starts[3:]).size == 1
    assert found.starts[0] == 0 < found.starts[3]
    assert own(seen(6, found)) is None, "what was found stays"
    blind = replace(own, counts=False)
    assert not blind(seen(3, first(blind))).has_blocks
    hasty = replace(own, confirm=False)
    assert hasty(seen(3, first(hasty), local_gain=WORSE)).has_blocks
    late = hasty(seen(6, first(hasty)))
    assert not late.has_blocks, "counts do not change: they are looked at once"


def test_where_labels_differ_groups_wait_until_local_models_are_better() -> None:
    own = policy(APART)
    early = {3: np.full(6, -0.3)}
    waits = own(seen(3, first(own), local_gain=early))
    assert not waits.has_blocks
    assert waits.reason == (
        "no units of their own for 2 groups by the counts of labels: local models are -0.3 above "
        "the common one (standard error 0)"
    )
    still = own(seen(6, waits, local_gain=early | {6: np.full(6, 0.2)}))
    assert not still.has_blocks, "the mean of two looks decides"
    late = own(seen(6, waits, local_gain=early | {6: np.full(6, 0.4)}))
    assert late.has_blocks
    last = own(seen(9, waits, local_gain=early | {6: np.full(6, 0.1), 9: np.full(6, 0.1)}))
    assert last.has_blocks, "of the last two looks"
    blind = replace(own, counts=False)
    for gain, taken in ((-0.3, False), (0.3, True)):
        told = {3: np.full(6, gain)}
        found = blind(seen(3, first(blind), local_gain=told, update_similarity=SPLIT))
        assert found.has_blocks == taken, "groups by the updates wait as well"
    alike = policy(ALIKE)
    assert alike(seen(3, first(alike), local_gain=early, update_similarity=SPLIT)).has_blocks
    crossed = replace(policy(APART[[0, 3, 1, 4, 2, 5]]), counts=False)
    found = crossed(seen(3, first(crossed), local_gain=early, update_similarity=SPLIT))
    assert found.has_blocks, "labels differ, but not between these groups"
    nobody = {3: np.full(6, np.nan)}
    assert own(seen(3, first(own), local_gain=nobody)).has_blocks, "nothing speaks against it"


def test_clients_judge_at_every_look_where_groups_wait_for_it() -> None:
    own = policy(APART)
    plan = first(own)
    assert [number for number in range(ROUNDS) if own.judges(number, plan)] == [3, 6, 9, 12, 15]
    for other in (replace(own, confirm=False), policy(ALIKE)):
        assert [number for number in range(ROUNDS) if other.judges(number, plan)] == [12, 15]
    blocks = replace(plan, starts=np.array(GROUPS) / 2)
    assert not any(own.judges(number, blocks) for number in range(ROUNDS))
    clustered = Clustered(own.setting, own.meter, ROUNDS)
    assert not any(clustered.judges(number, plan) for number in range(ROUNDS))


def test_updates_show_groups_at_every_look_up_to_half_of_the_run() -> None:
    own = policy(ALIKE)
    for number in (3, 6, 9, 12, 15):
        found = own(seen(number, first(own), update_similarity=SPLIT))
        assert "2 groups of 3 and 3 clients" in found.reason
        assert found.starts.astype(bool).tolist() == [bool(group) for group in GROUPS]
    long = policy(ALIKE, rounds=60)
    assert long(seen(18, first(long), update_similarity=SPLIT)) is None, "five looks, no more"


def test_each_look_spends_its_part_of_the_level() -> None:
    """These groups have a p of 0.02: a level of 5 % in each of five looks takes them."""
    rng = np.random.default_rng(5)
    means = np.repeat(rng.standard_normal((2, 12)), 3, axis=0)
    updates = means + rng.standard_normal((6, 12))
    lengths = np.linalg.norm(updates, axis=1)
    noisy = updates @ updates.T / np.outer(lengths, lengths)
    loose, strict = policy(level=0.25), policy()
    assert loose(seen(3, first(loose), update_similarity=noisy)).has_blocks
    found = strict(seen(3, first(strict), update_similarity=noisy))
    assert "above the level of 0.01" in found.reason


def test_no_groups_say_so_and_change_nothing() -> None:
    own = policy(ALIKE)
    plan = first(own)
    found = own(seen(3, plan))
    assert found.reason.startswith("no groups")
    np.testing.assert_array_equal(found.wanted, plan.wanted)
    assert not found.has_blocks


def test_the_group_with_the_larger_loss_gets_the_wider_units() -> None:
    own = replace(policy(APART, budget=0.35), power=0.5)
    found = own(seen(3, first(own)))
    narrow, wide = found.wanted[:3], found.wanted[3:]
    assert np.ptp(narrow) < 1e-9 > np.ptp(wide), "one width for a group"
    assert narrow[0] < wide[0]
    turned = own(seen(3, first(own), train_loss=LOSS[::-1].copy()))
    assert turned.wanted[0] > turned.wanted[3]
    even = replace(own, power=0.0)
    assert np.ptp(even(seen(3, first(even))).wanted) < 1e-9
    unknown = np.where(np.arange(6) == 4, np.nan, LOSS)
    again = own(seen(3, first(own), train_loss=unknown)).wanted
    assert again[3] == again[4], "who sent nothing counts as its group"


@pytest.mark.parametrize("look", [3, 6, 12])
@pytest.mark.parametrize("budget", [0.3, 0.35, 0.5])
@pytest.mark.parametrize(("caps", "power"), [(None, 1), (None, 2), ([0.5, 1, 0.6, 1, 1, 0.7], 1)])
def test_the_budget_of_the_run_is_kept_where_plans_change(
    look: int, budget: float, caps: list[float] | None, power: int
) -> None:
    own = policy(ALIKE, budget, caps=caps, power=power)
    charges = Charges(own.setting, own.meter)
    plan, spent = first(own), []
    for number in range(ROUNDS):
        if number and number % own.every == 0:
            similarity = SPLIT if number >= look else TOGETHER
            plan = own(seen(number, plan, update_similarity=similarity)) or plan
        spent.append(charges.share(plan.during(number, ROUNDS).widths))
    assert plan.has_blocks
    step = own.meter.cost(1.0) - own.meter.cost(0.975)
    left = budget * ROUNDS - sum(spent)
    assert -1e-9 < left <= step / own.meter.cost(1.0), "what is left is below a round's step"


def judged(own: Recommended, gains: list[float]) -> dict[int, np.ndarray]:
    """Validation results around the trial: sharing gains 1.5, and would gain 1; alone: given."""
    sign = 1 if own.higher_is_better else -1
    start = np.array([0.1, 0.3, 0.2, 0.5, 0.4, 0.6])
    then = start + 1.5 * sign
    return {12: start, 15: then, 18: then + sign * np.array(gains)}


def alone(own: Recommended) -> Subnets:
    found = own(seen(15, first(own), judged=judged(own, [0] * 6)))
    assert found is not None
    return found


@pytest.mark.parametrize("better", [True, False])
def test_all_go_on_alone_on_trial_and_stay_if_it_pays(better: bool) -> None:
    own = policy(ALIKE, higher_is_better=better)
    trial = alone(own)
    assert trial.models.tolist() == list(range(6))
    told = "local models are 0.3 above the common one (standard error 0)"
    assert trial.reason == f"alone, on trial: {told}"
    np.testing.assert_array_equal(trial.wanted, first(own).wanted)
    pays = own(seen(18, trial, judged=judged(own, [2.0, 2.1, 1.9, 2.2, 1.8, 2.0])))
    assert pays.models.tolist() == list(range(6))
    assert pays.reason.startswith("alone: alone they gain 1 more than together")
    a_little = own(seen(18, trial, judged=judged(own, [3.0, -1.0, 2.0, 0.0, 1.5, 0.9])))
    assert a_little.models is not None, "the sign decides, where local models were better too"
    worse = {12: np.full(6, -0.1), 15: np.array([-0.3, 0.3, -0.2, 0.2, -0.1, 0.0])}
    for gains, stays in (([3, -1, 2, 0, 1.5, 0.9], False), ([2, 2.1, 1.9, 2, 2, 2], True)):
        found = own(seen(18, trial, judged=judged(own, gains), local_gain=worse))
        assert (found.models is not None) == stays
    assert own(seen(21, pays, judged=judged(own, [0] * 6))) is None, "it is tried once"


@pytest.mark.parametrize(
    "gains",
    [[1.0] * 6, [0.5] * 6, [3.0, -1.0, 2.0, 0.0, 1.0, 0.9], [np.nan] * 6],
    ids=["as much", "less", "less for some", "nobody judged"],
)
def test_all_share_again_if_going_alone_does_not_pay(gains: list[float]) -> None:
    own = policy(ALIKE)
    found = own(seen(18, alone(own), judged=judged(own, gains)))
    assert found.models is None
    assert found.reason.startswith("together again: ")


def test_without_validation_data_nobody_goes_alone() -> None:
    own = policy(ALIKE)
    nothing = {12: np.full(6, np.nan), 15: np.full(6, np.nan)}
    found = own(seen(15, first(own), judged=nothing, local_gain=nothing))
    assert found.models is None
    assert found.reason == "together: no validation data to judge going alone by"
    assert own(seen(18, first(own), judged=nothing)) is None


@pytest.mark.parametrize(
    ("then", "tried"),
    [
        ([-0.3] * 6, False),
        ([-0.1] * 6, True),
        ([-0.4, -0.2, -0.5, -0.1, -0.6, -0.3], False),
        ([-1.5, 0.9, -1.2, 0.8, -0.9, 0.3], True),
        ([-0.3, *[np.nan] * 5], True),
        ([-0.6, -0.1, 0.1, -0.5, 0.2, -0.7], True),
    ],
    ids=["worse", "as good", "surely worse", "noise", "one judged", "perhaps worse"],
)
def test_nobody_goes_alone_where_local_models_are_worse(then: list[float], tried: bool) -> None:
    own = policy(ALIKE)
    gain = {12: np.full(6, 0.1), 15: np.array(then)}
    found = own(seen(15, first(own), judged=judged(own, [0] * 6), local_gain=gain))
    assert (found.models is not None) == tried
    assert found.reason.startswith("alone, on trial: " if tried else "together: local models are -")
    if not tried:
        assert own(seen(18, found, judged=judged(own, [9] * 6))) is None, "asked once"


def test_clients_judge_around_the_trial_alone() -> None:
    own = policy(ALIKE)
    plan = first(own)
    assert [number for number in range(ROUNDS) if own.judges(number, plan)] == [12, 15]
    assert [number for number in range(ROUNDS) if own.judges(number, alone(own))] == [12, 15, 18]
    blocks = replace(plan, starts=np.array(GROUPS) / 2)
    for other, what in (
        (own, blocks), (replace(own, alone=False), plan), (replace(own, rounds=3), plan),
    ):  # fmt: skip
        assert not any(other.judges(number, what) for number in range(ROUNDS))


def test_a_short_run_looks_more_often() -> None:
    assert [policy(rounds=rounds).every for rounds in (1, 4, 10, 15, 30)] == [1, 1, 2, 3, 3]
    own = policy(rounds=10)
    assert [number for number in range(10) if own.judges(number, first(own))] == [2, 4]


def test_a_short_run_or_one_without_trial_stays_together() -> None:
    for own in (policy(ALIKE, rounds=3), policy(ALIKE, alone=False)):
        plan = first(own)
        for number in range(own.every, own.rounds, own.every):
            plan = own(seen(number, plan, judged={})) or plan
        assert plan.models is None


def test_it_says_what_tells_it_from_others() -> None:
    own = policy(ALIKE)
    changes = {"level": 0.01, "power": 0.5, "counts": False, "confirm": False, "alone": False}
    others = [replace(own, **{name: value}) for name, value in changes.items()]
    others += [policy(ALIKE, 0.4), replace(own, setting=replace(own.setting, seed=7))]
    assert policy(ALIKE).describe() == own.describe()
    assert all(other.describe() != own.describe() for other in others)
