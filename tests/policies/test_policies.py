"""Policies of a study: budgets met, caps respected, widths that the network can have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import floor
from types import SimpleNamespace

import numpy as np
import pytest

from hasa_opt import AllocationProblem, Clients, rules, utility
from hasa_opt.errors import InfeasibleError, InputError
from hasa_opt.policies import POLICIES, Policy, Setting, read_policy
from hasa_opt.policies.whole_units import Meter, subnets_of

MENU = (0.2, 0.35, 0.5, 0.65, 0.8)
SAMPLES = [400, 100, 250, 50, 200]
SCORES = np.array([0.31, 0.05, 0.22, 0.11, 0.47])
CAPS = [0.5, 1.0, 0.8, 0.35, 0.7]
CHOOSING = list(POLICIES)
COUNTS = [[90, 5, 0], [40, 2, 1], [0, 9, 200], [1, 4, 80], [0, 8, 150]]
NEEDS = np.array([[1.0], [3.0], [0.5], [0.1], [2.0]])


def setting(caps=None, **more) -> Setting:
    arguments = {"scores": SCORES, "budget": 0.45, "widths": MENU, "seed": 3} | more
    probed = SimpleNamespace(utility=NEEDS * np.log(MENU))
    arguments |= {"probe": lambda: probed}
    clients = Clients(SAMPLES, counts=COUNTS, max_width=caps)
    return Setting(clients, **arguments)


def test_alike_clients_get_units_of_their_own():
    meter = Meter(squared(32), 32)
    found = subnets_of(read_policy("groups"), setting(), meter, ROUNDS)
    plain = subnets_of(read_policy("uniform"), setting(), meter, ROUNDS)
    np.testing.assert_array_equal(found.widths, plain.widths)
    first = 1 - found.widths.max()
    np.testing.assert_allclose(found.starts, [0, 0, first, first, first])
    assert found.has_blocks
    alike = replace(setting(), clients=Clients(SAMPLES, counts=np.ones((5, 2), int)))
    assert not subnets_of(read_policy("groups"), alike, meter, ROUNDS).has_blocks
    with pytest.raises(InputError, match=r"counts .* not known"):
        subnets_of(read_policy("groups"), replace(alike, clients=Clients(SAMPLES)), meter, ROUNDS)


@pytest.mark.parametrize("caps", [None, CAPS])
@pytest.mark.parametrize("name", CHOOSING)
def test_every_policy_keeps_budget_caps_and_range(name, caps):
    found = POLICIES[name](setting(caps))
    share = np.array(SAMPLES) @ found / sum(SAMPLES)
    assert found.shape == (5,)
    kept = found > 0 if POLICIES[name].leaves_out else np.ones(5, dtype=bool)
    assert np.all(found[kept] >= 0.2 - 1e-12)
    assert np.all(found <= np.minimum(0.8, 1.0 if caps is None else caps) + 1e-12)
    if name != "hasa_two_passes":  # which may miss the budget to either side
        assert share <= 0.45 + 1e-12
    if POLICIES[name].is_program:
        assert set(found.tolist()) <= set(MENU)
        assert share > 0.45 - 0.1
    elif POLICIES[name].spends_less:
        assert set(found.tolist()) == {0.45 if caps is None else min(caps)}
    elif name == "hasa_two_passes":
        assert share == pytest.approx(0.45, rel=0.05)
    else:
        assert share == pytest.approx(0.45, abs=1e-12)


def test_policies_are_the_rules_of_their_names():
    given = setting(CAPS)
    caps = np.minimum(CAPS, 0.8)
    np.testing.assert_array_equal(given.caps, caps)
    more = {"budget": 0.45, "caps": caps}
    np.testing.assert_array_equal(POLICIES["hasa"](given), rules.hasa(SCORES, SAMPLES, **more))
    np.testing.assert_array_equal(
        POLICIES["reverse"](given), rules.reverse(SCORES, SAMPLES, **more)
    )
    np.testing.assert_array_equal(POLICIES["uniform"](given), rules.uniform(SAMPLES, **more))
    np.testing.assert_array_equal(POLICIES["capacity"](given), rules.capacity(SAMPLES, **more))
    np.testing.assert_array_equal(POLICIES["random"](given), rules.random(SAMPLES, seed=3, **more))
    assert not np.allclose(POLICIES["random"](given), POLICIES["random"](setting(CAPS, seed=4)))


def test_the_optimal_policy_is_the_best_of_the_menu(brute):
    problem = setting(CAPS).problem()
    found = POLICIES["optimal"](setting(CAPS))
    choice = np.searchsorted(MENU, found - 1e-9)
    assert problem.evaluate(choice).objective == pytest.approx(brute(problem), abs=1e-12)


def test_an_unknown_policy_names_the_known_ones():
    with pytest.raises(InputError, match=r"'best'.*uniform, hasa,.*reverse"):
        read_policy("best")


def units_of(*groups: int):
    """Units that a width keeps: ``floor(r K)`` of every group."""

    def units(width: float) -> int:
        return sum(max(1, floor(width * size + 1e-9)) for size in groups)

    return units


SPENDING = [
    name for name in CHOOSING if not POLICIES[name].leaves_out and not POLICIES[name].spends_less
]


ROUNDS = 40


@pytest.mark.parametrize("groups", [(10,), (64,), (32, 64), (7, 13, 100), (512,)])
@pytest.mark.parametrize("name", [name for name in SPENDING if POLICIES[name].scheme == "prefix"])
@pytest.mark.parametrize("caps", [None, CAPS])
def test_whole_units_spend_the_budget_of_a_run_over_its_rounds(groups, name, caps):
    given, units, largest = setting(caps), units_of(*groups), max(groups)
    plan = subnets_of(POLICIES[name], given, Meter(units, largest), ROUNDS)
    widths = np.array([plan.during(number, ROUNDS).widths for number in range(ROUNDS)])
    assert np.all(widths <= given.caps + 1e-9)
    np.testing.assert_allclose(widths * largest, np.round(widths * largest), atol=1e-6)
    assert np.all(np.diff(widths, axis=0) >= 0)
    # Two widths at most, neighbours on the grid.
    assert np.all(np.ptp(widths, axis=0) <= 0.6 / 64 + 1 / largest + 1e-9)
    kept = np.vectorize(units)(widths) @ np.array(SAMPLES)
    allowed = 0.45 * sum(SAMPLES) * units(1.0)
    spent = kept.mean()
    assert plan.share == pytest.approx(spent / (sum(SAMPLES) * units(1.0)), abs=1e-12)
    assert spent <= allowed * (1 + 1e-9)
    step = kept.max() - kept.min()
    assert allowed - spent <= step / ROUNDS or spent == kept.max()
    # Those who want the same train the same, in every round.
    wanted = np.round(plan.wanted, 9)
    for width in np.unique(wanted):
        assert np.ptp(widths[:, wanted == width], axis=1).max() == 0


def test_uniform_is_one_width_at_a_time():
    """5.6 of 16 units are 5 in 16 rounds and 6 in 24: nobody is ahead of the others."""
    plan = subnets_of(POLICIES["uniform"], setting(budget=0.35), Meter(units_of(16), 16), ROUNDS)
    widths = [plan.during(number, ROUNDS).widths * 16 for number in range(ROUNDS)]
    assert np.all(np.array(widths[:16]) == 5)
    assert np.all(np.array(widths[16:]) == 6)
    assert plan.share == pytest.approx(0.35)
    np.testing.assert_allclose(plan.wanted, 0.35)
    assert plan.last_of(ROUNDS).widths.tolist() == [6 / 16] * 5
    # What is left of whole rounds is not spent: 1.8 of three rounds are one.
    short = subnets_of(POLICIES["uniform"], setting(budget=0.35), Meter(units_of(16), 16), 3)
    assert [short.during(number, 3).widths[0] * 16 for number in range(3)] == [5, 5, 6]
    assert short.share == pytest.approx(16 / 48)


def test_whole_rounds_that_are_left_go_where_most_is_lacking():
    """Two groups of clients lack 0.8 and 0.3 of a round, and what both lack is enough for one."""
    clients = Clients([100, 100, 100, 100])
    given = Setting(clients, np.zeros(4), 0.355, MENU)
    wanted = [0.2 + 0.18 / 10, 0.2 + 0.18 / 10, 0.5 - 0.07 / 10, 0.5 - 0.07 / 10]
    policy = Policy("two", lambda asked: np.array(wanted) * asked.budget / np.mean(wanted))
    plan = subnets_of(policy, given, Meter(units_of(10), 10), 10)
    rounds = np.round(plan.later_share * 10).astype(int)
    exact = 10 * ((plan.wanted * 10) % 1)
    assert rounds.tolist()[:2] == rounds.tolist()[:1] * 2
    assert plan.share <= 0.355
    assert plan.share > 0.355 - 2 * 0.25 * 0.1 / 10
    assert np.all(np.abs(rounds - exact) < 1.5)


def test_realising_whole_units_exactly_changes_nothing():
    found = subnets_of(POLICIES["uniform"], setting(budget=0.5), Meter(units_of(10), 10), 7)
    assert found.widths.tolist() == [0.5] * 5
    assert found.later is None


def test_all_caps_are_realised_when_the_budget_exceeds_them():
    given = setting(CAPS, budget=1.0)
    found = subnets_of(POLICIES["uniform"], given, Meter(units_of(20), 20), 7)
    assert found.widths.tolist() == pytest.approx([0.5, 0.8, 0.8, 0.35, 0.7])


def test_the_others_take_what_a_cap_between_two_widths_leaves():
    """A device with 0.35 of 16 units can never train 6, and the budget is spent all the same."""
    given = Setting(Clients([100] * 3, max_width=[0.35, 1, 1]), np.zeros(3), 0.45, MENU)
    plan = subnets_of(POLICIES["uniform"], given, Meter(units_of(16), 16), 32)
    assert plan.last_of(32).widths[0] == 5 / 16
    assert 0.45 * (1 - 0.003) <= plan.share <= 0.45


def test_the_grid_has_at_most_65_widths_and_whole_units():
    for largest in (1, 3, 10, 64, 1000):
        grid = Meter(units_of(largest), largest).grid(0.2, 0.8)
        assert grid.size <= 65
        assert np.all(np.diff(grid) > 0)
        assert grid[0] > 0
        np.testing.assert_allclose(grid * largest, np.round(grid * largest))


def test_a_budget_below_the_narrowest_subnet_is_infeasible():
    given = setting(budget=0.15)
    with pytest.raises(InfeasibleError):
        POLICIES["hasa"](given)
    narrowest = Policy("narrowest", lambda asked: np.full(5, 0.2))
    with pytest.raises(InfeasibleError, match=r"budget 0.15 is below the least .*\(0.2\): raise"):
        subnets_of(narrowest, given, Meter(units_of(10), 10), 10)


def test_baselines_differ_in_the_units_that_they_train():
    given = setting(CAPS)
    for name in ("fedrolex", "federated_dropout", "fjord"):
        np.testing.assert_array_equal(POLICIES[name](given), POLICIES["uniform"](given))
    schemes = {name: POLICIES[name].scheme for name in ("fedrolex", "federated_dropout", "fjord")}
    assert schemes == {
        "fedrolex": "rolling", "federated_dropout": "random", "fjord": "ordered_dropout",
    }  # fmt: skip


def test_inverse_size_widens_the_small_and_covered_widens_someone():
    found = POLICIES["inverse_size"](setting())
    assert np.all(np.diff(found[np.argsort(SAMPLES)]) <= 0)
    widest = POLICIES["covered"](setting()) >= 0.8 - 1e-9
    assert np.array(SAMPLES)[widest].sum() >= 0.1 * sum(SAMPLES)
    tight = setting(budget=0.27)  # here the optimum alone puts nobody at 0.8
    assert not np.any(POLICIES["optimal"](tight) >= 0.8 - 1e-9)
    assert np.any(POLICIES["covered"](tight) >= 0.8 - 1e-9)


def test_tiers_are_dealt_evenly_by_the_seed():
    given = Setting(Clients([100] * 50), np.zeros(50), 0.5, MENU, 1)
    found = POLICIES["heterofl"](given)
    assert np.unique(found.round(9), return_counts=True)[1].tolist() == [10] * 5
    assert not np.array_equal(found, POLICIES["heterofl"](setting_like(given, 2)))


def setting_like(given: Setting, seed: int) -> Setting:
    return Setting(given.clients, given.scores, given.budget, given.widths, seed)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("hasa", {}),
        ("hasa+personal", {"evaluation": {"on": "personal"}}),
        (
            "hasa+selective+n^0.5",
            {"server": {"aggregation": "selective", "weight_power": 0.5}},
        ),
        ("hasa+local_bias", {"training": {"output_bias": "local"}}),
    ],
)
def test_a_policy_may_carry_options_of_the_training(name: str, changes: dict) -> None:
    policy = read_policy(name)
    assert (policy.name, policy.changes) == (name, changes)
    assert policy.plain == POLICIES["hasa"]
    assert read_policy(policy) is policy


@dataclass(frozen=True)
class Server:
    aggregation: str = "full"
    weight_power: float = 1.0


def test_options_change_settings_and_leave_the_others() -> None:
    policy = read_policy("uniform").having("n^0", "local_bias")
    assert policy.name == "uniform+n^0+local_bias"
    assert policy.changed("server", Server("selective")) == Server("selective", 0.0)
    assert policy.changed("evaluation", Server()) == Server()


def test_the_order_of_options_makes_no_other_policy() -> None:
    first = read_policy("hasa+personal+n^0.5")
    assert first.same_as(read_policy("hasa+n^0.5+personal"))
    assert not first.same_as(read_policy("hasa+personal"))
    assert not first.same_as(read_policy("uniform+personal+n^0.5"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("best+personal", "policy 'best'"),
        ("hasa+fast", r"option 'fast' of 'hasa\+fast' is not known.*personal, .*n\^0.5"),
        ("hasa+n^x", r"n\^x of 'hasa\+n\^x' has no number: write n\^0.5"),
        ("hasa+", "option ''"),
        ("hasa+full+selective", "overrides another one"),
        ("recommended+personal", "about which 'recommended' decides"),
        (7, "policy 7 is neither a name nor a Policy"),
    ],
)
def test_a_wrong_policy_is_named(name: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_policy(name)


def test_the_rule_of_a_policy_of_your_own_is_a_plain_name() -> None:
    everybody = Policy("half", lambda setting: np.full(len(setting.clients), 0.5))
    assert everybody.having("personal").name == "half+personal"
    with pytest.raises(InputError, match="a name without"):
        Policy("half+personal", everybody.choose)


def squared(*groups: int):
    """A cost that grows with the square of the units, as FLOPs do."""
    units = units_of(*groups)
    return lambda width: units(width) ** 2 + 3 * units(width)


def _spent(found, meter) -> float:
    """Share of the supernet's cost that the clients spend in a round."""
    trained = found.widths if found.mean_widths is None else found.mean_widths
    reach = np.zeros(5) if found.mean_widths is None else found.widths - found.mean_widths
    spent = 0.0
    for size, mean, far in zip(SAMPLES, trained, reach, strict=True):
        steps = np.arange(-round(far * meter.common), round(far * meter.common) + 1)
        own = [meter.cost(mean + step / meter.common) for step in steps]
        spent += size * np.mean(own) / meter.cost(1.0) / sum(SAMPLES)
    return spent


@pytest.mark.parametrize("groups", [(64,), (32, 16), (128, 64)])
@pytest.mark.parametrize("name", [name for name in SPENDING if not POLICIES[name].is_program])
@pytest.mark.parametrize("caps", [None, CAPS])
def test_budgets_of_flops_are_matched(groups, name, caps):
    given = setting(caps)
    meter = Meter(squared(*groups), max(groups), np.gcd.reduce(groups))
    found = subnets_of(POLICIES[name], given, meter, ROUNDS)
    spent = np.mean([_spent(found.during(number, ROUNDS), meter) for number in range(ROUNDS)])
    assert found.share == pytest.approx(spent, rel=1e-3)
    highest = np.average(given.caps**2, weights=SAMPLES)
    if highest > 0.45:
        assert spent <= 0.45 * (1 + 1e-4)
        assert spent > 0.45 * (1 - 0.1)


def test_mirrored_widths_reach_as_far_as_range_and_cap_allow():
    given = setting([0.5, 1.0, 0.8, 0.35, 0.7])
    meter = Meter(units_of(32, 16), 32, 16)
    found = subnets_of(POLICIES["fjord"], given, meter, ROUNDS)
    for mean, peak, cap in zip(found.mean_widths, found.widths, given.caps, strict=True):
        assert peak <= cap + 1e-9
        assert 2 * mean - peak >= 0.2 - 1e-9
        steps = (peak - mean) * 16
        assert steps == pytest.approx(round(steps), abs=1e-9)
        assert min(cap - peak, 2 * mean - peak - 0.2) < 1 / 16


def test_rounding_keeps_the_coverage():
    samples, meter = [1020, 388, 2122, 282, 544, 170, 20], Meter(units_of(32, 16), 32, 16)
    scores = np.argsort(np.argsort(-np.array(samples))).astype(float)
    given = Setting(Clients(samples), scores, 0.35, MENU)
    found = subnets_of(POLICIES["covered"], given, meter, ROUNDS)
    widest = found.widths == found.widths.max()
    assert found.widths.max() == 25 / 32
    assert np.array(samples)[widest].sum() >= 0.1 * sum(samples)
    assert 0.35 * 0.995 <= found.share <= 0.35


def test_a_measured_policy_is_the_optimum_of_its_probe(brute):
    given = setting(CAPS)
    table = given.probe().utility
    problem = AllocationProblem.build(
        given.clients, widths=MENU, budget=0.45, utility=utility.measured(table)
    )
    choice = np.searchsorted(MENU, POLICIES["measured"](given) - 1e-9)
    assert problem.evaluate(choice).objective == pytest.approx(brute(problem), abs=1e-12)
    with pytest.raises(InputError, match="needs a probe"):
        POLICIES["measured"](Setting(given.clients, SCORES, 0.45, MENU))


def test_smallest_stays_at_the_weakest_device_in_whole_units():
    meter = Meter.of({"hidden": 40}, lambda width: round(width * 40))
    given = Setting(Clients([100, 300, 200], max_width=[0.3, 0.8, 1.0]), np.zeros(3), 0.5)
    found = subnets_of(read_policy("smallest"), given, meter, ROUNDS)
    assert found.widths.tolist() == [0.3] * 3
    assert found.share == pytest.approx(0.3)
    roomy = replace(given, clients=Clients([100, 300, 200], max_width=[0.6, 0.8, 1.0]))
    uniform = subnets_of(read_policy("uniform"), roomy, meter, ROUNDS)
    assert subnets_of(read_policy("smallest"), roomy, meter, ROUNDS).widths.tolist() == [0.5] * 3
    assert uniform.widths.tolist() == [0.5] * 3


def test_exclude_spends_the_budget_and_tests_those_that_it_leaves_out():
    clients = Clients([100, 300, 200, 400], max_width=[0.3, 0.8, 0.3, 1.0])
    given = Setting(clients, np.zeros(4), 0.5, (0.2, 0.5, 1.0))
    meter = Meter.of({"hidden": 40}, lambda width: round(width * 40))
    found = subnets_of(read_policy("exclude"), given, meter, ROUNDS)
    assert found.widths[[0, 2]].tolist() == [0, 0]
    assert found.deployed[[0, 2]].tolist() == [0.3, 0.3]
    assert found.deployed[[1, 3]].tolist() == found.widths[[1, 3]].tolist()
    assert (found.widths[[1, 3]] <= [0.8, 1.0]).all()
    assert found.share == pytest.approx(clients.weights @ found.wanted)
    assert 0.5 * 0.995 <= found.share <= 0.5
    # With squares 0.7 of the samples would need 0.845 of the width, above the cap of 0.8, which
    # comes nearest to the budget; the rest of it goes to the one whose device can take it.
    squares = Meter.of({"hidden": 40}, lambda width: round((width * 40) ** 2))
    alone = subnets_of(read_policy("exclude"), given, squares, ROUNDS)
    assert alone.widths[[0, 1, 2]].tolist() == [0, 0.8, 0]
    assert 0.8 <= alone.widths[3] <= 1.0
    assert alone.deployed.tolist() == [0.3, 0.8, 0.3, alone.widths[3]]
    assert 0.5 * 0.99 <= alone.share <= 0.5
    # Everybody alike would spend it at the width 0.707.
    weak = replace(given, clients=Clients([100, 300, 200, 400], max_width=[1.0, 0.66, 1.0, 1.0]))
    found = subnets_of(read_policy("exclude"), weak, squares, ROUNDS)
    assert (found.widths == 0).tolist() == [False, True, False, False]
    assert 0.5 * 0.99 <= found.share <= 0.5 + 1e-12
